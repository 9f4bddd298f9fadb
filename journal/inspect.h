// A read-only view of a data directory for tools. Changes nothing, takes no lock, and works while a
// broker runs: then it shows the store as of some moment during open(), and open() may fail while
// files come and go (asking again helps). Offline it is exact. To edit a store offline (replace a
// state, put ledger entries), use Journal::open() and commit().
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "journal/journal.h"

namespace spillway::journal {

// One stored block. When it is not intact, only `first` and `stored_bytes` can be believed.
struct BlockInfo {
  bool intact = false;
  std::uint64_t stored_bytes = 0;  // header and records, before compression
  Offset first = 0;
  BlockPtr block;  // null when not intact
};

// Something that does not add up, in words that name offsets.
struct Finding {
  std::string stream;
  Offset first = 0;
  Offset last = 0;
  std::string text;
};

// Whether a broker, or a tool that changes the journal, holds this data directory.
bool data_dir_in_use(const std::filesystem::path& data_dir);

// Not thread-safe; one thread at a time.
class Inspector {
 public:
  static Result<std::unique_ptr<Inspector>> open(const std::filesystem::path& data_dir);
  virtual ~Inspector() = default;

  virtual bool broker_running() const = 0;  // as of open()
  // All streams of the store, with latch and damage, as Journal::recovered() would report them.
  virtual const std::vector<Recovered>& streams() const = 0;
  // In order, from the block that contains `from` on (0: from the watermark), until `visit` returns
  // false. Returns what went wrong with the store itself.
  virtual std::optional<Error> for_each_block(
      const std::string& stream, Offset from,
      const std::function<bool(const BlockInfo&)>& visit) = 0;
  // Newest first, at most `max`.
  virtual Result<std::vector<LedgerEntry>> ledger(const std::string& stream, std::size_t max) = 0;
  // Oldest first, until `visit` returns false. A damaged one has nothing but its number. Returns
  // what went wrong with the store itself.
  virtual std::optional<Error> dead_letters(
      const std::string& stream, const std::function<bool(const DeadLetter&)>& visit) = 0;
  // Reads every block above each watermark: checksums, contiguity, epochs and sequences, running
  // byte counts, and the end against the high-water mark. Empty: all is well.
  virtual std::vector<Finding> check() = 0;
};

}  // namespace spillway::journal
