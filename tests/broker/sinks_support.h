// What the tests of the sinks share: blocks made of payloads, events written down, awaiting them.
#pragma once

#include <gtest/gtest.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstring>
#include <deque>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/block.h"
#include "broker/sinks/sink.h"
#include "tests/temp_dir.h"
#include "wire/record.h"

namespace spillway::broker::test {

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

inline constexpr std::uint64_t kEpoch = 7;

// Builds a block record by record. Offsets and sequences are the same numbers unless told
// otherwise.
class BlockMaker {
 public:
  explicit BlockMaker(Offset first, std::optional<Position> position = {}) {
    block_.first = first;
    block_.position = position.value_or(Position{kEpoch, first});
  }
  BlockMaker& record(std::string_view payload) {
    wire::RecordFields fields;
    fields.payload = bytes_of(payload);
    return add(fields);
  }
  BlockMaker& part(std::uint64_t index, std::string_view payload, bool last = false) {
    wire::RecordFields fields;
    fields.payload = bytes_of(payload);
    fields.part = index;
    fields.last_part = last;
    return add(fields);
  }
  BlockPtr make() const {
    auto block = std::make_shared<Block>(block_);
    auto storage = std::make_shared<std::byte[]>(bytes_.size());
    std::memcpy(storage.get(), bytes_.data(), bytes_.size());
    block->records = {storage.get(), bytes_.size()};
    block->storage = std::move(storage);
    return block;
  }

 private:
  BlockMaker& add(const wire::RecordFields& fields) {
    wire::append_record(bytes_, fields,
                        {block_.position.epoch, block_.position.sequence + block_.count});
    ++block_.count;
    return *this;
  }

  Block block_;
  std::string bytes_;
};

inline BlockPtr block_of(Offset first, const std::vector<std::string>& payloads) {
  BlockMaker maker(first);
  for (const std::string& payload : payloads) {
    maker.record(payload);
  }
  return maker.make();
}

inline BlockPtr skip_of(Offset first, std::uint64_t count) {
  auto block = std::make_shared<Block>();
  block->first = first;
  block->position = {kEpoch, first};
  block->count = count;
  block->skip = LossReason::limit;
  return block;
}

inline ConnectHint hint(std::uint64_t attempt) { return {Attempt{attempt}, {}, {}, {}, 0}; }

// Writes events down as lines: "connected 1 7/3", "acked 1 5", "lost 1 broken: why", ...
class Recorder final : public SinkEvents {
 public:
  void connected(Attempt attempt, std::optional<Position> held) override {
    note("connected " + number(attempt) + " " + (held ? to_string(*held) : "none"));
  }
  void lost(Attempt attempt, LossCause cause, std::string text) override {
    static constexpr const char* kNames[] = {"connect_failed", "broken", "refused", "protocol"};
    note("lost " + number(attempt) + " " + kNames[static_cast<int>(cause)] + ": " + text);
  }
  void acked(Attempt attempt, Offset through) override {
    EXPECT_GT(through, acked_through) << "an acknowledgement that says nothing new";
    acked_through = through;
    note("acked " + number(attempt) + " " + std::to_string(through));
  }
  void rejected(Attempt attempt, Offset first, Offset last, std::string text) override {
    note("rejected " + number(attempt) + " " + std::to_string(first) + "-" + std::to_string(last) +
         ": " + text);
  }
  void nudge() override { note("nudge"); }

  // Whether the newest event begins so.
  bool last_is(std::string_view prefix) const {
    return !log.empty() && log.back().starts_with(prefix);
  }
  bool has(std::string_view prefix) const {
    for (const std::string& line : log) {
      if (line.starts_with(prefix)) {
        return true;
      }
    }
    return false;
  }

  std::deque<std::string> log;
  Offset acked_through = 0;
  std::function<void(const std::string&)> on_event;

 private:
  static std::string number(Attempt attempt) { return std::to_string(value_of(attempt)); }
  void note(std::string line) {
    log.push_back(std::move(line));
    if (on_event) {
      on_event(log.back());
    }
  }
};

// A fixture with an io_context, events, and a folder of its own.
class SinkTest : public testing::Test {
 protected:
  SinkTest() : work_(boost::asio::make_work_guard(io)) {}

  // Runs the reactor until it is so.
  template <class Condition>
  [[nodiscard]] bool await(Condition condition) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!condition()) {
      if (io.run_one_until(end) == 0) {
        for (const std::string& line : events.log) {
          ADD_FAILURE() << "while waiting: " << line;
        }
        return false;
      }
    }
    return true;
  }
  [[nodiscard]] bool await_event(std::string_view prefix) {
    return await([&] { return events.has(prefix); });
  }
  // Waits until nothing of the sink runs any more.
  void stop(Sink& sink) {
    bool stopped = false;
    sink.stop([&] { stopped = true; });
    EXPECT_TRUE(await([&] { return stopped; }));
  }

  boost::asio::io_context io;
  Recorder events;
  TempDir dir;
  const std::filesystem::path& folder = dir.path();

 private:
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
};

}  // namespace spillway::broker::test
