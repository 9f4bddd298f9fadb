// Drops and refusals: one entry for each, at whole groups, and of what is under way only (D8).
#include <gtest/gtest.h>

#include "tests/recovery/stream_fixture.h"

namespace spillway::recovery {
namespace {

class Drops : public StreamFixture {
 protected:
  static StreamPolicy dropping(std::uint64_t max_bytes, std::uint64_t max_records = kUnlimited) {
    StreamPolicy p = policy();
    p.sinks[0].max_bytes = max_bytes;
    p.sinks[0].max_records = max_records;
    p.sinks[0].on_limit = OnLimit::drop_oldest;
    return p;
  }

  // The `part`th of a group of three.
  void publish_of_three(int part) { publish_part(part != 0, part != 2); }

  // With two of a group in the journal; the sink is back.
  void crash_inside_a_group() {
    start(dropping(0));
    hello();
    publish_of_three(0);
    publish_of_three(1);
    event::HelloCame again;
    again.acknowledged = machine->epochs().position_of(machine->head());
    end_clean = false;
    start(dropping(0), stored, journal_end);
    forget();
    hello(again);
    connect();
  }

  std::vector<Loss> losses() const {
    std::vector<Loss> found;
    for (const auto& a : all<action::Lost>()) found.push_back(a.loss);
    return found;
  }
};

TEST_F(Drops, OfAWholeOutageAreOneEntryThatEndsWithIt) {
  start(dropping(0));
  hello();
  publish(5);
  ASSERT_EQ(losses().size(), 1U);
  EXPECT_TRUE(losses()[0].growing);
  publish(5);
  connect();
  ASSERT_EQ(losses().size(), 2U);
  EXPECT_EQ(losses()[1].id, losses()[0].id);
  EXPECT_EQ(losses()[1].first, losses()[0].first);
  EXPECT_EQ(losses()[1].last, 10U);
}

// Of the group that had begun nothing is dropped, so before record 1 there is nothing to speak of.
TEST_F(Drops, OfNothingHaveAnEnd) {
  start(dropping(0));
  hello();
  publish_of_three(0);
  ASSERT_EQ(losses().size(), 1U);
  EXPECT_TRUE(losses()[0].growing);
  connect();
  ASSERT_EQ(losses().size(), 2U);
  EXPECT_EQ(losses()[1].id, losses()[0].id);
  EXPECT_FALSE(losses()[1].growing);
  EXPECT_EQ(losses()[1].last + 1, losses()[1].first);
}

TEST_F(Drops, ThatGoOnAreTheSameEntryGrown) {
  start(dropping(kUnlimited, 8));
  hello();
  for (int i = 0; i < 20; ++i) publish();
  ASSERT_GT(losses().size(), 1U);
  Offset last = 0;
  for (const Loss& loss : losses()) {
    EXPECT_EQ(loss.id, losses()[0].id);
    EXPECT_EQ(loss.first, 1U);
    EXPECT_GT(loss.last, last);
    last = loss.last;
  }
}

TEST_F(Drops, EndAtWholeGroups) {
  start(dropping(kUnlimited, 8));
  hello();
  for (int i = 0; i < 30; ++i) publish_of_three(i % 3);
  ASSERT_FALSE(losses().empty());
  for (const Loss& loss : losses()) EXPECT_EQ(loss.last % 3, 0U) << loss.last;
}

TEST_F(Drops, OfAnOutageThatEndsInsideAGroupLeaveAllOfThatGroup) {
  start(dropping(0));
  hello();
  for (int i = 0; i < 8; ++i) publish_of_three(i % 3);
  connect();
  ASSERT_FALSE(losses().empty());
  EXPECT_EQ(losses().back().last, 6U);
  ASSERT_TRUE(last<action::Send>());
  EXPECT_EQ(last<action::Send>()->first, 7U);
}

// A crash cuts a group in two: what was dropped of it is gone, so its rest goes the same way.
TEST_F(Drops, EndAtAWholeGroupThatACrashCutInTwo) {
  crash_inside_a_group();
  EXPECT_TRUE(losses().empty()) << "nobody knows yet what comes next";
  publish_of_three(1);
  EXPECT_TRUE(losses().empty());
  publish_of_three(2);
  ASSERT_EQ(losses().size(), 1U);
  EXPECT_EQ(losses()[0].last, machine->head());
  forget();
  publish_of_three(0);
  EXPECT_TRUE(last<action::Send>());
}

TEST_F(Drops, EndBeforeARecordThatContinuesNothingAfterAStart) {
  crash_inside_a_group();
  const Offset before = machine->head();
  publish();
  ASSERT_EQ(losses().size(), 1U);
  EXPECT_EQ(losses()[0].last, before);
  ASSERT_TRUE(last<action::Send>());
  EXPECT_EQ(last<action::Send>()->first, before + 1);
}

// The journal says how its last block ends, and a checkpoint how what lies before it does.
TEST_F(Drops, EndAtOnceAfterAStartAtAWholeGroup) {
  for (const bool open : {true, false}) {
    start(dropping(0));
    hello();
    for (int i = 0; i < 3; ++i) publish_of_three(i);
    pass(Millis(1000));
    DurableState found = *stored;
    found.open = open;
    found.closed_end = open ? 0 : found.checkpoint.at;
    ASSERT_EQ(found.checkpoint.at, 3U);
    ASSERT_TRUE(found.checkpoint.clean);
    start(dropping(0), found, open ? 3 : 0);
    forget();
    event::HelloCame again;
    again.resumes = true;
    hello(again);
    connect();
    ASSERT_EQ(losses().size(), 1U) << "open " << open;
    EXPECT_EQ(losses()[0].last, 3U);
  }
}

// What the journal holds ends in the middle of a group, the window has the rest.
TEST_F(Drops, EndAtAWholeGroupWhereTheJournalHasNoPlaceForACut) {
  StreamPolicy p = dropping(1000);
  p.window_bytes = 1600;
  start(p);
  hello();
  for (int i = 0; !last<action::Locate>() && i < 60; ++i) publish_of_three(i % 3);
  ASSERT_TRUE(last<action::Locate>());
  step(event::Located{kSink, last<action::Locate>()->id, 0, 0});
  ASSERT_FALSE(losses().empty());
  EXPECT_EQ(losses().back().last % 3, 0U) << losses().back().last;
}

TEST_F(Drops, AreNotMadeOfARefusalOfWhatIsNotUnderWay) {
  for (const auto& [first, last_refused] : {std::pair<Offset, Offset>{2, 3}, {5, 6}, {4, 3}}) {
    StreamPolicy p = policy();
    p.sinks[0].on_reject = OnReject::dead_letter;
    forget();
    start(p);
    hello();
    connect();
    publish(5);
    ack(2);
    const auto attempt = machine->delivery(kSink).attempt();
    step(event::SinkRejected{kSink, attempt, first, last_refused, 100, "bad"});
    ASSERT_TRUE(last<action::Moved>()) << first;
    EXPECT_EQ(last<action::Moved>()->cause, Cause::protocol) << first;
    EXPECT_TRUE(losses().empty()) << first;
    EXPECT_TRUE(stored->sinks[0].skips.empty()) << first;
  }
}

}  // namespace
}  // namespace spillway::recovery
