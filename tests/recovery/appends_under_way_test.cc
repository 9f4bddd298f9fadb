// Several appends of a stream under way at once (recovery/README.md, "One after another").
#include <gtest/gtest.h>

#include "tests/recovery/stream_fixture.h"

namespace spillway::recovery {
namespace {

class AppendsUnderWay : public StreamFixture {
 protected:
  // Coverage is open through record 5, the sink is away, and nothing more is answered.
  void open() {
    start(policy());
    hello();
    publish(5);
    ASSERT_EQ(machine->coverage(), Coverage::open);
    ASSERT_EQ(safe(), 5U);
    auto_write = false;
  }
  void answer(std::size_t write, WriteOutcome outcome) {
    if (outcome == WriteOutcome::ok) {
      stored = *writes[write].state;
      journal_end = writes[write].append_last;
    }
    step(event::Written{writes[write].id, outcome});
  }
};

TEST_F(AppendsUnderWay, FollowOneAnotherWithoutWaiting) {
  open();
  publish(3);
  publish(4);
  ASSERT_EQ(writes.size(), 2U);
  EXPECT_EQ(writes[0].append_first, 6U);
  EXPECT_EQ(writes[1].append_first, 9U);
  EXPECT_EQ(writes[1].append_last, 12U);
  EXPECT_EQ(safe(), 5U);
  answer(0, WriteOutcome::ok);
  EXPECT_EQ(safe(), 8U);
  answer(1, WriteOutcome::ok);
  EXPECT_EQ(safe(), 12U);
}

TEST_F(AppendsUnderWay, AreNoMoreThanTheirLimit) {
  open();
  for (std::size_t i = 0; i < kAppendsUnderWay + 5; ++i) publish();
  ASSERT_EQ(writes.size(), kAppendsUnderWay);
  answer(0, WriteOutcome::ok);
  ASSERT_EQ(writes.size(), kAppendsUnderWay + 1);
  EXPECT_EQ(writes.back().append_last, machine->head());
}

TEST_F(AppendsUnderWay, DoNotFollowWhatMayBeRefusedByItself) {
  open();
  step(event::SinkCommanded{1, kSink, SinkCommand::pause});
  ASSERT_EQ(writes.size(), 1U);
  EXPECT_EQ(writes[0].append_last, 0U);
  publish(3);
  EXPECT_EQ(writes.size(), 1U);
  answer(0, WriteOutcome::ok);
  EXPECT_EQ(writes.size(), 2U);
}

TEST_F(AppendsUnderWay, AreRefusedTogether) {
  open();
  publish(3);
  publish(4);
  answer(0, WriteOutcome::disk_bound);
  answer(1, WriteOutcome::disk_bound);
  const std::size_t before = writes.size();
  step(event::DiskHasRoom{});
  ASSERT_GT(writes.size(), before);
  EXPECT_EQ(writes.back().append_first, 6U);
  EXPECT_EQ(writes.back().append_last, 12U);
  EXPECT_EQ(safe(), 5U);
}

TEST_F(AppendsUnderWay, RefusedTogetherMakeASinkDropOnce) {
  StreamPolicy dropping = policy();
  dropping.sinks[0].on_limit = OnLimit::drop_oldest;
  dropping.window_bytes = 2400;
  start(dropping);
  hello();
  for (int i = 0; i < 10; ++i) publish(8);
  auto_write = false;
  publish(8);
  publish(8);
  publish(8);
  ASSERT_EQ(writes.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) answer(i, WriteOutcome::disk_bound);
  step(event::Ticked{});
  EXPECT_EQ(all<action::Locate>().size(), 1U);
}

TEST_F(AppendsUnderWay, LandAsFarAsTheStoredRevisionSays) {
  open();
  publish(3);
  publish(4);
  publish(5);
  ASSERT_EQ(writes.size(), 3U);
  answer(0, WriteOutcome::failed);
  answer(1, WriteOutcome::failed);
  step(event::JournalReopened{*writes[1].state, 12, {}});
  EXPECT_EQ(safe(), 12U);
  ASSERT_EQ(writes.size(), 4U);
  EXPECT_EQ(writes[3].append_first, 13U);
  EXPECT_EQ(writes[3].append_last, 17U);
  EXPECT_FALSE(machine->halted());
}

TEST_F(AppendsUnderWay, AreAllSentAgainWhenNoneLanded) {
  open();
  publish(3);
  publish(4);
  answer(0, WriteOutcome::failed);
  step(event::JournalReopened{stored, 5, {}});
  ASSERT_EQ(writes.size(), 3U);
  EXPECT_EQ(writes[2].append_first, 6U);
  EXPECT_EQ(writes[2].append_last, 12U);
  EXPECT_EQ(safe(), 5U);
}

// Where a producer never pauses, coverage could not close: it needs a moment with none under way.
TEST_F(AppendsUnderWay, EndWhenThereIsNoReasonToJournal) {
  open();
  auto_write = true;
  connect();
  ack(5);
  ASSERT_FALSE(machine->coverage() == Coverage::closed);
  auto_write = false;
  publish();
  ack(6);
  publish();
  ack(7);
  EXPECT_EQ(writes.size(), 1U);
}

// A sink that is ahead takes the watermark along: it must not make room for an append whose
// forerunner was refused.
TEST_F(AppendsUnderWay, HoldTheWatermarkBeforeWhatIsNotDurable) {
  start(policy());
  hello();
  publish(5);
  connect(kSink, Position{machine->epochs().current(), 100});
  lose();
  auto_write = false;
  publish(3);
  publish(4);
  ASSERT_EQ(writes.size(), 2U);
  ASSERT_EQ(writes[1].append_first, 9U);
  EXPECT_LE(writes[1].watermark, machine->journal_end());
}

}  // namespace
}  // namespace spillway::recovery
