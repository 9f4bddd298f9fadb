// What the first Hello after a start makes of a store: held, cursors, and what is lost (D3, D4).
#include <gtest/gtest.h>

#include "tests/recovery/stream_fixture.h"

namespace spillway::recovery {
namespace {

class FirstHello : public StreamFixture {
 protected:
  static constexpr std::uint64_t kEpoch = 1'700'000'000;

  static Position at(Offset offset) { return {kEpoch, offset}; }

  // A store of one sink, all of whose records are in one epoch.
  static DurableState store(Offset cursor, Acks acks = Acks::all) {
    DurableState state;
    state.revision = 1;
    state.epochs = {{kEpoch, 0}};
    state.epoch_newest = kEpoch;
    state.acks = acks;
    state.generation = 1;
    SinkState sink;
    sink.name = "sink0";
    sink.identity = "test";
    sink.cursor = cursor;
    state.sinks = {sink};
    return state;
  }

  static StreamPolicy under(Acks acks) {
    StreamPolicy p = policy();
    p.acks = acks;
    return p;
  }

  void hello_after(std::optional<Offset> acknowledged, std::optional<Offset> oldest = {}) {
    event::HelloCame came;
    came.resumes = true;
    if (acknowledged) came.acknowledged = at(*acknowledged);
    if (oldest) came.oldest = at(*oldest);
    hello(came);
  }

  Position held() const {
    const auto welcome = last<action::Welcome>();
    return welcome ? welcome->held : Position{};
  }

