// Sinks that come, go and change between two lives.
#include <gtest/gtest.h>

#include "tests/recovery/stream_fixture.h"

namespace spillway::recovery {
namespace {

class Changes : public StreamFixture {
 protected:
  // Ten records that the journal holds for a sink that is down.
  void SetUp() override {
    start(policy());
    hello();
    publish(10);
    forget();
  }
  static StreamPolicy with_new(StartAt::Kind kind) {
    StreamPolicy p = policy(2);
    p.sinks[1].start_at.kind = kind;
    return p;
  }
  static constexpr SinkId kNew{1};
};

TEST_F(Changes, ANewSinkIsConnectedOnlyOnceItsBeginningIsDurable) {
  auto_write = false;
  start(with_new(StartAt::Kind::latest), stored, journal_end);
  EXPECT_FALSE(machine->delivery(kNew).connected());
  const auto attempt = machine->delivery(kNew).attempt();
  connect(kNew);
  EXPECT_EQ(machine->delivery(kNew).state(), State::journaling);
  finish_writes();
  EXPECT_NE(machine->delivery(kNew).attempt(), attempt);
  EXPECT_EQ(stored->sinks[1].cursor, 10U);
  EXPECT_FALSE(stored->sinks[1].unresolved);
}

TEST_F(Changes, ANewSinkThatHoldsLessIsMovedBackToWhatIsStillHere) {
  start(with_new(StartAt::Kind::latest), stored, journal_end);
  connect(kNew, Position{1'700'000'000, 4});
  connect(kNew, Position{1'700'000'000, 4});
  EXPECT_EQ(stored->sinks[1].cursor, 4U);
  EXPECT_EQ(last<action::Read>()->from, 5U);
}

TEST_F(Changes, EarliestBeginsNoEarlierThanTheJournalsWatermark) {
  watermark = 6;
  start(with_new(StartAt::Kind::earliest), stored, journal_end);
  EXPECT_EQ(stored->sinks[1].cursor, 6U);
}

TEST_F(Changes, TheCauseOfASinkThatIsNoLongerConfiguredHaltsNobody) {
  latch = {{CauseKind::max_bytes, "gone", {}, 0, "max_bytes"},
           {CauseKind::max_records, "sink0", {}, 0, "max_records"}};
  start(policy(), stored, journal_end);
  for (const HaltCause& cause : machine->causes()) EXPECT_NE(cause.sink, "gone");
}

TEST_F(Changes, ASinkWithABacklogIsNotForgotten) {
  StreamPolicy p = policy();
  p.sinks[0].name = "other";
  EXPECT_FALSE(plan_start(p, stored, journal_end).has_value());
}

TEST_F(Changes, AnotherDestinationUnderTheSameNameIsRefused) {
  StreamPolicy p = policy();
  p.sinks[0].identity = "elsewhere";
  EXPECT_FALSE(plan_start(p, stored, journal_end).has_value());
}

TEST_F(Changes, BlocksWithoutAStateAreNeverOverwritten) {
  const auto planned = plan_start(policy(), std::nullopt, 10);
  ASSERT_TRUE(planned.has_value());
  EXPECT_EQ(planned->closed_end, 10U);
}

}  // namespace
}  // namespace spillway::recovery
