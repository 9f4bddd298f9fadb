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

  // Where an outage is to cost what comes in it: the first attempt has failed.
  void start_away() {
    start(dropping(0));
    hello();
    lose(kSink, SinkLoss::connect_failed);
  }
  void come_back() {
    step(event::SinkNudged{kSink});
    connect();
  }

  // With two of a group in the journal; the sink is back.
  void crash_inside_a_group() {
    start_away();
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

  // A store whose journal has `end` records of 100 bytes, none of which its sink has.
  static DurableState open_store(Offset end) {
    DurableState found;
    found.epochs = {{1, 0}};
    found.epoch_newest = 1;
    found.open = true;
    found.first = 1;
    found.checkpoint = {end, true};
    SinkState sink;
    sink.name = "sink0";
    sink.identity = "test";
    found.sinks = {sink};
    return found;
  }
  void start_with_journal(const StreamPolicy& p, const DurableState& found, Offset end,
                          event::Started::Backlog backlog) {
    machine.emplace(p);
    event::Started started;
    started.state = found;
    started.journal_end = started.high_water = end;
    started.end_clean = true;
    started.end_running_bytes = 100 * end;
    started.backlogs = {backlog};
    step(started);
  }

  std::vector<Loss> losses() const {
    std::vector<Loss> found;
    for (const auto& a : all<action::Lost>()) found.push_back(a.loss);
    return found;
  }
};

TEST_F(Drops, OfAWholeOutageAreOneEntryThatEndsWithIt) {
  start_away();
  publish(5);
  ASSERT_EQ(losses().size(), 1U);
  EXPECT_TRUE(losses()[0].growing);
  publish(5);
  come_back();
  ASSERT_EQ(losses().size(), 2U);
  EXPECT_EQ(losses()[1].id, losses()[0].id);
  EXPECT_EQ(losses()[1].first, losses()[0].first);
  EXPECT_EQ(losses()[1].last, 10U);
  EXPECT_EQ(losses()[0].fresh, 0U);
  EXPECT_EQ(losses()[1].fresh, 10U);
}

// What a reset gives again is not lost before an attempt to send it has failed.
TEST_F(Drops, OfNothingButLossesAfterAReset) {
  StreamPolicy p = policy(2);  // the other one is away, so that the journal keeps them
  p.sinks[0].max_bytes = 0;
  p.sinks[0].on_limit = OnLimit::drop_oldest;
  start(p);
  hello();
  connect();
  publish(10);
  ack(10);
  forget();
  step(event::SinkReset{1, kSink, Position{machine->epochs().current(), 5}});
  EXPECT_TRUE(losses().empty());
  connect();
  ASSERT_TRUE(last<action::Send>());
  EXPECT_EQ(last<action::Send>()->first, 5U);
}

// Of 100 records that wait, a new configuration allows 10.
TEST_F(Drops, OfALimitThatWasLoweredWaitUntilAnOperatorAgrees) {
  for (const bool agreed : {false, true}) {
    StreamPolicy p = policy();
    p.sinks[0].max_records = 10;
    p.sinks[0].on_limit = OnLimit::drop_oldest;
    p.accept_drop = agreed;
    forget();
    start_with_journal(p, open_store(100), 100, {0, now.wall});
    pass(Millis(1000));
    EXPECT_EQ(last<action::Locate>().has_value(), agreed);
    event::HelloCame again;
    again.acknowledged = Position{1, 100};
    hello(again);
    publish();
    EXPECT_EQ(machine->halted(), !agreed);
    EXPECT_EQ(machine->head(), agreed ? 101U : 100U);
    EXPECT_EQ(last<action::Locate>().has_value(), agreed);
  }
}

// The sink said no to one record, and comes back at once: that is no outage.
TEST_F(Drops, OfNothingButTheRecordThatWasRefused) {
  StreamPolicy p = dropping(0);
  p.sinks[0].on_reject = OnReject::dead_letter;
  start(p);
  hello();
  connect();
  publish(2);
  ack(1);
  reject(2);
  publish(3);
  ASSERT_EQ(losses().size(), 1U);
  EXPECT_EQ(losses()[0].reason, LossReason::rejected);
  forget();
  connect();
  ASSERT_TRUE(last<action::Send>());
  EXPECT_EQ(last<action::Send>()->first, 3U);
  EXPECT_EQ(last<action::Send>()->last, 5U);
  lose();  // and now it is lost
  publish();
  ASSERT_EQ(losses().size(), 1U);
  EXPECT_EQ(losses()[0].first, 3U);
}

