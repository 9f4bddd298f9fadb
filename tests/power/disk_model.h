// Plays a trace of power_shim.cc and says what a disk may hold after a power cut at any point of
// it.
//
// What is certain to be there: the contents of a file as of its last sync, under the names that its
// folder had at that folder's last sync. All else is left to chance: of a file any pages that were
// written since, or a part of the writes; of a folder the first so many of its changes.
// More may be lost so than on any file system in use (ext4 keeps the name of a file that was
// synced): a program that survives this rests on nothing but what POSIX promises.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "tests/power/trace.h"

namespace spillway::power {

struct Entry {
  EntryHeader header;
  std::string path;
  std::string data;
};

// What remains of that which was not synced.
enum class Remains {
  nothing,  // of any file
  chance,   // another part of each file and folder
  all       // as after SIGKILL
};

// A trace, read entry by entry. The last one may be cut short by the end of the process.
class TraceReader {
 public:
  explicit TraceReader(const std::filesystem::path& path);
  std::optional<Entry> next();

 private:
  std::string bytes_;
  std::size_t at_ = 0;
};

class DiskModel {
 public:
  // The root as it was before the trace; everything in it counts as synced.
  explicit DiskModel(const std::filesystem::path& base);

  void play(const Entry& entry);
  // Makes at `target`, which must not exist, what a power cut now leaves.
  void cut(const std::filesystem::path& target, Remains remains, std::uint64_t seed) const;

 private:
  struct Node;
  using NodePtr = std::shared_ptr<Node>;
  using Names = std::map<std::string, NodePtr>;
  struct Change {  // of a file's contents, or of a folder's names
    EntryHeader header;
    std::string data;  // what was written, or the name that changed
    NodePtr node;      // what the name stands for since; none: removed
  };
  struct Node {
    bool is_folder = false;
    std::string synced;  // of a file
    Names synced_names;
    Names names;  // of a folder, now
    std::vector<Change> since;
  };

  static NodePtr read(const std::filesystem::path& path);
  static void apply(const Change& change, std::string& contents);
  static std::string contents_after_cut(const Node& file, Remains remains, std::mt19937_64& random);
  static Names names_after_cut(const Node& folder, Remains remains, std::mt19937_64& random);
  static void write(const Node& folder, const std::filesystem::path& target, Remains remains,
                    std::mt19937_64& random);
  NodePtr find(std::string_view path) const;
  // The folder that holds `path`, and the last part of it.
  std::pair<NodePtr, std::string> place(std::string_view path) const;
  void name(std::string_view path, NodePtr node);

  NodePtr root_;
  std::map<std::uint32_t, NodePtr> open_;  // by id
};

}  // namespace spillway::power
