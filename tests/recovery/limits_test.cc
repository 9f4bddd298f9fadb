// Time limits and refusals: what counts as an outage, as age, and as a journal that fails (G7).
#include <gtest/gtest.h>

#include "recovery/clock_steps.h"
#include "tests/recovery/stream_fixture.h"

namespace spillway::recovery {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

class Limits : public StreamFixture {
 protected:
  static StreamPolicy timed(std::optional<Millis> outage, std::optional<Millis> age = {}) {
    StreamPolicy p = policy();
    p.sinks[0].outage_timeout = outage;
    p.sinks[0].max_age = age;
    return p;
  }
  // One record waits for a sink that is not there.
  void begin_outage(const StreamPolicy& p) {
    start(p);
    hello();
    lose(kSink, SinkLoss::connect_failed);
    publish();
  }
  void restart(const StreamPolicy& p) {
    forget();
    start(p, stored, journal_end);
    lose(kSink, SinkLoss::connect_failed);
  }
  // Of records of 100 bytes.
  BlockInfo journal_block(Offset first, Offset last) const {
    BlockInfo block;
    block.first = first;
    block.last = last;
    block.bytes = 100 * (last - first + 1);
    block.running_bytes = 100 * last;
    block.received = now.wall;
    return block;
  }
  void command(SinkCommand command) { step(event::SinkCommanded{7, kSink, command}); }
  void set_clock(Millis by) {
    now.wall += by.count();
    step(event::Ticked{});
  }
  bool halted(CauseKind kind) const {
    return std::ranges::find(machine->causes(), kind, &HaltCause::kind) != machine->causes().end();
  }
};

TEST_F(Limits, OfAnOutageTripAtTheirTimeAndNotBefore) {
  begin_outage(timed(hours(1)));
  pass(Millis(hours(1)) - Millis(1));
  EXPECT_FALSE(machine->halted());
  pass(Millis(1));
  EXPECT_TRUE(halted(CauseKind::outage_timeout));
}

TEST_F(Limits, OfAnOutageWaitThirtySecondsAfterAStart) {
  begin_outage(timed(seconds(5)));
  pass(kNoOutageBefore - Millis(1));
  EXPECT_FALSE(machine->halted());
  pass(Millis(1));
  EXPECT_TRUE(halted(CauseKind::outage_timeout));
}

// Sent to the dead letters, while the sink comes back at once.
TEST_F(Limits, OfNoOutageAtAllAreNotTrippedByARecordThatIsRefused) {
  StreamPolicy p = timed(Millis(0));
  p.sinks[0].on_reject = OnReject::dead_letter;
  start(p);
  hello();
  connect();
  publish(2);
  reject(1);
  publish();
  EXPECT_FALSE(machine->halted());
  lose(kSink, SinkLoss::connect_failed);  // the next attempt
  EXPECT_TRUE(halted(CauseKind::outage_timeout));
}

// No attempt is made to reach it before an operator says so: that is an outage all the same.
TEST_F(Limits, OfAnOutageTripForASinkThatIsParkedAtAStart) {
  StreamPolicy p = timed(hours(1));
  start(p);
  hello();
  connect();
  publish();
  reject(1);
  ASSERT_EQ(machine->delivery(kSink).state(), State::parked);
  start(p, stored, journal_end);
  ASSERT_EQ(machine->delivery(kSink).state(), State::parked);
  pass(hours(1));
  EXPECT_TRUE(halted(CauseKind::outage_timeout));
}

// The last progress was long ago, but so long nothing was there to make progress with.
TEST_F(Limits, OfAnOutageCountFromTheRecordThatWaitsNotFromTheIdleTimeBefore) {
  StreamPolicy p = timed(hours(1));
  p.window_bytes = 2000;
  p.journal = JournalMode::always;
  start(p);
  hello();
  connect();
  publish();
  ack(1);
  pass(hours(2));
  for (int i = 0; i < 100; ++i) publish();
  ASSERT_GT(machine->window().first(), 2U);
  pass(seconds(20));
  lose();
  EXPECT_FALSE(machine->halted());
  EXPECT_EQ(machine->outage(kSink).remaining, Millis(hours(1)) - seconds(20));
}

TEST_F(Limits, OfAgeTripAtTheirTimeAndNotBefore) {
  begin_outage(timed({}, minutes(10)));
  pass(minutes(10));
  EXPECT_FALSE(machine->halted());
  pass(Millis(1));
  EXPECT_TRUE(halted(CauseKind::max_age));
}

TEST_F(Limits, OfAgeHoldForARecordThatHasLeftTheWindow) {
  StreamPolicy p = timed({}, minutes(10));
  p.window_bytes = 2000;
  start(p);
  hello();
  connect();
  publish();
  ack(1);
  lose();
  const WallMs first = now.wall;
  for (int i = 0; i < 100; ++i) publish();
  ASSERT_GT(machine->window().first(), 2U);
  pass(minutes(10));
  EXPECT_FALSE(machine->halted());
  EXPECT_EQ(machine->backlog(kSink).oldest_received, first);
  pass(Millis(1));
  EXPECT_TRUE(halted(CauseKind::max_age));
}

// Between two reads of a replay nobody knows how old the next record is.
TEST_F(Limits, OfAgeAreNotOverBecauseAnAgeIsNotKnown) {
  StreamPolicy p = timed({}, minutes(10));
  p.window_bytes = 2000;
  begin_outage(p);
  for (int i = 0; i < 100; ++i) publish();
  pass(minutes(10) + Millis(1));
  ASSERT_TRUE(halted(CauseKind::max_age));
  step(event::SinkNudged{kSink});
  connect();
  ASSERT_TRUE(last<action::Read>());
  step(
      event::ReadDone{kSink, last<action::Read>()->id, true, {journal_block(1, 10)}, std::nullopt});
  ack(10);
  EXPECT_EQ(machine->delivery(kSink).state(), State::replaying);
  EXPECT_TRUE(halted(CauseKind::max_age));
}

// Each time the refused record would come again, be discarded again, and so on.
TEST_F(Limits, OfSizeHaltUntilWhatWasRefusedFits) {
  StreamPolicy p = policy();
  p.sinks[0].max_bytes = 1000;
  for (const std::uint64_t before : {0, 600}) {
    start(p);
    hello();
    lose(kSink, SinkLoss::connect_failed);
    forget();
    if (before != 0) publish(1, before);
    publish(1, 1200 - before);
    EXPECT_TRUE(halted(CauseKind::max_bytes)) << before;
    EXPECT_TRUE(all<action::Resume>().empty()) << before;
    step(event::SinkNudged{kSink});
    connect();
    if (before != 0) ack(1);
    EXPECT_FALSE(machine->halted()) << before;
    EXPECT_EQ(all<action::Resume>().size(), 1U) << before;
  }
}

// A limit of nothing halts at a loss, and not because a start has not connected yet.
TEST_F(Limits, OfNothingWaitForAnAttempt) {
  StreamPolicy p = policy();
  p.sinks[0].max_bytes = 0;
  start(p);
  hello();
  forget();
  publish();
  EXPECT_FALSE(machine->halted());
  lose(kSink, SinkLoss::connect_failed);
  publish();
  EXPECT_TRUE(halted(CauseKind::max_bytes));
  EXPECT_TRUE(all<action::Resume>().empty());
}

// What is sent again after a reset is progress, though it was acknowledged before.
TEST_F(Limits, OfAnOutageDoNotTripDuringTheReplayAfterAReset) {
  StreamPolicy p = policy(2);  // the other one is away, so that the journal keeps them
  p.sinks[0].outage_timeout = minutes(1);
  p.sinks[0].max_in_flight = 100'000;
  p.window_bytes = 2000;
  start(p);
  hello();
  connect();
  for (Offset i = 1; i <= 100; ++i) {
    publish();
    ack(i);
  }
  step(event::SinkReset{1, kSink, Position{machine->epochs().current(), 1}});
  connect();
  ASSERT_TRUE(last<action::Read>());
  step(
      event::ReadDone{kSink, last<action::Read>()->id, true, {journal_block(1, 60)}, std::nullopt});
  for (Offset acked = 1; acked < 50; ++acked) {
    ASSERT_EQ(machine->delivery(kSink).state(), State::replaying);
    ack(acked);
    pass(seconds(2));
  }
  EXPECT_FALSE(machine->halted());
}

TEST_F(Limits, OfAgeForgetWhatWasAcknowledged) {
  StreamPolicy p = timed({}, minutes(30));
  p.window_bytes = 2000;
  start(p);
  hello();
  connect();
  publish(2);
  ack(1);
  ack(2);
  pass(hours(1));
  lose();
  for (int i = 0; i < 100; ++i) publish();
  pass(minutes(29));
  EXPECT_FALSE(machine->halted());
}

TEST_F(Limits, OfTimeDoNotCountAPauseEvenAfterARestart) {
  const StreamPolicy p = timed(hours(1));
  begin_outage(p);
  pass(minutes(10));
  command(SinkCommand::pause);
  pass(hours(10));
  restart(p);
  pass(hours(10));
  EXPECT_FALSE(machine->halted());
  command(SinkCommand::resume);
  EXPECT_EQ(machine->outage(kSink).remaining, minutes(50));
  restart(p);
  EXPECT_EQ(machine->outage(kSink).remaining, minutes(50));
  pass(Millis(minutes(50)) - Millis(1));
  EXPECT_FALSE(machine->halted());
  pass(Millis(1));
  EXPECT_TRUE(halted(CauseKind::outage_timeout));
}

TEST_F(Limits, OfTimeDoNotTripWhenTheClockIsSet) {
  const StreamPolicy p = timed(hours(1), hours(1));
  begin_outage(p);
  pass(minutes(10));
  set_clock(hours(5));
  EXPECT_FALSE(machine->halted());
  restart(p);
  EXPECT_EQ(machine->outage(kSink).remaining, minutes(50));
}

TEST_F(Limits, OfTimeGoOnWhenTheClockIsSetBack) {
  const StreamPolicy p = timed(hours(1));
  begin_outage(p);
  pass(minutes(10));
  set_clock(-hours(5));
  restart(p);
  EXPECT_EQ(machine->outage(kSink).remaining, minutes(50));
}

TEST_F(Limits, DoNotTripForWhatAStopLeaves) {
  StreamPolicy p = timed(Millis(0));
  start(p);
  hello();
  connect();
  publish(5);
  step(event::StopAsked{});
  EXPECT_TRUE(last<action::StopDone>());
  EXPECT_FALSE(last<action::Halt>());
  EXPECT_TRUE(latch.empty());
  restart(p);
  EXPECT_TRUE(halted(CauseKind::outage_timeout)) << "but for an attempt that fails";
}

// Each reopening succeeds, and the next write fails again.
TEST_F(Limits, OfAJournalThatFailsCountFromItsFirstFailureUntilAWriteSucceeds) {
  StreamPolicy p = policy();
  start(p);
  hello();
  publish();
  auto_write = false;
  for (Millis time{0}; time < p.journal_timeout; time += seconds(5)) {
    EXPECT_FALSE(machine->halted()) << time.count();
    reopen(stored, journal_end);
    pass(seconds(5));
  }
  step(event::JournalDown{});
  EXPECT_TRUE(halted(CauseKind::journal_failing));
  step(event::JournalReopened{stored, journal_end, {}});
  EXPECT_TRUE(halted(CauseKind::journal_failing)) << "before a write has succeeded";
  finish_writes();
  EXPECT_FALSE(machine->halted());
}

// Nothing that would free space may wait for a dead letter.
TEST_F(Limits, OfTheDiskDoNotStopTheStateForADeadLetter) {
  StreamPolicy p = policy(2);
  p.sinks[0].on_reject = OnReject::dead_letter;
  start(p);
  hello();
  connect();
  publish(3);
  const std::uint64_t bytes = stored ? stored->sinks[0].dead_letter_bytes : 0;
  auto_write = false;
  step(event::SinkRejected{kSink, machine->delivery(kSink).attempt(), 1, 1, 100, "too large"});
  for (int i = 0; i < 10; ++i) {
    ASSERT_FALSE(writes.empty());
    const auto write = writes.front();
    writes.erase(writes.begin());
    if (write.dead_letters.empty() && write.append_last == 0) break;
    step(event::Written{write.id, WriteOutcome::min_free});
  }
  finish_writes();
  EXPECT_EQ(stored->sinks[0].dead_letter_bytes, bytes);
  EXPECT_TRUE(stored->sinks[0].skips.empty());
  EXPECT_TRUE(all<action::Lost>().empty());
  EXPECT_TRUE(machine->delivery(kSink).deadline()) << "it is offered again, after a pause";
}

TEST_F(Limits, OfAGapAreAcceptedForThatGapOnly) {
  StreamPolicy p = policy();
  p.on_gap = OnGap::halt;
  start(p);
  event::HelloCame from_ten;
  from_ten.resumes = true;
  from_ten.oldest = Position{1, 10};
  hello();
  publish(5);
  step(event::SessionEnded{kSession});
  from_ten.generation = stored->generation;
  from_ten.oldest = Position{machine->epochs().current(), 10};
  hello(from_ten);
  ASSERT_TRUE(halted(CauseKind::gap));
  step(event::SessionEnded{kSession});
  start(p, stored, journal_end);
  step(event::HaltCleared{1, true, {}, {}});
  from_ten.oldest->sequence = 3;  // it has everything after all
  hello(from_ten);
  EXPECT_FALSE(machine->halted());
  step(event::SessionEnded{kSession});
  from_ten.oldest->sequence = 100;
  hello(from_ten);
  EXPECT_TRUE(halted(CauseKind::gap));
}

TEST(ClockSteps, TellTimeFromAClockThatWasSet) {
  ClockSteps clock;
  Now now{Instant(hours(1)), 1'000'000'000};
  Offset head = 0;  // one record comes right after each reading
  const auto pass = [&](Millis steady, Millis wall) {
    now.steady += steady;
    now.wall += wall.count();
    return clock.observe(now, head++);
  };
  EXPECT_EQ(pass(Millis(0), Millis(0)), Millis(0));
  const WallMs first = now.wall;
  EXPECT_EQ(pass(seconds(10), seconds(10)), Millis(0));
  EXPECT_EQ(clock.age(1, first), seconds(10));
  EXPECT_EQ(pass(seconds(1), seconds(1) + hours(2)), hours(2));
  const WallMs third = now.wall;
  EXPECT_EQ(clock.age(1, first), seconds(11));
  EXPECT_EQ(pass(seconds(5), seconds(5)), Millis(0));
  EXPECT_EQ(clock.age(3, third), seconds(5));
  EXPECT_EQ(clock.no_older_than(seconds(5)).received_min, third);
  EXPECT_EQ(clock.no_older_than(seconds(4)).offset_min, 2U);
  EXPECT_EQ(clock.no_older_than(seconds(16)).received_min, first);
  EXPECT_EQ(clock.no_older_than(seconds(16)).offset_min, 0U);
  EXPECT_EQ(pass(seconds(1), -hours(3)), -hours(3) - seconds(1));
  EXPECT_EQ(clock.age(1, first), seconds(17));
  EXPECT_EQ(pass(seconds(1), hours(3)), hours(3) - seconds(1));
  EXPECT_EQ(clock.age(1, first), seconds(18)) << "back, and ahead again";
  for (int i = 0; i < 100; ++i) pass(seconds(1), hours(1));
  EXPECT_EQ(clock.age(head, now.wall), Millis(0));
  EXPECT_EQ(clock.age(head - 1, now.wall - 3'600'000), seconds(1));
}

}  // namespace
}  // namespace spillway::recovery