// Nothing is let go twice while a refused record is on its way to the dead letters.
TEST_F(Drops, WaitForTheDeadLettersBeforeThem) {
  StreamPolicy p = dropping(kUnlimited, 3);
  p.sinks[0].on_reject = OnReject::dead_letter;
  start(p);
  hello();
  connect();
  publish(5);
  auto_write = false;
  forget();
  reject(1);
  EXPECT_EQ(machine->wanted().sinks[0].skips,
            (std::vector<SkipRange>{{1, 1, LossReason::rejected}}));
  auto_write = true;
  finish_writes();
  ASSERT_EQ(losses().size(), 2U);
  EXPECT_EQ(losses()[1].reason, LossReason::limit);
  EXPECT_EQ(losses()[1].first, 2U);
}

// It names a record that has an entry of its own.
TEST_F(Drops, AroundARefusedRecordAreUpperBounds) {
  StreamPolicy p = dropping(kUnlimited, 3);
  p.sinks[0].on_reject = OnReject::dead_letter;
  start(p);
  hello();
  connect();
  for (int i = 0; i < 6; ++i) publish();
  ack(1);
  reject(3);
  ASSERT_GE(losses().size(), 2U);
  EXPECT_EQ(losses()[0].reason, LossReason::rejected);
  EXPECT_FALSE(losses()[0].upper_bound);
  EXPECT_EQ(losses()[1].reason, LossReason::limit);
  EXPECT_EQ(losses()[1].first, 2U);
  EXPECT_GE(losses()[1].last, 3U);
  EXPECT_TRUE(losses()[1].upper_bound);
}

