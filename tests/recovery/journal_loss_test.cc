// A journal that comes back with less than it had confirmed (D7, G10, G11).
#include <gtest/gtest.h>

#include "tests/recovery/stream_fixture.h"

namespace spillway::recovery {
namespace {

class JournalLoss : public StreamFixture {
 protected:
  // Ten records that the journal holds for a sink that is down.
  void fill(std::uint64_t window_bytes = std::uint64_t{64} << 20) {
    StreamPolicy p = policy();
    p.window_bytes = window_bytes;
    start(p);
    hello();
    before = stored;
    for (int i = 0; i < 10; ++i) publish(1, 100);
    ASSERT_EQ(machine->journal_end(), 10U);
    auto_write = false;
  }
  void finish_latch() {
    latch = latchings.front().causes;
    const std::uint64_t id = latchings.front().id;
    latchings.erase(latchings.begin());
    step(event::LatchWritten{id, true});
  }
  bool damaged() const {
    const auto& causes = machine->causes();
    return std::ranges::find(causes, CauseKind::journal_damaged, &HaltCause::kind) != causes.end();
  }
  std::optional<DurableState> before;
};

TEST_F(JournalLoss, OfAnOlderStateHaltsAndIsWrittenAgainBeforeAnythingIsAcknowledged) {
  fill();
  reopen(before, 0);
  EXPECT_TRUE(damaged());
  EXPECT_TRUE(machine->restoring());
  ASSERT_EQ(writes.size(), 1U);
  EXPECT_EQ(writes[0].append_first, 1U);
  EXPECT_EQ(writes[0].append_last, 10U);
  EXPECT_TRUE(writes[0].state->open);
  finish_writes();
  EXPECT_FALSE(machine->restoring());
  EXPECT_EQ(machine->journal_end(), 10U);
}

TEST_F(JournalLoss, OfBlocksThatAreStillInMemoryAppendsThemAgain) {
  fill();
  reopen(stored, 4);
  EXPECT_TRUE(damaged());
  ASSERT_EQ(writes.size(), 1U);
  EXPECT_EQ(writes[0].append_first, 5U);
  EXPECT_EQ(writes[0].append_last, 10U);
  EXPECT_TRUE(writes[0].losses.empty());
}

TEST_F(JournalLoss, OfBlocksThatNobodyHasIsLedgeredSkippedAndFilled) {
  fill(800);
  const Offset first = machine->window().first();
  ASSERT_GT(first, 3U);
  reopen(stored, 2);
  ASSERT_EQ(writes.size(), 1U);
  ASSERT_EQ(writes[0].losses.size(), 1U);
  EXPECT_EQ(writes[0].losses[0].first, 3U);
  EXPECT_EQ(writes[0].losses[0].last, first - 1);
  EXPECT_EQ(writes[0].losses[0].reason, LossReason::journal_loss);
  ASSERT_EQ(writes[0].fills.size(), 1U);
  EXPECT_EQ(writes[0].fills[0].first, 3U);
  EXPECT_EQ(writes[0].fills[0].count, first - 3);
  finish_writes();
  connect();
  EXPECT_EQ(last<action::Read>()->from, 1U);
  EXPECT_EQ(last<action::Read>()->through, 2U);
}

// What the disk has no room for as a dead letter is offered again; what is gone is not (seed
// 1697160).
TEST_F(JournalLoss, OfARecordThatWasToBeADeadLetterIsSkippedWithoutIt) {
  StreamPolicy p = policy();
  p.window_bytes = 800;
  p.sinks[0].on_reject = OnReject::dead_letter;
  start(p);
  hello();
  for (int i = 0; i < 10; ++i) publish(1, 100);
  const Offset refused = machine->window().first() - 1;
  ASSERT_GT(refused, 2U);
  connect();
  ASSERT_TRUE(last<action::Read>());
  BlockInfo block;
  block.first = 1;
  block.last = refused;
  block.bytes = block.running_bytes = 100 * refused;
  block.received = now.wall;
  step(event::ReadDone{kSink, last<action::Read>()->id, true, {block}, std::nullopt});
  ack(refused - 1);
  auto_write = false;
  reject(refused);
  ASSERT_EQ(writes.size(), 1U);
  ASSERT_EQ(writes[0].dead_letters.size(), 1U);
  reopen(stored, refused - 1);
  ASSERT_EQ(writes.size(), 1U);
  ASSERT_EQ(writes[0].dead_letters.size(), 1U);
  const auto id = writes[0].id;
  writes.clear();
  step(event::Written{id, WriteOutcome::min_free});
  ASSERT_EQ(writes.size(), 1U);
  EXPECT_TRUE(writes[0].dead_letters.empty());
  for (const Loss& loss : writes[0].losses) EXPECT_EQ(loss.reason, LossReason::journal_loss);
  const std::vector<SkipRange> gone = {{refused, refused, LossReason::journal_loss}};
  EXPECT_EQ(writes[0].state->sinks[0].skips, gone);
  EXPECT_FALSE(machine->delivery(kSink).deadline()) << "not before that is durable";
}

// Welcome says what is safe (seed 2398128).
TEST_F(JournalLoss, IsMadeGoodBeforeAProducerIsWelcomed) {
  fill();
  event::HelloCame next;
  next.session = SessionId{2};
  next.acknowledged = Position{machine->epochs().current(), 10};
  hello(next);
  step(event::SessionEnded{kSession});
  ASSERT_EQ(writes.size(), 1U);
  const auto write = writes.front();
  writes.clear();
  forget();
  step(event::Written{write.id, WriteOutcome::failed});
  step(event::JournalReopened{*write.state, 4, {}});  // it landed, and blocks are gone
  EXPECT_TRUE(machine->restoring());
  EXPECT_FALSE(last<action::Welcome>());
  finish_writes();
  EXPECT_FALSE(machine->restoring());
  ASSERT_TRUE(last<action::Welcome>());
  EXPECT_EQ(last<action::Welcome>()->safe.sequence, 10U);
}

// A state is written where the disk refuses an append: that is not all of it (seed 4034889).
TEST_F(JournalLoss, IsNotMadeGoodByTheStateAloneWhereTheDiskRefusesTheRest) {
  fill();
  reopen(stored, 4);
  ASSERT_EQ(writes.size(), 1U);
  ASSERT_EQ(writes[0].append_first, 5U);
  const auto refused = writes.front();
  writes.clear();
  step(event::Written{refused.id, WriteOutcome::disk_bound});
  finish_writes();  // without an append
  ASSERT_EQ(machine->journal_end(), 4U);
  EXPECT_TRUE(machine->restoring());
  step(event::HaltCleared{1, true, {}, {}});
  EXPECT_TRUE(machine->halted()) << "it would take more than the window holds (seed 371976)";
  step(event::SessionEnded{kSession});
  event::HelloCame next;
  next.session = SessionId{2};
  next.acknowledged = Position{machine->epochs().current(), 10};
  forget();
  hello(next);
  finish_writes();
  EXPECT_FALSE(last<action::Welcome>());
  step(event::DiskHasRoom{});
  finish_writes();
  EXPECT_FALSE(machine->restoring());
  EXPECT_TRUE(last<action::Welcome>());
}

TEST_F(JournalLoss, IsFilledByOneAppendBeforeAnythingMoreIsTaken) {
  fill(800);
  reopen(stored, 2);
  ASSERT_EQ(writes.size(), 1U);
  ASSERT_EQ(writes[0].fills.size(), 1U);
  step(event::HaltCleared{1, true, {}, {}});
  finish_latch();
  publish();
  ASSERT_EQ(machine->head(), 10U);
  EXPECT_EQ(writes.size(), 1U);
  finish_writes();
  step(event::HaltCleared{1, true, {}, {}});
  finish_writes();
  publish();
  finish_writes();
  EXPECT_EQ(machine->journal_end(), 11U);
}

// What continues a group comes in all the same: it waits for that append.
TEST_F(JournalLoss, IsFilledOnceThoughAGroupGoesOn) {
  fill(800);
  publish_part(false, true);
  finish_writes();
  ASSERT_EQ(machine->journal_end(), 11U);
  reopen(stored, 2);
  ASSERT_EQ(writes.size(), 1U);
  ASSERT_EQ(writes[0].fills.size(), 1U);
  publish_part(true, true);
  ASSERT_EQ(machine->head(), 12U);
  EXPECT_EQ(writes.size(), 1U);
  finish_writes();
  EXPECT_EQ(machine->journal_end(), 12U);
}

TEST_F(JournalLoss, IsLedgeredForASinkThatHasItTooForItMayBeRewound) {
  StreamPolicy p = policy(2);
  p.window_bytes = 800;
  start(p);
  hello();
  connect(SinkId{1});
  for (Offset i = 1; i <= 10; ++i) {
    publish(1, 100);
    ack(i, SinkId{1});
  }
  const Offset first = machine->window().first();
  ASSERT_GT(first, 3U);
  auto_write = false;
  reopen(stored, 2);
  ASSERT_EQ(writes.size(), 1U);
  ASSERT_EQ(writes[0].losses.size(), 2U);
  EXPECT_EQ(writes[0].losses[0].sink, "sink0");
  EXPECT_EQ(writes[0].losses[1].sink, "");
  EXPECT_TRUE(writes[0].losses[1].upper_bound);
  EXPECT_EQ(writes[0].losses[1].last, first - 1);
}

TEST_F(JournalLoss, KeepsTheStreamHaltedUntilAnOperatorAcceptsIt) {
  fill();
  auto_write = true;
  reopen(before, 0);
  forget();
  pass(Millis(60'000));
  EXPECT_FALSE(last<action::Resume>());
  step(event::HaltCleared{7, true, {}, {}});
  EXPECT_TRUE(last<action::Resume>());
  EXPECT_FALSE(damaged());
}

TEST_F(JournalLoss, FoundAtAStartIsLedgeredAsAnUpperBound) {
  fill();
  auto_write = true;
  high_water = 10;
  forget();
  start(policy(), stored, 6);
  EXPECT_TRUE(damaged());
  EXPECT_EQ(machine->head(), 6U);
  ASSERT_TRUE(last<action::Lost>());
  EXPECT_EQ(last<action::Lost>()->loss.first, 7U);
  EXPECT_EQ(last<action::Lost>()->loss.last, 10U);
  EXPECT_TRUE(last<action::Lost>()->loss.upper_bound);
  EXPECT_LE(stored->checkpoint.at, 6U);
}

TEST_F(JournalLoss, LeavesASkipWhatLiesBeforeTheEnd) {
  fill();
  DurableState found = *stored;
  found.epochs.push_back({found.epochs.back().number + 1, 8});  // lost with what came after 6
  found.sinks[0].skips = {{1, 5, LossReason::limit}, {6, 9, LossReason::limit}};
  auto_write = true;
  high_water = 10;
  start(policy(), found, 6);
  const std::vector<SkipRange> left = {{1, 5, LossReason::limit}, {6, 6, LossReason::limit}};
  EXPECT_EQ(machine->wanted().sinks[0].skips, left);
}

TEST_F(JournalLoss, SaidAtAStartIsLatched) {
  fill();
  auto_write = true;
  damage = "two files are missing";
  start(policy(), stored, 10);
  EXPECT_TRUE(damaged());
  ASSERT_FALSE(latch.empty());
  EXPECT_EQ(latch[0].text, "two files are missing");
}

TEST_F(JournalLoss, SaidAtAReopeningIsLatchedThoughNothingIsMissing) {
  fill();
  auto_write = true;
  step(event::JournalDown{});
  step(event::JournalReopened{stored, 10, "a file is not as it was"});
  EXPECT_TRUE(damaged());
  EXPECT_FALSE(machine->restoring());
}

TEST_F(JournalLoss, GivesAProducerWithoutMemoryANewEpochEvenAfterACleanStop) {
  start(policy());
  hello();
  connect();
  publish(5);
  ack(5);
  step(event::StopAsked{});
  ASSERT_TRUE(stored->clean_stop);
  damage = "something does not add up";
  forget();
  start(policy(), stored, journal_end);
  hello();
  EXPECT_GT(last<action::Welcome>()->held.epoch, 1'700'000'000U + kMaxEpochs);
}

TEST_F(JournalLoss, OfAWholeStoreIsLedgeredThroughWhatAProducerSawAcknowledged) {
  start(policy());
  event::HelloCame remembers;
  remembers.acknowledged = Position{1'800'000'000, 7};
  remembers.oldest = Position{1'800'000'000, 8};
  remembers.resumes = true;
  hello(remembers);
  ASSERT_TRUE(last<action::Lost>());
  EXPECT_EQ(last<action::Lost>()->loss.reason, LossReason::journal_loss);
  EXPECT_EQ(last<action::Lost>()->loss.last_position, (Position{1'800'000'000, 7}));
  EXPECT_EQ(last<action::Welcome>()->held, (Position{1'800'000'000, 7}));
}

TEST_F(JournalLoss, OfANewEpochTakesFromNoSinkWhatItTookBeyondTheEndOfTheOneBefore) {
  start(policy());
  hello();
  connect();
  publish(5);
  ack(5);
  DurableState found = *stored;  // of before the new epoch, with a cursor that was ahead
  found.sinks[0].cursor = 5;
  found.closed_end = found.checkpoint.at = 3;
  start(policy(), found, journal_end);
  event::HelloCame remembers;
  remembers.acknowledged = Position{1'700'000'009, 1};
  remembers.oldest = Position{1'700'000'009, 2};
  remembers.resumes = true;
  forget();
  hello(remembers);
  EXPECT_EQ(last<action::Welcome>()->held, (Position{1'700'000'009, 1}));
  EXPECT_LE(stored->sinks[0].cursor, 4U);
}

TEST_F(JournalLoss, OfTwoEpochsOneAfterTheOtherGivesEachItsPlace) {
  start(policy());
  hello();
  connect();
  publish(5);
  ack(5);
  DurableState found = *stored;
  ASSERT_FALSE(found.open);
  found.closed_end = found.checkpoint.at = 3;  // of before the next epoch, which began after 5
  found.epochs.push_back({1'700'000'004, 5});
  start(policy(), found, journal_end);
  event::HelloCame remembers;
  remembers.acknowledged = Position{1'700'000'009, 1};
  remembers.oldest = Position{1'700'000'009, 2};
  remembers.resumes = true;
  hello(remembers);
  EXPECT_EQ(machine->head(), 6U);
  EXPECT_EQ(last<action::Welcome>()->held, (Position{1'700'000'009, 1}));
}

TEST_F(JournalLoss, OfTheEpochInWhichAProducerGoesOnGivesItANewOne) {
  start(policy());
  hello();
  connect();
  publish(5);
  ack(5);
  start(policy(), stored, journal_end);
  event::HelloCame remembers;
  remembers.acknowledged = Position{1'700'000'000, 5};
  remembers.oldest = Position{1'700'000'009, 1};
  forget();
  hello(remembers);
  EXPECT_EQ(last<action::Welcome>()->held, (Position{1'700'000'010, 0}));
}

}  // namespace
}  // namespace spillway::recovery