  std::vector<std::pair<Offset, Offset>> lost() const {
    std::vector<std::pair<Offset, Offset>> ranges;
    for (const auto& a : all<action::Lost>()) ranges.emplace_back(a.loss.first, a.loss.last);
    return ranges;
  }
  using Ranges = std::vector<std::pair<Offset, Offset>>;
};

TEST_F(FirstHello, HoldsNoLessThanTheEndThroughWhichEverySinkTookAll) {
  DurableState closed = store(9);
  closed.closed_end = 9;
  start(policy(), closed);
  hello_after({});
  EXPECT_EQ(held(), at(9));
}

TEST_F(FirstHello, HoldsNoLessThanTheCheckpoint) {
  DurableState closed = store(5);
  closed.closed_end = 5;
  closed.checkpoint.at = 9;
  start(policy(), closed);
  hello_after(7);
  EXPECT_EQ(held(), at(9));
}

TEST_F(FirstHello, HoldsTheEndOfAnOpenJournalWhateverTheCheckpointSays) {
  DurableState open = store(2);
  open.open = true;
  open.first = 1;
  open.checkpoint.at = 5;
  start(policy(), open, 9);
  hello_after(5);
  EXPECT_EQ(held(), at(9));
}

TEST_F(FirstHello, GivesUpNothingThatASinkSaysItHas) {
  start(under(Acks::none), store(3, Acks::none));
  connect(kSink, at(6));
  hello_after(8);
  EXPECT_EQ(held(), at(8));
  EXPECT_EQ(lost(), (Ranges{{7, 8}}));
}

// A producer goes on after its mark: with one beyond held it would leave out what comes again.
TEST_F(FirstHello, ForgetsAMarkBeyondWhatIsHeld) {
  DurableState closed = store(3, Acks::none);
  closed.checkpoint.at = 8;
  closed.mark_offset = 8;
  closed.mark = "m8";
  start(under(Acks::none), closed);
  hello_after(8, 5);
  EXPECT_EQ(held(), at(4));
  ASSERT_TRUE(last<action::Welcome>());
  EXPECT_EQ(last<action::Welcome>()->mark, "");
  EXPECT_EQ(stored->mark, "");
}

TEST_F(FirstHello, ReadsAStoreUnderThePolicyThatIsStoredInIt) {
  start(under(Acks::none), store(3));
  hello_after(8, 5);
  EXPECT_EQ(held(), at(8));  // every sink took what was acknowledged
  EXPECT_EQ(lost(), Ranges{});
  EXPECT_EQ(stored->sinks[0].cursor, 8U);

  forget();
  start(under(Acks::all), store(3, Acks::none));
  hello_after(8, 5);
  EXPECT_EQ(held(), at(4));  // what comes after it comes again
  EXPECT_EQ(lost(), (Ranges{{4, 4}}));
  EXPECT_EQ(stored->sinks[0].cursor, 3U);
}

// An epoch began behind a record that a drop had let go, and a reset had taken up again: nobody
// ever acknowledged it, so no sink is sure to have it.
TEST_F(FirstHello, TakesNoSinkToHaveMoreThanWasAcknowledged) {
  DurableState closed = store(9);
  closed.closed_end = closed.checkpoint.at = 9;
  closed.epochs.push_back({kEpoch + 1, 10});
  start(policy(), closed);
  hello_after(9);
  EXPECT_EQ(held(), (Position{kEpoch + 1, 0}));
  EXPECT_EQ(stored->sinks[0].cursor, 9U);
  EXPECT_EQ(lost(), (Ranges{{10, 10}}));
  connect(kSink, at(9));
  EXPECT_NE(machine->delivery(kSink).state(), State::parked);
}

TEST_F(FirstHello, ReportsWhatWasAcknowledgedBeyondTheEndOfAnOpenJournal) {
  DurableState open = store(5);
  open.open = true;
  open.first = 1;
  open.checkpoint.at = 5;
  for (const OnGap on_gap : {OnGap::halt, OnGap::record}) {
    StreamPolicy p = policy();
    p.on_gap = on_gap;
    latch.clear();
    forget();
    start(p, open, 5);
    hello_after(8);
    EXPECT_TRUE(last<action::Note>());
    if (on_gap == OnGap::record) {
      EXPECT_EQ(lost(), (Ranges{{6, 8}}));
      EXPECT_EQ(held(), at(8));
    } else {
      ASSERT_TRUE(machine->halted());
      EXPECT_EQ(machine->causes()[0].kind, CauseKind::gap);
    }
  }
}

// Nothing came after an orderly stop, so whoever saw more acknowledged knew a newer store.
TEST_F(FirstHello, ReportsWhatWasAcknowledgedBeyondAnOrderlyStop) {
  DurableState stopped = store(5);
  stopped.closed_end = stopped.checkpoint.at = 5;
  stopped.clean_stop = true;
  StreamPolicy p = policy();
  p.on_gap = OnGap::record;
  start(p, stopped, 5);
  hello_after(8);
  EXPECT_TRUE(last<action::Note>());
  EXPECT_EQ(lost(), (Ranges{{6, 8}}));
  EXPECT_EQ(held(), at(8));
  EXPECT_EQ(stored->sinks[0].cursor, 5U);

  start(p, stopped, 5);
  forget();
  hello_after(8, 6);  // it has them still
  EXPECT_TRUE(lost().empty());
  EXPECT_EQ(held(), at(5));
}

TEST_F(FirstHello, HoldsWhatItHeldWhenTheJournalOfAClosedStoreIsShorter) {
  DurableState closed = store(9);
  closed.closed_end = closed.checkpoint.at = 9;
  high_water = 9;
  start(policy(), closed, 4);
  EXPECT_FALSE(machine->halted());
  hello_after(9);
  EXPECT_EQ(held(), at(9));
  connect();
  reopen(stored, 4);
  EXPECT_FALSE(machine->halted());
  EXPECT_EQ(machine->head(), 9U);
}

TEST_F(FirstHello, OpensNoEpochThatASinkHasNamed) {
  start(policy());
  connect(kSink, Position{kEpoch + 500, 3});
  hello();
  EXPECT_GT(held().epoch, kEpoch + 500);
}

TEST_F(FirstHello, RefusesARelayThatGoesBackToAnOlderEpoch) {
  start(policy(), store(0));
  event::HelloCame relay;
  relay.resumes = true;
  relay.wish = event::EpochWish::own;
  relay.own_epoch = kEpoch - 1;
  hello(relay);
  ASSERT_TRUE(last<action::Reject>());
  EXPECT_EQ(last<action::Reject>()->code, RejectCode::epoch);
  EXPECT_FALSE(last<action::Welcome>());
  relay.own_epoch = kEpoch;
  hello(relay);
  EXPECT_TRUE(last<action::Welcome>());
}

}  // namespace
}  // namespace spillway::recovery
