#include "tests/journal/harness.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <random>

namespace spillway::journal {

std::uint64_t du(const std::filesystem::path& path) {
  FILE* out = ::popen(("du -s -B1 " + path.string() + " 2>/dev/null").c_str(), "r");
  unsigned long long bytes = 0;
  if (out == nullptr || std::fscanf(out, "%llu", &bytes) != 1) bytes = 0;
  if (out != nullptr) ::pclose(out);
  return bytes;
}

BlockPtr make_block(Offset first, std::uint64_t count, std::uint64_t bytes, Position position) {
  Block block;
  block.first = first;
  block.position = position.sequence == 0 ? Position{position.epoch, first} : position;
  block.count = count;
  block.received_ms = static_cast<std::int64_t>(1000 * first);
  block.running_bytes = (first + count - 1) * (bytes / count);
  auto storage = std::make_shared<std::byte[]>(bytes);
  std::mt19937_64 random(first);
  for (std::uint64_t i = 0; i < bytes; i += 8) {
    const std::uint64_t word = random();
    std::copy_n(reinterpret_cast<const std::byte*>(&word), std::min<std::uint64_t>(8, bytes - i),
                storage.get() + i);
  }
  block.records = {storage.get(), bytes};
  block.storage = std::move(storage);
  return std::make_shared<const Block>(std::move(block));
}

BlockPtr make_skip(Offset first, std::uint64_t count, LossReason reason, Position position) {
  Block block;
  block.first = first;
  block.position = position;
  block.count = count;
  block.skip = reason;
  return std::make_shared<const Block>(std::move(block));
}

BlockPtr with(const BlockPtr& block, const std::function<void(Block&)>& change) {
  Block copy = *block;
  change(copy);
  return std::make_shared<const Block>(std::move(copy));
}

bool same(const Block& a, const Block& b) {
  return a.first == b.first && a.position == b.position && a.count == b.count && a.skip == b.skip &&
         a.received_ms == b.received_ms && a.running_bytes == b.running_bytes &&
         a.starts_clean == b.starts_clean && a.ends_clean == b.ends_clean &&
         std::equal(a.records.begin(), a.records.end(), b.records.begin(), b.records.end());
}

Journal::Events EventLog::events() {
  Journal::Events events;
  events.down = [this](const std::string& error) {
    const std::lock_guard lock(mutex_);
    downs_.push_back(error);
    ++down_count_;
    changed_.notify_all();
  };
  events.reopened = [this](std::vector<Recovered> recovered) {
    const std::lock_guard lock(mutex_);
    reopened_.push_back(std::move(recovered));
    changed_.notify_all();
  };
  events.disk = [this](Outcome outcome) {
    const std::lock_guard lock(mutex_);
    disk_.push_back(outcome);
    changed_.notify_all();
  };
  return events;
}

template <class T>
T EventLog::wait(std::deque<T>& queue) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, std::chrono::seconds(120), [&] { return !queue.empty(); })) {
    ADD_FAILURE() << "an event did not come";
    return T{};
  }
  T value = std::move(queue.front());
  queue.pop_front();
  return value;
}

std::string EventLog::wait_down() { return wait(downs_); }
std::vector<Recovered> EventLog::wait_reopened() { return wait(reopened_); }
Outcome EventLog::wait_disk() { return wait(disk_); }

int EventLog::downs() {
  const std::lock_guard lock(mutex_);
  return down_count_;
}

bool EventLog::disk_changed() {
  const std::lock_guard lock(mutex_);
  return !disk_.empty();
}

Options options_in(const std::filesystem::path& dir, std::vector<std::string> streams) {
  Options options;
  options.data_dir = dir;
  options.streams = std::move(streams);
  options.max_disk_bytes = std::uint64_t{256} << 20;
  options.min_free_disk = 0;
  options.group_reserve = std::uint64_t{1} << 20;
  options.compression = Compression::none;
  options.reopen_initial = std::chrono::milliseconds(10);
  options.reopen_max = std::chrono::milliseconds(50);
  return options;
}

std::unique_ptr<Journal> open_journal(const Options& options, EventLog* log) {
  auto journal = Journal::open(options, log != nullptr ? log->events() : Journal::Events{});
  if (!journal) {
    ADD_FAILURE() << journal.error().message;
    return nullptr;
  }
  return std::move(*journal);
}

const Recovered& find(const std::vector<Recovered>& all, const std::string& stream) {
  static const Recovered kNone;
  const auto it =
      std::find_if(all.begin(), all.end(), [&](const auto& one) { return one.stream == stream; });
  if (it == all.end()) {
    ADD_FAILURE() << "no stream " << stream;
    return kNone;
  }
  return *it;
}

Outcome commit(Journal& journal, Commit commit) {
  std::promise<Outcome> promise;
  journal.commit(std::move(commit), [&](Outcome outcome) { promise.set_value(outcome); });
  return promise.get_future().get();
}

Outcome append(Journal& journal, std::vector<BlockPtr> blocks, std::uint64_t generation,
               const std::string& stream) {
  Commit one;
  one.stream = stream;
  one.generation = generation;
  one.append = std::move(blocks);
  // As a broker: blocks that no state speaks of are damage.
  if (!one.append.empty() && one.append.front()->first == 1) one.state = "state of " + stream;
  return commit(journal, std::move(one));
}

Outcome set_watermark(Journal& journal, Offset watermark, std::uint64_t generation,
                      const std::string& stream) {
  Commit one;
  one.stream = stream;
  one.generation = generation;
  one.watermark = watermark;
  return commit(journal, std::move(one));
}

ReadResult read(Journal& journal, Offset from, Offset through, std::uint64_t max_bytes,
                const std::string& stream) {
  std::promise<ReadResult> promise;
  journal.read(stream, from, through, max_bytes,
               [&](ReadResult result) { promise.set_value(std::move(result)); });
  return promise.get_future().get();
}

std::optional<Location> locate(Journal& journal, Offset offset_min, std::uint64_t bytes_min,
                               std::int64_t received_min_ms) {
  std::promise<Result<std::optional<Location>>> promise;
  journal.locate(
      "s", offset_min, bytes_min, received_min_ms,
      [&](Result<std::optional<Location>> location) { promise.set_value(std::move(location)); });
  return promise.get_future().get().value();
}

bool write_latch(Journal& journal, const std::string& contents, const std::string& stream) {
  std::promise<bool> promise;
  journal.write_latch(stream, contents, [&](bool ok) { promise.set_value(ok); });
  return promise.get_future().get();
}

bool eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
  }
  return true;
}

}  // namespace spillway::journal
