// Drives a StreamMachine by hand: answers its writes, connects, latches at once or when told to.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "recovery/startup.h"
#include "recovery/stream_machine.h"

namespace spillway::recovery {

class StreamFixture : public ::testing::Test {
 protected:
  static constexpr SinkId kSink{0};
  static constexpr SessionId kSession{1};

  static StreamPolicy policy(std::size_t sinks = 1) {
    StreamPolicy result;
    for (std::size_t i = 0; i < sinks; ++i) {
      SinkPolicy sink;
      sink.name = "sink" + std::to_string(i);
      sink.identity = "test";
      result.sinks.push_back(sink);
    }
    return result;
  }

  void start(StreamPolicy policy, std::optional<DurableState> found = {}, Offset end = 0) {
    auto state = plan_start(policy, std::move(found), end);
    ASSERT_TRUE(state.has_value()) << state.error().message;
    machine.emplace(policy);
    event::Started started;
    started.state = *state;
    started.journal_end = end;
    started.end_clean = end_clean;
    started.latched = latch;
    started.damage = damage;
    started.high_water = high_water;
    started.watermark = watermark;
    step(started);
  }

  void step(const Event& event) {
    std::vector<Action> out;
    machine->step(now, event, out);
    for (Action& action : out) {
      if (auto* write = std::get_if<action::Write>(&action)) writes.push_back(*write);
      if (auto* latching = std::get_if<action::WriteLatch>(&action)) latchings.push_back(*latching);
      actions.push_back(std::move(action));
    }
    if (auto_write) finish_writes();
  }

  void finish_writes() {
    while (!writes.empty() || !latchings.empty()) {
      if (!latchings.empty()) {
        const auto latching = latchings.front();
        latchings.erase(latchings.begin());
        latch = latching.causes;
        step(event::LatchWritten{latching.id, true});
        continue;
      }
      const auto write = writes.front();
      writes.erase(writes.begin());
      stored = *write.state;
      if (write.append_last != 0) journal_end = write.append_last;
      step(event::Written{write.id, WriteOutcome::ok});
    }
  }

  // The store fails, and is open again with `state` and `end`.
  void reopen(const std::optional<DurableState>& state, Offset end) {
    writes.clear();
    step(event::JournalDown{});
    step(event::JournalReopened{state, end, {}});
  }

  void hello(event::HelloCame hello = {}) {
    if (hello.session == SessionId{}) hello.session = kSession;
    step(hello);
  }

  void publish(std::uint64_t count = 1, std::uint64_t bytes = 100) {
    records.assign(count, RecordInfo{bytes, false, false, false});
    send(count * bytes);
  }

  // One record of a group, in a batch of its own: `open` says that more of the group follow.
  void publish_part(bool continues, bool open) {
    records = {RecordInfo{100, continues, open, false}};
    send(100);
  }

  // `records` as the next batch.
  void send(std::uint64_t bytes) {
    event::BatchCame batch;
    batch.session = machine->session().value_or(kSession);
    const Offset next = machine->head() + 1;
    batch.first = {machine->epochs().current(), next - machine->epochs().current_base()};
    batch.count = records.size();
    batch.bytes = bytes;
    batch.records = records;
    step(batch);
  }

  void connect(SinkId sink = kSink, std::optional<Position> held = {}) {
    step(event::SinkConnected{sink, machine->delivery(sink).attempt(), held});
  }
  void ack(Offset through, SinkId sink = kSink) {
    step(event::SinkAcked{sink, machine->delivery(sink).attempt(), through});
  }
  // The sink refuses one record of 100 bytes for good.
  void reject(Offset at) {
    step(event::SinkRejected{kSink, machine->delivery(kSink).attempt(), at, at, 100, "bad"});
  }
  void lose(SinkId sink = kSink, SinkLoss cause = SinkLoss::broken) {
    step(event::SinkLost{sink, machine->delivery(sink).attempt(), cause});
  }
  void pass(Millis time) {
    now.steady += time;
    now.wall += time.count();
    step(event::Ticked{});
  }
  // The last action of a type since take(), if there was one.
  template <class T>
  std::optional<T> last() const {
    std::optional<T> found;
    for (const Action& action : actions) {
      if (const auto* a = std::get_if<T>(&action)) found = *a;
    }
    return found;
  }
  template <class T>
  std::vector<T> all() const {
    std::vector<T> found;
    for (const Action& action : actions) {
      if (const auto* a = std::get_if<T>(&action)) found.push_back(*a);
    }
    return found;
  }
  void forget() { actions.clear(); }
  Offset safe() const { return machine->safe(); }

  Now now{Instant(std::chrono::hours(1)), 1'700'000'000'000};
  std::optional<StreamMachine> machine;
  std::vector<Action> actions;
  std::vector<action::Write> writes;
  std::vector<action::WriteLatch> latchings;
  std::vector<RecordInfo> records;
  std::vector<HaltCause> latch;
  std::optional<DurableState> stored;
  Offset journal_end = 0;
  bool end_clean = true;  // what the journal says at the next start
  bool auto_write = true;
  // What the journal says at the next start.
  std::string damage;
  Offset high_water = 0;
  Offset watermark = 0;
};

}  // namespace spillway::recovery
