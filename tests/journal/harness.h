// A journal in a directory of its own, with blocks to put into it and calls that await completions.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <future>
#include <mutex>
#include <string>
#include <vector>

#include "journal/journal.h"
#include "tests/temp_dir.h"

namespace spillway::journal {

// What du says of `path`, by running it.
std::uint64_t du(const std::filesystem::path& path);

// Bytes that lz4 cannot shrink and that `seed` alone decides.
BlockPtr make_block(Offset first, std::uint64_t count, std::uint64_t bytes,
                    Position position = {1, 0});
BlockPtr make_skip(Offset first, std::uint64_t count, LossReason reason, Position position);
BlockPtr with(const BlockPtr& block, const std::function<void(Block&)>& change);
bool same(const Block& a, const Block& b);

// Gathers Events and lets a test wait for one.
class EventLog {
 public:
  Journal::Events events();
  std::string wait_down();
  std::vector<Recovered> wait_reopened();
  Outcome wait_disk();
  int downs();
  bool disk_changed();

 private:
  template <class T>
  T wait(std::deque<T>& queue);
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> downs_;
  std::deque<std::vector<Recovered>> reopened_;
  std::deque<Outcome> disk_;
  int down_count_ = 0;
};

Options options_in(const std::filesystem::path& dir, std::vector<std::string> streams = {"s"});
// Opens or fails the test.
std::unique_ptr<Journal> open_journal(const Options& options, EventLog* log = nullptr);
const Recovered& find(const std::vector<Recovered>& all, const std::string& stream);

Outcome commit(Journal& journal, Commit commit);
Outcome append(Journal& journal, std::vector<BlockPtr> blocks, std::uint64_t generation = 0,
               const std::string& stream = "s");
Outcome set_watermark(Journal& journal, Offset watermark, std::uint64_t generation = 0,
                      const std::string& stream = "s");
ReadResult read(Journal& journal, Offset from, Offset through = ~Offset{0},
                std::uint64_t max_bytes = ~std::uint64_t{0}, const std::string& stream = "s");
std::optional<Location> locate(Journal& journal, Offset offset_min, std::uint64_t bytes_min,
                               std::int64_t received_min_ms);
bool write_latch(Journal& journal, const std::string& contents, const std::string& stream = "s");
// Polls `condition` until it holds; false after a minute. For what has no event, such as du.
bool eventually(const std::function<bool()>& condition);

}  // namespace spillway::journal