// What a whole outage cost does not wait any more, also where the window has moved on since.
TEST_F(Drops, OfAWholeOutageDoNotCountAsBacklogAfterIt) {
  StreamPolicy p = dropping(5'000);
  p.sinks[0].outage_timeout = Millis(0);
  p.sinks[0].max_in_flight = 100;
  p.journal = JournalMode::always;
  p.window_bytes = 1'000;
  start(p);
  hello();
  lose(kSink, SinkLoss::connect_failed);
  for (int i = 0; i < 40; ++i) publish();
  come_back();
  ASSERT_TRUE(last<action::SendSkip>());
  ack(40);
  forget();
  for (int i = 0; i < 30; ++i) publish();
  ASSERT_EQ(machine->delivery(kSink).state(), State::replaying);
  EXPECT_EQ(machine->backlog(kSink).bytes, 3000U);
  EXPECT_FALSE(last<action::Locate>());
}

// The sink took more than the broker of the last life made durable, and then its drop began: what
// comes again in that place is neither sent nor let go.
TEST_F(Drops, BeginBehindWhatTheSinkTookBeforeACrash) {
  DurableState found = open_store(30);
  found.open = false;
  found.closed_end = 30;
  found.acks = Acks::none;
  found.sinks[0].cursor = 40;
  found.sinks[0].dropping = true;
  found.sinks[0].drop_first = 41;
  found.sinks[0].drop_entry = 1;
  found.next_ledger_id = 2;
  StreamPolicy p = dropping(0);
  p.acks = Acks::none;
  start(p, found, 30);
  event::HelloCame again;
  again.acknowledged = Position{1, 30};
  again.oldest = Position{1, 31};
  hello(again);
  publish(20);
  EXPECT_EQ(stored->sinks[0].cursor, 40U);
  EXPECT_EQ(machine->effective(kSink), 50U);
}

// Each has an entry of its own, and a drop that goes on makes its own longer.
TEST_F(Drops, OfDifferentReasonsAreDifferentEntries) {
  StreamPolicy p = dropping(kUnlimited, 8);
  p.sinks[0].max_age = Millis(10'000);
  start(p);
  hello();
  lose(kSink, SinkLoss::connect_failed);
  for (int i = 0; i < 9; ++i) publish();
  ASSERT_EQ(losses().size(), 1U);
  EXPECT_EQ(losses()[0].reason, LossReason::limit);
  EXPECT_FALSE(losses()[0].upper_bound);
  const Offset first_drop = losses()[0].last;
  pass(Millis(6'000));
  publish(1);
  pass(Millis(6'000));
  ASSERT_EQ(losses().size(), 2U);
  EXPECT_EQ(losses()[1].reason, LossReason::age);
  EXPECT_EQ(losses()[1].first, first_drop + 1);
  const Offset second_drop = losses()[1].last;
  for (int i = 0; i < 12; ++i) publish();
  ASSERT_GE(losses().size(), 4U);
  EXPECT_EQ(losses()[2].reason, LossReason::limit);
  EXPECT_EQ(losses()[2].first, second_drop + 1);
  EXPECT_NE(losses()[2].id, losses()[0].id);
  EXPECT_NE(losses()[2].id, losses()[1].id);
  EXPECT_EQ(losses()[3].id, losses()[2].id) << "goes on";
  EXPECT_EQ(losses()[3].first, losses()[2].first);
}

// What it dropped is on record by the entry of the drop.
TEST_F(Drops, ThatAResetEndsAreInTheLedgerOnce) {
  start_away();
  publish(5);
  publish(5);
  forget();
  step(event::SinkReset{1, kSink, std::nullopt});
  ASSERT_EQ(losses().size(), 1U);
  EXPECT_EQ(losses()[0].first, 1U);
  EXPECT_EQ(losses()[0].last, 10U);
  EXPECT_EQ(losses()[0].reason, LossReason::limit);
  EXPECT_EQ(last<action::Reply>()->text, "goes on after 1700000000/10");
}

// Whoever takes the wish to drop out of the configuration wants what comes from now on.
TEST_F(Drops, EndWhereThePolicyNoLongerAsksForThem) {
  start_away();
  publish(5);
  ASSERT_EQ(losses().size(), 1U);
  ASSERT_TRUE(stored->sinks[0].dropping);
  event::HelloCame again;
  again.acknowledged = Position{machine->epochs().current(), 5};
  start(policy(), stored, journal_end);
  hello(again);
  forget();
  publish(5);
  EXPECT_FALSE(stored->sinks[0].dropping);
  EXPECT_EQ(machine->effective(kSink), 5U);
  EXPECT_EQ(machine->journal_end(), 10U);
}

// Of the group that had begun nothing is dropped, so before record 1 there is nothing to speak of.
TEST_F(Drops, OfNothingHaveAnEnd) {
  start_away();
  publish_of_three(0);
  ASSERT_EQ(losses().size(), 1U);
  EXPECT_TRUE(losses()[0].growing);
  come_back();
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
    EXPECT_EQ(loss.fresh, loss.last - last);
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
  start_away();
  for (int i = 0; i < 8; ++i) publish_of_three(i % 3);
  come_back();
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
    start_away();
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
  step(event::Located{kSink, last<action::Locate>()->id, true, 0, 0, 0});
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

// Of what waits in the journal alone a limit lets go of an eighth, not of all there is.
TEST_F(Drops, BySizeLeaveSevenEighthsOfTheLimitInTheJournalToo) {
  StreamPolicy p = dropping(20'000);
  p.window_bytes = 4000;
  start(p);
  hello();
  lose(kSink, SinkLoss::connect_failed);
  for (int i = 0; !last<action::Locate>() && i < 1000; ++i) publish();
  ASSERT_TRUE(last<action::Locate>());
  const auto locate = *last<action::Locate>();
  const Offset cut = locate.bytes_min / 100;
  step(event::Located{kSink, locate.id, true, cut, cut * 100, now.wall});
  EXPECT_EQ(all<action::Locate>().size(), 1U);
  EXPECT_EQ(machine->backlog(kSink).bytes, 20'100U - cut * 100);
  EXPECT_GE(machine->backlog(kSink).bytes, 20'000U / 8 * 7);
}

TEST_F(Drops, ByAgeLeaveWhatIsYoungEnough) {
  StreamPolicy p = dropping(kUnlimited);
  p.sinks[0].max_age = Millis(10'000);
  p.window_bytes = 2000;
  start(p);
  hello();
  lose(kSink, SinkLoss::connect_failed);
  const WallMs begin = now.wall;
  for (int i = 0; !last<action::Locate>() && i < 1000; ++i) {
    publish();
    pass(Millis(100));
  }
  ASSERT_TRUE(last<action::Locate>());
  const auto locate = *last<action::Locate>();
  EXPECT_EQ(locate.received_min, now.wall - 10'000);
  // Record i came 100 ms after the one before it.
  const auto cut = static_cast<Offset>((locate.received_min - begin + 99) / 100);
  step(event::Located{kSink, locate.id, true, cut, cut * 100, begin + 100 * WallMs(cut)});
  EXPECT_EQ(all<action::Locate>().size(), 1U);
  EXPECT_EQ(machine->backlog(kSink).records, machine->head() - cut);
  pass(Millis(200));
  EXPECT_EQ(all<action::Locate>().size(), 2U) << "what came after the cut grows old as well";
}

// The store is being reopened: that it has no such place is not what it says.
TEST_F(Drops, WaitForAJournalThatCannotBeLookedAt) {
  StreamPolicy p = dropping(kUnlimited, 50);
  p.window_bytes = 2000;
  start(p);
  hello();
  lose(kSink, SinkLoss::connect_failed);
  for (int i = 0; !last<action::Locate>() && i < 1000; ++i) publish();
  ASSERT_TRUE(last<action::Locate>());
  step(event::Located{kSink, last<action::Locate>()->id, false, 0, 0, 0});
  EXPECT_TRUE(losses().empty());
  EXPECT_EQ(all<action::Locate>().size(), 1U) << "not again at once";
  pass(kLocateRetry);
  ASSERT_EQ(all<action::Locate>().size(), 2U);
  step(event::Located{kSink, last<action::Locate>()->id, true, 10, 1000, now.wall});
  ASSERT_EQ(losses().size(), 1U);
  EXPECT_EQ(losses()[0].last, 10U);
}

TEST_F(Drops, TakeNothingFromASinkThatCaughtUpMeanwhile) {
  StreamPolicy p = dropping(kUnlimited, 50);
  p.window_bytes = 1'000'000;
  p.sinks[0].max_in_flight = 1'000'000;
  start(p);
  hello();
  lose(kSink, SinkLoss::connect_failed);
  for (int i = 0; i < 50; ++i) publish();
  p.window_bytes = 2000;
  event::HelloCame again;
  again.resumes = true;
  start(p, stored, journal_end);  // now only the journal has them
  lose(kSink, SinkLoss::connect_failed);
  hello(again);
  forget();
  publish();
  ASSERT_TRUE(last<action::Locate>());
  const auto locate = *last<action::Locate>();
  come_back();
  ASSERT_TRUE(last<action::Read>());
  BlockInfo block;
  block.first = 1;
  block.last = 50;
  block.bytes = block.running_bytes = 5000;
  block.received = now.wall;
  step(event::ReadDone{kSink, last<action::Read>()->id, true, {block}, std::nullopt});
  ASSERT_EQ(machine->delivery(kSink).state(), State::live);
  step(event::Located{kSink, locate.id, true, 8, 800, now.wall});
  EXPECT_TRUE(losses().empty());
  EXPECT_EQ(machine->delivery(kSink).state(), State::live);
}

// A start that finds skips of the last life counts what waits behind them.
TEST_F(Drops, DoNotCountAsBacklogAfterAStart) {
  StreamPolicy p = dropping(11'000);
  DurableState found = open_store(300);
  found.sinks[0].skips = {{1, 204, LossReason::limit}};
  start_with_journal(p, found, 300, {20'400, now.wall});
  EXPECT_EQ(machine->backlog(kSink).bytes, 9600U);
  hello();
  publish();
  EXPECT_FALSE(machine->halted());
}

// What a sink reports is in the journal, and how much waits behind it is not known before it is
// read: a place to cut that lies before it says that less does.
TEST_F(Drops, AskOnceWhereASinkHoldsMoreThanWasKnown) {
  StreamPolicy p = dropping(10'000);
  p.window_bytes = 1000;
  start_with_journal(p, open_store(100), 100, {0, now.wall});
  hello();
  connect(kSink, Position{1, 90});
  ASSERT_EQ(machine->delivery(kSink).state(), State::replaying);
  publish();
  ASSERT_TRUE(last<action::Locate>());
  const auto locate = *last<action::Locate>();
  const Offset cut = locate.bytes_min / 100 + 1;
  step(event::Located{kSink, locate.id, true, cut, cut * 100, now.wall});
  EXPECT_TRUE(losses().empty());
  for (int i = 0; i < 12; ++i) publish();
  EXPECT_EQ(all<action::Locate>().size(), 1U);
}

// With a limit of nothing, what a stop left is replayed; only an attempt that fails lets it go.
TEST_F(Drops, OfNothingButLossesWhereAStopLeftSomething) {
  start(dropping(0));
  hello();
  connect();
  publish(5);
  step(event::StopAsked{});
  EXPECT_TRUE(last<action::StopDone>());
  EXPECT_TRUE(losses().empty());
  ASSERT_EQ(journal_end, 5U);
  forget();
  start(dropping(0), stored, journal_end);
  connect();
  EXPECT_TRUE(losses().empty());
  EXPECT_EQ(machine->delivery(kSink).state(), State::replaying);
  lose();
  ASSERT_EQ(losses().size(), 1U);
  EXPECT_TRUE(losses()[0].growing);
}

}  // namespace
}  // namespace spillway::recovery
