// What went wrong in the simulator once, each by hand.
#include <gtest/gtest.h>

#include "tests/recovery/stream_fixture.h"

namespace spillway::recovery {
namespace {

class Found : public StreamFixture {
 protected:
  static constexpr std::uint64_t kEpoch = 1'700'000'000;
};

TEST_F(Found, AGapIsNeitherSentNorAcknowledgedBeforeItIsInTheLedger) {
  StreamPolicy p = policy();
  p.on_gap = OnGap::record;
  start(p);
  hello();
  connect();
  publish(5);
  ack(5);
  step(event::SessionEnded{kSession});
  auto_write = false;
  forget();
  event::HelloCame again;
  again.acknowledged = Position{kEpoch, 5};
  again.oldest = Position{kEpoch, 8};
  again.generation = 1;
  hello(again);
  ASSERT_TRUE(last<action::AdmitSkip>());
  EXPECT_FALSE(last<action::Send>());
  EXPECT_EQ(safe(), 5U);
  finish_writes();
  ASSERT_TRUE(last<action::Send>());
  EXPECT_EQ(last<action::Send>()->first, 6U);
  EXPECT_EQ(last<action::Send>()->last, 7U);
}

TEST_F(Found, AGapThatTheProducerFillsAfterAllHaltsNoLonger) {
  start(policy());
  hello();
  connect();
  publish_part(false, true);
  step(event::SessionEnded{kSession});
  event::HelloCame again;
  again.oldest = Position{kEpoch, 3};
  again.resumes = true;
  again.generation = 1;
  hello(again);
  ASSERT_TRUE(machine->halted());
  publish_part(true, false);
  EXPECT_FALSE(machine->halted());
  step(event::HaltCleared{1, true, {}, {}});
  EXPECT_EQ(machine->head(), 2U);
}

TEST_F(Found, AProducerWhoseRecordsWereDiscardedHearsWhereToGoOnThoughItHeardNoHalt) {
  StreamPolicy p = policy();
  p.sinks[0].max_records = 4;
  start(p);
  hello();
  publish(4);
  auto_write = false;
  publish(1);
  ASSERT_TRUE(machine->halted());
  ASSERT_FALSE(last<action::Halt>());
  connect();
  ack(4);
  finish_writes();
  EXPECT_FALSE(machine->halted());
  EXPECT_TRUE(last<action::Resume>());
}

TEST_F(Found, NoMoreIsReadThanMayBeInFlight) {
  StreamPolicy p = policy();
  p.window_bytes = 1000;
  p.sinks[0].max_in_flight = 250;
  start(p);
  hello();
  for (int i = 0; i < 10; ++i) publish(1, 100);
  connect();
  ASSERT_TRUE(last<action::Read>());
  EXPECT_LE(last<action::Read>()->max_bytes, 250U);
}

TEST_F(Found, WhatTheDiskRefusedBeforeARestartIsNotHeldAgainstIt) {
  latch = {{CauseKind::disk_bound, "", {}, 0, "max_disk_bytes is used up"}};
  start(policy());
  EXPECT_FALSE(machine->halted());
}

TEST_F(Found, ASinkIsNeverRewoundBeforeTheWatermark) {
  start(policy());
  hello();
  publish(10);
  connect();
  ack(10);
  pass(Millis(1000));
  forget();
  step(event::SinkReset{1, kSink, Position{kEpoch, 2}});
  ASSERT_TRUE(last<action::Lost>());
  EXPECT_EQ(last<action::Lost>()->loss.first, 2U);
  EXPECT_EQ(last<action::Lost>()->loss.last, 10U);
  EXPECT_EQ(last<action::Reply>()->text, "goes on after 1700000000/10");
}

TEST_F(Found, WhatAResetCannotGiveIsLedgeredOnce) {
  start(policy());
  hello();
  publish(10);
  connect();
  ack(10);
  pass(Millis(1000));
  const auto reset = [this](std::uint64_t sequence) {
    forget();
    step(event::SinkReset{1, kSink, Position{kEpoch, sequence}});
    std::vector<std::pair<Offset, Offset>> lost;
    for (const auto& a : all<action::Lost>()) lost.emplace_back(a.loss.first, a.loss.last);
    return lost;
  };
  using Ranges = std::vector<std::pair<Offset, Offset>>;
  EXPECT_EQ(reset(5), (Ranges{{5, 10}}));
  EXPECT_EQ(reset(5), Ranges{});
  EXPECT_EQ(reset(2), (Ranges{{2, 4}}));
  EXPECT_EQ(reset(1), (Ranges{{1, 1}}));
  EXPECT_EQ(reset(1), Ranges{});
}

// Else one producer after the other would fill the cache that a limit bounds.
TEST_F(Found, WhereALimitBlocksNoFurtherProducerMayFillTheWindow) {
  StreamPolicy p = policy();
  p.window_bytes = 4000;
  p.sinks[0].max_records = 5;
  p.sinks[0].on_limit = OnLimit::block;
  start(p);
  hello();
  const auto next = [this](std::uint64_t session) {
    step(event::SessionEnded{SessionId{session - 1}});
    event::HelloCame again;
    again.session = SessionId{session};
    forget();
    hello(again);
    return last<action::Welcome>().has_value();
  };
  for (int i = 0; i < 20; ++i) publish(1);
  ASSERT_TRUE(machine->blocked());
  EXPECT_TRUE(next(2)) << "within what one producer may have in flight";
  for (int i = 0; i < 20; ++i) publish(1);
  EXPECT_FALSE(next(3));
  step(event::SinkReset{1, kSink, std::nullopt});  // nothing waits for the sink any more
  EXPECT_FALSE(machine->blocked());
  EXPECT_TRUE(last<action::Welcome>());
}

TEST_F(Found, AnExtensionIsForWhatHasTrippedAndIsKeptOnlyWhereItEndsTheHalt) {
  StreamPolicy p = policy(2);
  p.sinks[0].max_bytes = 1000;
  p.sinks[1].max_bytes = 100'000;
  start(p);
  hello();
  for (int i = 0; i < 15; ++i) publish(1);
  ASSERT_TRUE(machine->halted());
  const auto clear = [this](std::optional<Millis> time, std::optional<std::uint64_t> bytes) {
    forget();
    step(event::HaltCleared{1, false, time, bytes});
    return *last<action::Reply>();
  };
  EXPECT_FALSE(clear(Millis(60'000), {}).ok);
  EXPECT_NE(last<action::Reply>()->text.find("--extend SIZE"), std::string::npos);
  EXPECT_FALSE(clear({}, 1).ok);
  EXPECT_FALSE(clear({}, 1).ok);
  EXPECT_TRUE(clear({}, 1000).ok);
  for (int i = 0; i < 30; ++i) publish(1);
  EXPECT_TRUE(machine->halted());
  EXPECT_EQ(machine->backlog(kSink).bytes, 2000U) << "what was too little is not kept";
}

TEST_F(Found, ACleanStopEndsWithTheNextHello) {
  start(policy());
  hello();
  connect();
  publish(5);
  ack(5);
  step(event::StopAsked{});
  ASSERT_TRUE(stored->clean_stop);
  start(policy(), stored, journal_end);
  hello();
  EXPECT_FALSE(stored->clean_stop);
}

TEST_F(Found, AnOutageIsDurableWhenItBegins) {
  start(policy());
  hello();
  connect();
  publish(5);
  lose();
  ASSERT_EQ(machine->delivery(kSink).state(), State::journaling);
  EXPECT_NE(stored->sinks[0].outage_since, 0);
}

TEST_F(Found, AJournalThatFailsBeforeTheFirstWelcomeHaltsTheStream) {
  StreamPolicy p = policy();
  start(p);
  auto_write = false;
  hello();
  ASSERT_EQ(writes.size(), 1U);
  step(event::Written{writes[0].id, WriteOutcome::failed});
  pass(p.journal_timeout);
  ASSERT_TRUE(machine->halted());
  EXPECT_EQ(machine->causes()[0].kind, CauseKind::journal_failing);
}

TEST_F(Found, ASinkThatIsMovedCountsAsMovedOnlyOnceThatIsDurable) {
  start(policy());
  hello();
  publish(10);
  connect();
  auto_write = false;
  forget();
  step(event::SinkReset{1, kSink, std::nullopt});
  EXPECT_FALSE(last<action::Connect>());
  EXPECT_FALSE(last<action::Reply>());
  EXPECT_EQ(machine->effective(kSink), 0U);
  finish_writes();
  EXPECT_TRUE(last<action::Connect>());
  EXPECT_TRUE(last<action::Reply>());
}

TEST_F(Found, NoCheckpointIsWrittenMoreOftenThanItsInterval) {
  start(policy());
  hello();
  connect();
  forget();
  for (int i = 0; i < 300; ++i) {
    publish();
    ack(machine->head());
    pass(Millis(10));
  }
  EXPECT_EQ(machine->coverage(), Coverage::closed);
  std::size_t checkpoints = 0;
  Offset at = 0;
  for (const Action& action : actions) {
    const auto* write = std::get_if<action::Write>(&action);
    if (write == nullptr) continue;
    EXPECT_EQ(write->append_last, 0U);
    EXPECT_GE(write->state->checkpoint.at, at);
    at = write->state->checkpoint.at;
    ++checkpoints;
  }
  EXPECT_GE(checkpoints, 2U);
  EXPECT_LE(checkpoints, 4U);
}

// Each by itself they would be a sync each: 2 KiB/s for every further stream.
TEST_F(Found, CheckpointsOfAllStreamsFallOnOneMoment) {
  now.steady += Millis(370);
  start(policy());
  hello();
  connect();
  forget();
  auto_write = false;
  for (int i = 0; i < 400; ++i) {
    publish();
    ack(machine->head());
    pass(Millis(7));
    if (writes.empty()) continue;
    EXPECT_LT((now.steady.time_since_epoch() % Millis(1000)), Millis(7));
    finish_writes();
  }
  EXPECT_EQ(all<action::Write>().size(), 3U);
}

TEST_F(Found, WithoutAnIntervalTheCheckpointIsDurableBeforeTheAcknowledgement) {
  StreamPolicy p = policy();
  p.checkpoint_interval = Millis(0);
  start(p);
  hello();
  connect();
  auto_write = false;
  publish(5);
  ack(5);
  EXPECT_EQ(safe(), 0U);
  finish_writes();
  EXPECT_EQ(safe(), 5U);
}

TEST_F(Found, WhatASinkThatIsAheadMayHaveSkippedDoesNotCountTowardsTheQuorum) {
  StreamPolicy p = policy(2);
  p.acks = Acks::quorum;
  p.quorum = 1;
  start(p);
  hello();
  connect(SinkId{0});
  connect(SinkId{1});
  publish(5);
  ack(5, SinkId{0});
  ack(5, SinkId{1});
  pass(Millis(1000));
  start(p, stored, journal_end);
  event::HelloCame again;
  again.acknowledged = Position{kEpoch, 5};
  again.generation = 1;
  hello(again);
  connect(SinkId{0}, Position{kEpoch, 8});
  connect(SinkId{1});
  publish(3);
  ASSERT_EQ(machine->coverage(), Coverage::closed);
  EXPECT_EQ(safe(), 5U);
  ack(8, SinkId{1});
  EXPECT_EQ(safe(), 8U);
}

TEST_F(Found, NothingIsTrimmedBeforeTheWatermarkIsDurable) {
  start(policy());
  hello();
  publish(10);
  connect();
  auto_write = false;
  forget();
  ack(10);
  pass(Millis(1000));
  ASSERT_FALSE(writes.empty());
  EXPECT_EQ(writes.back().watermark, 10U);
  EXPECT_FALSE(last<action::Trim>());
  finish_writes();
  EXPECT_TRUE(last<action::Trim>());
}

TEST_F(Found, ASinkOfAnEpochNewerThanAllThatAreKnownIsParked) {
  start(policy());
  hello();
  connect(kSink, Position{kEpoch + 5, 3});
  EXPECT_EQ(machine->delivery(kSink).state(), State::parked);
  publish(1);
  EXPECT_FALSE(last<action::Send>());
}

TEST_F(Found, WhatASinkDoesNotTakeInTimeIsJournaled) {
  StreamPolicy p = policy();
  start(p);
  hello();
  connect();
  publish(5);
  pass(p.spill_after - Millis(1));
  EXPECT_EQ(safe(), 0U);
  pass(Millis(1));
  EXPECT_EQ(machine->coverage(), Coverage::open);
  EXPECT_EQ(safe(), 5U);
}

TEST_F(Found, AProducerThatSendsMoreThanMayBeInFlightIsRefused) {
  StreamPolicy p = policy();
  p.window_bytes = 1000;
  start(p);
  hello();
  auto_write = false;
  for (int i = 0; i < 8; ++i) publish(1, 100);
  EXPECT_FALSE(last<action::Reject>());
  publish(1, 100);
  publish(1, 100);
  ASSERT_TRUE(last<action::Reject>());
  EXPECT_EQ(last<action::Reject>()->code, RejectCode::in_flight);
}

TEST_F(Found, AProducerThatCountsItsOwnRecordsIsNotRefusedWhereABlockIsAcknowledgedInPart) {
  StreamPolicy p = policy();
  p.window_bytes = 1000;  // 750 in flight
  start(p);
  hello();
  connect();
  records = {RecordInfo{700, false, false, false}, RecordInfo{10, false, false, false}};
  event::BatchCame large;
  large.session = kSession;
  large.first = {kEpoch, 1};
  large.count = 2;
  large.bytes = 710;
  large.records = records;
  step(large);
  ack(1);
  ASSERT_EQ(safe(), 1U);
  publish(1, 600);
  publish(1, 140);
  EXPECT_FALSE(last<action::Reject>());
}

TEST_F(Found, WhatOnlyMemoryHeldIsSentAgainByAProducerThatStillHasIt) {
  StreamPolicy p = policy();
  p.acks = Acks::none;
  p.checkpoint_interval = Millis(50);
  start(p);
  hello();
  connect();
  publish(2);
  publish(3);
  ack(2);
  pass(Millis(50));
  ASSERT_EQ(stored->checkpoint.at, 5U);
  start(p, stored, journal_end);
  event::HelloCame again;
  again.acknowledged = Position{kEpoch, 5};
  again.oldest = Position{kEpoch, 1};
  again.generation = 1;
  hello(again);
  EXPECT_EQ(last<action::Welcome>()->held, (Position{kEpoch, 2}));
}

TEST_F(Found, AGapIsNotAcknowledgedForASinkThatLetsEverythingGoBeforeItIsInTheLedger) {
  StreamPolicy p = policy();
  p.on_gap = OnGap::record;
  p.sinks[0].max_bytes = 0;
  p.sinks[0].on_limit = OnLimit::drop_oldest;
  start(p);
  hello();
  connect();
  publish(5);
  ack(5);
  lose();
  publish(5);
  ASSERT_EQ(safe(), 10U);
  step(event::SessionEnded{kSession});
  auto_write = false;
  event::HelloCame again;
  again.acknowledged = Position{kEpoch, 10};
  again.oldest = Position{kEpoch, 13};
  again.generation = 1;
  hello(again);
  ASSERT_EQ(machine->head(), 12U);
  EXPECT_EQ(safe(), 10U);
  finish_writes();
  EXPECT_EQ(safe(), 12U);
}

TEST_F(Found, ANewEpochIsDurableBeforeAWelcomeNamesIt) {
  start(policy());
  hello();
  connect();
  publish(5);
  ack(5);
  step(event::SessionEnded{kSession});
  auto_write = false;
  event::HelloCame anew;
  anew.acknowledged = Position{kEpoch, 5};
  anew.generation = 1;
  anew.wish = event::EpochWish::assign;
  forget();
  hello(anew);
  EXPECT_FALSE(last<action::Welcome>());
  finish_writes();
  ASSERT_TRUE(last<action::Welcome>());
  EXPECT_EQ(last<action::Welcome>()->held, (Position{kEpoch + 1, 0}));
  EXPECT_EQ(stored->epochs.back().number, kEpoch + 1);
}

}  // namespace
}  // namespace spillway::recovery
