// A disk that takes nothing more takes the rest of a group that has begun, and no more (G6, G12).
#include <gtest/gtest.h>

#include "tests/recovery/stream_fixture.h"

namespace spillway::recovery {
namespace {

class GroupReserve : public StreamFixture {
 protected:
  // The journal has record 1, which begins a group.
  void begin_group() {
    start(policy());
    hello();
    publish_part(false, true);
    auto_write = false;
    ASSERT_EQ(machine->coverage(), Coverage::open);
  }
  // Of records {continues, open}, 100 bytes each, in one batch.
  void publish_batch(std::vector<RecordInfo> batch) {
    records = std::move(batch);
    send(100 * records.size());
  }
  void answer(WriteOutcome outcome) {
    ASSERT_FALSE(writes.empty());
    const auto write = writes.front();
    writes.erase(writes.begin());
    step(event::Written{write.id, outcome});
  }
  void expect_appends(Offset first, Offset last, bool from_reserve) {
    ASSERT_EQ(writes.size(), 1U);
    EXPECT_EQ(writes[0].append_first, first);
    EXPECT_EQ(writes[0].append_last, last);
    EXPECT_EQ(writes[0].use_group_reserve, from_reserve);
  }
  static constexpr RecordInfo kRest{100, true, true, false};
  static constexpr RecordInfo kEnd{100, true, false, false};
  static constexpr RecordInfo kBegin{100, false, true, false};
  static constexpr RecordInfo kAlone{100, false, false, false};
};

TEST_F(GroupReserve, IsForWhatADiskRefused) {
  begin_group();
  publish_part(true, true);
  expect_appends(2, 2, false);
  answer(WriteOutcome::disk_bound);
  expect_appends(2, 2, true);
  answer(WriteOutcome::ok);
  EXPECT_EQ(safe(), 2U);
  EXPECT_TRUE(machine->halted());
}

TEST_F(GroupReserve, EndsWithTheGroupAlsoInsideABatch) {
  begin_group();
  publish_batch({kRest, kEnd, kBegin});
  expect_appends(2, 4, false);
  answer(WriteOutcome::disk_bound);
  expect_appends(2, 3, true);
  answer(WriteOutcome::ok);
  EXPECT_EQ(safe(), 3U);
  EXPECT_TRUE(writes.empty()) << "of the next group the journal has nothing yet";
  step(event::DiskHasRoom{});
  expect_appends(4, 4, false);
}

TEST_F(GroupReserve, EndsWhereAProducerLeavesItsGroupUnfinished) {
  begin_group();
  publish_batch({kRest, kBegin, kRest});
  answer(WriteOutcome::disk_bound);
  expect_appends(2, 2, true);
  answer(WriteOutcome::ok);
  EXPECT_TRUE(writes.empty());
}

TEST_F(GroupReserve, IsForWhatComesAfterTheRefusalToo) {
  begin_group();
  publish_part(true, true);
  answer(WriteOutcome::min_free);
  answer(WriteOutcome::ok);
  publish_part(true, false);
  expect_appends(3, 3, true);
  answer(WriteOutcome::ok);
  EXPECT_EQ(safe(), 3U);
  publish(1);
  EXPECT_EQ(machine->head(), 3U) << "halted: nothing new comes in";
}

TEST_F(GroupReserve, IsNotForAGroupThatTheJournalHasNothingOf) {
  start(policy());
  hello();
  publish(1);
  auto_write = false;
  publish_batch({kBegin, kRest});
  expect_appends(2, 3, false);
  answer(WriteOutcome::disk_bound);
  EXPECT_TRUE(writes.empty());
  EXPECT_EQ(safe(), 1U);
}

TEST_F(GroupReserve, IsNotForLoneRecords) {
  begin_group();
  publish_batch({kEnd, kAlone});
  answer(WriteOutcome::disk_bound);
  expect_appends(2, 3, true);  // one block, as it came
  answer(WriteOutcome::ok);
  step(event::Ticked{});
  EXPECT_TRUE(writes.empty());
  EXPECT_TRUE(machine->halted());
}

TEST_F(GroupReserve, DoesNotMakeTheDiskLookAsIfItHadRoom) {
  begin_group();
  publish_part(true, true);
  answer(WriteOutcome::disk_bound);
  answer(WriteOutcome::ok);
  publish_part(true, true);
  expect_appends(3, 3, true);
  answer(WriteOutcome::ok);
  // Nothing is left to try again: no timer until something is.
  ASSERT_TRUE(machine->deadline());
  EXPECT_GT(*machine->deadline(), now.steady + Millis(1));
}

}  // namespace
}  // namespace spillway::recovery
