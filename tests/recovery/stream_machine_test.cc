#include <gtest/gtest.h>

#include <limits>

#include "tests/recovery/stream_fixture.h"

namespace spillway::recovery {
namespace {

class Stream : public StreamFixture {
 protected:
  // The sink was away for the first ten records, and has them now; coverage is still open.
  void catch_up() {
    start(policy());
    hello();
    publish(10);
    ASSERT_EQ(machine->coverage(), Coverage::open);
    connect();
    ack(10);
  }
  // That so many records were acknowledged; it still has what follows.
  static event::HelloCame of_one_who_saw(std::uint64_t acknowledged) {
    event::HelloCame hello;
    hello.acknowledged = Position{1'700'000'000, acknowledged};
    hello.oldest = Position{1'700'000'000, acknowledged + 1};
    hello.generation = 1;
    return hello;
  }
};

TEST_F(Stream, WelcomesTheFirstProducerOfANewStoreWithANewEpoch) {
  start(policy());
  hello();
  const auto welcome = last<action::Welcome>();
  ASSERT_TRUE(welcome);
  EXPECT_EQ(welcome->held, (Position{1'700'000'000, 0}));
  EXPECT_EQ(welcome->generation, 1U);
}

TEST_F(Stream, KeepsTheDiskIdleWhileTheSinkKeepsUp) {
  start(policy());
  hello();
  connect();
  forget();
  publish(10);
  ack(10);
  EXPECT_EQ(machine->coverage(), Coverage::closed);
  EXPECT_EQ(safe(), 10U);
  EXPECT_FALSE(last<action::Write>());
  EXPECT_EQ(last<action::Acknowledge>()->safe.sequence, 10U);
}

// Half of the window and a little, in records of a mebibyte, to a sink that takes half as much at
// once.
constexpr std::uint64_t kHalfAWindow = 33;

TEST_F(Stream, LeavesTheDiskIdleWhileMoreThanHalfAWindowMoves) {
  StreamPolicy moving = policy();
  moving.sinks[0].max_in_flight = std::uint64_t{64} << 20;
  start(moving);
  hello();
  connect();
  publish(kHalfAWindow, 1 << 20);
  for (Offset taken = 1; taken < 10; ++taken) {
    pass(Millis(20));
    publish(1, 1 << 20);
    ack(taken);
    EXPECT_EQ(machine->coverage(), Coverage::closed) << taken;
  }
}

TEST_F(Stream, JournalsWhenHalfAWindowStandsStillForAnEighthOfSpillAfter) {
  StreamPolicy still = policy();
  still.sinks[0].max_in_flight = std::uint64_t{64} << 20;
  start(still);
  hello();
  connect();
  publish(kHalfAWindow, 1 << 20);
  pass(Millis(24));
  EXPECT_EQ(machine->coverage(), Coverage::closed);
  ASSERT_TRUE(machine->deadline());
  EXPECT_LE(*machine->deadline(), now.steady + Millis(1));
  pass(Millis(1));
  EXPECT_NE(machine->coverage(), Coverage::closed);
}

TEST_F(Stream, JournalsAtOnceAQuarterOfTheWindowThatWasAcknowledgedOnReceipt) {
  StreamPolicy none = policy();
  none.acks = Acks::none;
  none.sinks[0].max_in_flight = std::uint64_t{64} << 20;
  start(none);
  hello();
  connect();
  publish(16, 1 << 20);
  EXPECT_EQ(machine->coverage(), Coverage::closed);
  publish(1, 1 << 20);
  EXPECT_NE(machine->coverage(), Coverage::closed);
}

TEST_F(Stream, SendsALiveSinkWhatComesFromMemory) {
  start(policy());
  hello();
  connect();
  forget();
  publish(10);
  const auto send = last<action::Send>();
  ASSERT_TRUE(send);
  EXPECT_EQ(send->first, 1U);
  EXPECT_EQ(send->last, 10U);
  EXPECT_EQ(send->source, Source::memory);
}

TEST_F(Stream, JournalsWhatASinkThatIsDownCannotTakeBeforeItIsAcknowledged) {
  start(policy());
  hello();
  auto_write = false;
  publish(10);
  ASSERT_EQ(writes.size(), 1U);
  EXPECT_TRUE(writes[0].state->open);
  EXPECT_EQ(writes[0].append_first, 1U);
  EXPECT_EQ(writes[0].append_last, 10U);
  EXPECT_EQ(safe(), 0U);
  finish_writes();
  EXPECT_EQ(safe(), 10U);
  EXPECT_EQ(machine->coverage(), Coverage::open);
}

TEST_F(Stream, HoldsAcknowledgementsWhileTheOpeningBatchIsUnderWay) {
  start(policy(2));
  hello();
  connect(SinkId{0});
  connect(SinkId{1});
  auto_write = false;
  lose(SinkId{1});
  publish(5);
  ack(5, SinkId{0});
  EXPECT_EQ(machine->coverage(), Coverage::opening);
  EXPECT_EQ(safe(), 0U);
}

TEST_F(Stream, ReplaysInOrderBeforeLiveTrafficResumesAndClosesCoverage) {
  StreamPolicy p = policy();
  p.window_bytes = 1000;
  start(p);
  hello();
  for (int i = 0; i < 10; ++i) publish(1, 100);
  EXPECT_GT(machine->window().first(), 1U);
  forget();
  connect();
  EXPECT_EQ(machine->delivery(kSink).state(), State::replaying);
  const auto read = last<action::Read>();
  ASSERT_TRUE(read);
  EXPECT_EQ(read->from, 1U);
  EXPECT_FALSE(last<action::Send>());
  event::ReadDone done;
  done.id = read->id;
  done.ok = true;
  BlockInfo block;
  block.first = 1;
  block.last = read->through;
  block.bytes = block.running_bytes = 100 * read->through;
  done.blocks = {block};
  step(done);
  EXPECT_EQ(machine->delivery(kSink).sent(), 10U);
  ack(10);
  EXPECT_EQ(machine->delivery(kSink).state(), State::live);
  pass(Millis(1));
  pass(kQuietBeforeClosing);
  EXPECT_EQ(machine->coverage(), Coverage::closed);
  EXPECT_FALSE(stored->open);
  EXPECT_EQ(stored->closed_end, 10U);
}

TEST_F(Stream, ClosesCoverageWhileAProducerNeverPauses) {
  catch_up();
  ASSERT_EQ(machine->delivery(kSink).state(), State::live);
  const Instant end = now.steady + 2 * kQuietBeforeClosing;
  while (now.steady < end) {
    pass(Millis(10));
    publish();
    ack(machine->head());
  }
  EXPECT_EQ(machine->coverage(), Coverage::closed);
  EXPECT_EQ(safe(), machine->head());
}

// It waits for its sinks to have the end that it closes at: one that dies meanwhile never has it.
TEST_F(Stream, TurnsBackFromClosingWhenASinkDiesBeforeItHasTheEnd) {
  catch_up();
  const Instant end = now.steady + 2 * kQuietBeforeClosing;
  while (machine->coverage() == Coverage::open && now.steady < end) {
    publish();
    ack(machine->head() - 1);
    pass(Millis(10));
  }
  ASSERT_EQ(machine->coverage(), Coverage::closing);
  lose();
  EXPECT_EQ(machine->coverage(), Coverage::open);
  publish();
  EXPECT_EQ(safe(), machine->head());
  EXPECT_EQ(journal_end, machine->head());
}

TEST_F(Stream, StartsWithWhatTheJournalHoldsAndNeedsNoProducerToReplay) {
  start(policy());
  hello();
  publish(10);
  const auto kept = stored;
  start(policy(), kept, journal_end);
  EXPECT_TRUE(machine->known());
  EXPECT_EQ(machine->head(), 10U);
  connect();
  EXPECT_EQ(machine->delivery(kSink).state(), State::replaying);
}

TEST_F(Stream, AfterACrashWhileClosedTakesTheProducersWordForWhatWasAcknowledged) {
  start(policy());
  hello();
  connect();
  publish(10);
  ack(10);
  const auto kept = stored;
  start(policy(), kept, journal_end);
  forget();
  hello(of_one_who_saw(10));
  ASSERT_TRUE(last<action::Welcome>());
  EXPECT_EQ(last<action::Welcome>()->held.sequence, 10U);
  EXPECT_EQ(stored->sinks[0].cursor, 10U);
}

TEST_F(Stream, AfterACrashSendsASinkNothingThatTheFirstHelloTellsItHas) {
  start(policy());
  hello();
  connect();
  publish(10);
  ack(10);
  start(policy(), stored, journal_end);
  connect();
  forget();
  hello(of_one_who_saw(10));
  EXPECT_EQ(machine->delivery(kSink).acked(), 10U);
  publish();
  EXPECT_FALSE(last<action::Read>());
  ASSERT_TRUE(last<action::Send>());
  EXPECT_EQ(last<action::Send>()->first, 11U);
}

TEST_F(Stream, OpensANewEpochWhenBrokerAndProducerHaveBothForgotten) {
  start(policy());
  hello();
  connect();
  publish(10);
  ack(10);
  start(policy(), stored, journal_end);
  forget();
  hello();
  EXPECT_EQ(last<action::Welcome>()->held, (Position{1'700'000'001, 0}));
}

TEST_F(Stream, LedgersWhatMayHaveBeenAcknowledgedFromMemoryBeforeBothForgot) {
  StreamPolicy none = policy();
  none.acks = Acks::none;
  start(none);
  hello();
  connect();
  publish(10);  // acknowledged; the sink has none of it, and nothing is durable yet
  forget();
  start(none, stored);
  hello();
  const auto lost = last<action::Lost>();
  ASSERT_TRUE(lost);
  EXPECT_TRUE(lost->loss.upper_bound);
  EXPECT_EQ(lost->loss.reason, LossReason::crash);
  EXPECT_EQ(lost->loss.first_position.sequence, 1U);
  EXPECT_EQ(lost->loss.last_position.sequence, std::numeric_limits<std::uint64_t>::max());
}

TEST_F(Stream, LedgersNothingUnderAllWhenBothForgot) {
  start(policy());
  hello();
  connect();
  publish(10);
  forget();
  start(policy(), stored);
  hello();
  EXPECT_FALSE(last<action::Lost>());
}

TEST_F(Stream, HaltsAtTheRecordThatWouldBeTooMuchAndResumesBelowTheLimit) {
  StreamPolicy p = policy();
  p.sinks[0].max_records = 10;
  start(p);
  hello();
  publish(10);
  EXPECT_FALSE(machine->halted());
  publish(1);
  EXPECT_TRUE(machine->halted());
  EXPECT_EQ(machine->head(), 10U);
  ASSERT_TRUE(last<action::Halt>());
  EXPECT_EQ(last<action::Halt>()->causes[0].kind, CauseKind::max_records);
  forget();
  connect();
  ack(10);
  EXPECT_FALSE(machine->halted());
  EXPECT_TRUE(last<action::Resume>());
}

TEST_F(Stream, TellsAProducerOnceWhereToGoOnHoweverMuchItHadOnItsWay) {
  StreamPolicy p = policy();
  p.sinks[0].max_records = 10;
  start(p);
  hello();
  publish(10);
  publish(1);
  ASSERT_TRUE(machine->halted());
  connect();
  ack(10);
  ASSERT_EQ(all<action::Resume>().size(), 1U);
  event::BatchCame late;
  late.session = kSession;
  late.first = machine->epochs().position_of(12);
  late.count = 1;
  late.bytes = 100;
  records = {RecordInfo{100, false, false, false}};
  late.records = records;
  step(late);
  step(late);
  EXPECT_EQ(all<action::Discard>().size(), 3U);
  EXPECT_EQ(all<action::Resume>().size(), 1U);
  publish(1);
  EXPECT_EQ(machine->head(), 11U);
}

TEST_F(Stream, TellsTheProducerOfAHaltOnlyOnceTheLatchIsDurable) {
  StreamPolicy p = policy();
  p.sinks[0].max_records = 1;
  start(p);
  hello();
  publish(1);
  auto_write = false;
  publish(1);
  EXPECT_TRUE(machine->halted());
  EXPECT_FALSE(last<action::Halt>());
  finish_writes();
  EXPECT_TRUE(last<action::Halt>());
}

TEST_F(Stream, TellsTheProducerAnywayWhenTheDiskTakesNoLatchForASecond) {
  StreamPolicy p = policy();
  p.sinks[0].max_records = 1;
  start(p);
  hello();
  publish(1);
  auto_write = false;
  publish(1);
  pass(kLatchPatience);
  EXPECT_TRUE(last<action::Halt>());
}

TEST_F(Stream, StaysHaltedOverARestartAndTellsWhoeverComes) {
  damage = "ten records are gone";
  start(policy());
  ASSERT_TRUE(machine->halted());
  ASSERT_EQ(latch.size(), 1U);
  damage.clear();  // somebody has put the file back; nobody has said that the loss is accepted
  start(policy(), stored, journal_end);
  EXPECT_TRUE(machine->halted());
  hello();
  publish();
  EXPECT_EQ(machine->head(), 0U);
  ASSERT_TRUE(last<action::Welcome>());
  ASSERT_EQ(last<action::Welcome>()->halted.size(), 1U);
  EXPECT_EQ(last<action::Welcome>()->halted[0].kind, CauseKind::journal_damaged);
}

TEST_F(Stream, DropsWhileTheSinkIsDownAndSendsASkipWhenItIsBack) {
  StreamPolicy p = policy();
  p.sinks[0].max_bytes = 0;
  p.sinks[0].on_limit = OnLimit::drop_oldest;
  start(p);
  hello();
  connect();
  publish(5);
  ack(5);
  lose();
  publish(5);
  publish(5);
  EXPECT_EQ(safe(), 15U);
  const auto before = machine->delivery(kSink).attempt();
  pass(Millis(2000));
  EXPECT_NE(machine->delivery(kSink).attempt(), before);
  forget();
  connect();
  ASSERT_TRUE(last<action::SendSkip>());
  EXPECT_EQ(last<action::SendSkip>()->first, 6U);
  EXPECT_EQ(last<action::SendSkip>()->last, 15U);
  ack(15);
  publish(1);
  EXPECT_EQ(last<action::Send>()->first, 16U);
}

// A disk that refuses: the oldest eighth goes, once, and only another refusal takes the next eighth
// of what is left.
TEST_F(Stream, DropsAnEighthOnceForEachRefusalOfTheDisk) {
  StreamPolicy p = policy();
  p.sinks[0].on_limit = OnLimit::drop_oldest;
  p.window_bytes = 2400;
  start(p);
  hello();
  for (int i = 0; i < 10; ++i) publish(8);  // 8,000 bytes, most of them only in the journal
  auto_write = false;
  const auto refuse = [&] {
    ASSERT_FALSE(writes.empty());
    ASSERT_NE(writes.back().append_last, 0U);
    step(event::Written{writes.back().id, WriteOutcome::disk_bound});
    writes.clear();
  };
  publish(8);
  forget();
  refuse();
  ASSERT_EQ(all<action::Locate>().size(), 1U);
  EXPECT_EQ(last<action::Locate>()->bytes_min, 1100U);  // an eighth of 8,800
  step(event::Located{kSink, last<action::Locate>()->id, true, 11, 1100, 0});
  finish_writes();  // the skip
  for (int i = 0; i < 3; ++i) step(event::Ticked{});
  EXPECT_EQ(all<action::Locate>().size(), 1U) << "while the disk has not been tried again";

  forget();
  pass(kDiskRetry);
  refuse();
  ASSERT_EQ(all<action::Locate>().size(), 1U);
  EXPECT_EQ(last<action::Locate>()->bytes_min, 1100U + (8800 - 1100) / 8);
}

// What the journal does not have frees nothing when it is let go.
TEST_F(Stream, HaltsWhereNothingIsLeftToDropThatFreesTheDisk) {
  StreamPolicy p = policy();
  p.sinks[0].on_limit = OnLimit::drop_oldest;
  start(p);
  hello();
  publish(8);
  ASSERT_EQ(machine->journal_end(), 8U);
  auto_write = false;
  publish(8);
  forget();
  for (int i = 0; i < 5 && !machine->halted(); ++i) {
    while (!writes.empty()) {
      const auto write = writes.front();
      writes.erase(writes.begin());
      const bool appends = write.append_last != 0;
      step(event::Written{write.id, appends ? WriteOutcome::min_free : WriteOutcome::ok});
    }
    if (last<action::Locate>()) {
      step(event::Located{kSink, last<action::Locate>()->id, true, 8, 800, now.wall});
    }
    pass(kDiskRetry);
  }
  EXPECT_TRUE(machine->halted());
  for (const auto& lost : all<action::Lost>()) EXPECT_LE(lost.loss.last, 8U);
  EXPECT_LE(machine->effective(kSink), 8U);
}

// What one sink lets go of frees nothing while another still needs it.
TEST_F(Stream, DropsNothingAtAFullDiskBesideASinkThatWaitsForTheSameAndDoesNotDrop) {
  for (const OnLimit other : {OnLimit::halt, OnLimit::block}) {
    StreamPolicy p = policy(2);
    p.sinks[0].on_limit = OnLimit::drop_oldest;
    p.sinks[1].on_limit = other;
    start(p, {}, 0);
    hello();
    publish(8);
    ASSERT_EQ(machine->journal_end(), 8U);
    auto_write = false;
    publish(8);
    forget();
    for (int i = 0; i < 3; ++i) {
      while (!writes.empty()) {
        const auto write = writes.front();
        writes.erase(writes.begin());
        const bool appends = write.append_last != 0;
        step(event::Written{write.id, appends ? WriteOutcome::disk_bound : WriteOutcome::ok});
      }
      pass(kDiskRetry);
    }
    EXPECT_FALSE(last<action::Locate>());
    EXPECT_TRUE(all<action::Lost>().empty());
    EXPECT_EQ(machine->halted(), other == OnLimit::halt);
    EXPECT_EQ(machine->blocked(), other == OnLimit::block);
    EXPECT_EQ(safe(), 8U);
    auto_write = true;
    finish_writes();
    step(event::DiskHasRoom{});
    EXPECT_EQ(safe(), 16U);
    EXPECT_FALSE(machine->halted());
    EXPECT_FALSE(machine->blocked());
    forget();
  }
}

// Where a crash left a checkpoint behind what the producer saw acknowledged.
TEST_F(Stream, StopsWhileAFirstHelloIsResolved) {
  start(policy());
  hello();
  connect();
  publish(5);
  ack(5);
  pass(Millis(1000));
  DurableState found = *stored;
  publish(5);
  ack(10);
  start(policy(), found);
  auto_write = false;
  event::HelloCame again;
  again.acknowledged = Position{machine->epochs().current(), 10};
  hello(again);
  step(event::StopAsked{});
  finish_writes();
  EXPECT_TRUE(last<action::StopDone>());
  EXPECT_EQ(stored->sinks[0].cursor, 10U);
}

TEST_F(Stream, KeepsAResetThatBecomesDurableWhileItStops) {
  start(policy());
  hello();
  connect();
  publish(8);
  ack(8);
  auto_write = false;
  step(event::SinkReset{9, kSink, Position{machine->epochs().current(), 5}});
  step(event::StopAsked{});
  finish_writes();
  ASSERT_TRUE(last<action::StopDone>());
  EXPECT_EQ(stored->sinks[0].cursor, 4U);
}

TEST_F(Stream, FencesAnOlderGeneration) {
  start(policy());
  hello();
  step(event::SessionEnded{kSession});
  event::HelloCame second;
  second.session = SessionId{2};
  hello(second);
  event::HelloCame first_again;
  first_again.session = SessionId{3};
  first_again.generation = 1;
  forget();
  hello(first_again);
  ASSERT_TRUE(last<action::Reject>());
  EXPECT_EQ(last<action::Reject>()->code, RejectCode::fenced);
  EXPECT_FALSE(last<action::Reject>()->retryable);
}

TEST_F(Stream, FencesAHelloThatStillWaitsWhenAnotherProducerComes) {
  start(policy());
  auto_write = false;  // Welcome waits for its write
  event::HelloCame first;
  first.session = SessionId{1};
  hello(first);
  event::HelloCame second;
  second.session = SessionId{2};
  hello(second);
  ASSERT_TRUE(last<action::Reject>());
  EXPECT_EQ(last<action::Reject>()->session, SessionId{1});
  EXPECT_EQ(last<action::Reject>()->code, RejectCode::fenced);
  EXPECT_FALSE(last<action::Reject>()->retryable);
}

TEST_F(Stream, TellsWhoReconnectsAParkedOrPausedSinkThatItTakesAResume) {
  start(policy());
  hello();
  connect(kSink, Position{});
  publish(10);
  reject(1);
  ASSERT_EQ(machine->delivery(kSink).state(), State::parked);
  const auto answer = [this](SinkCommand command) {
    forget();
    step(event::SinkCommanded{7, kSink, command});
    return last<action::Reply>().value_or(action::Reply{0, false, "none"});
  };
  EXPECT_FALSE(answer(SinkCommand::reconnect).ok);
  EXPECT_NE(answer(SinkCommand::reconnect).text.find("sink resume"), std::string::npos);
  EXPECT_TRUE(answer(SinkCommand::resume).ok);
  EXPECT_TRUE(answer(SinkCommand::reconnect).ok);
  EXPECT_TRUE(answer(SinkCommand::pause).ok);
  EXPECT_FALSE(answer(SinkCommand::reconnect).ok);
}

TEST_F(Stream, StopsOnlyWhenWhatIsInMemoryIsSafe) {
  start(policy());
  hello();
  connect();
  publish(10);
  auto_write = false;
  step(event::StopAsked{});
  EXPECT_FALSE(last<action::StopDone>());
  ASSERT_EQ(writes.size(), 1U);
  EXPECT_EQ(writes[0].append_last, 10U);
  finish_writes();
  EXPECT_TRUE(last<action::StopDone>());
}

TEST_F(Stream, StopsAtOnceAndForGoodWhereTheJournalTakesNothing) {
  start(policy());
  hello();
  connect();
  publish(10);
  lose();
  const auto back_off = machine->delivery(kSink).deadline();
  ASSERT_TRUE(back_off);
  auto_write = false;
  forget();
  step(event::StopAsked{false});
  EXPECT_TRUE(last<action::StopDone>());
  EXPECT_FALSE(machine->deadline());
  pass(std::chrono::duration_cast<Millis>(*back_off - now.steady) + Millis(1));
  EXPECT_FALSE(last<action::Connect>());
  EXPECT_FALSE(last<action::Write>());
}

TEST_F(Stream, ParksASinkThatIsBehindWhatItHadAcknowledged) {
  start(policy());
  hello();
  connect(kSink, Position{});
  publish(10);
  ack(10);
  lose();
  pass(Millis(2000));
  connect(kSink, Position{1'700'000'000, 4});
  EXPECT_EQ(machine->delivery(kSink).state(), State::parked);
  EXPECT_EQ(machine->standing(kSink).took, 4U);
  EXPECT_EQ(machine->standing(kSink).passed, 4U);
}

TEST_F(Stream, LedgersOfASinkThatParkedForWhatItRefusedOnlyWhatAResetPasses) {
  start(policy());
  hello();
  connect(kSink, Position{machine->epochs().current(), 0});
  publish(5);
  ack(2);
  reject(3);
  ASSERT_EQ(machine->delivery(kSink).state(), State::parked);
  EXPECT_EQ(machine->standing(kSink).passed, 2U);
  step(event::SinkReset{1, kSink, Position{machine->epochs().current(), 4}});
  ASSERT_EQ(all<action::Lost>().size(), 1U);
  EXPECT_EQ(last<action::Lost>()->loss.first, 3U);
  EXPECT_EQ(last<action::Lost>()->loss.last, 3U);
}

TEST_F(Stream, ResetsToTheRecordBeforeAPositionAsFarAsRecordsExist) {
  start(policy());
  hello();
  publish(5);
  const std::uint64_t epoch = machine->epochs().current();
  const auto target = [this](Position from) { return machine->reset_target(from); };
  EXPECT_EQ(machine->reset_target({}), 5U);
  EXPECT_EQ(target({epoch, 0}), 0U);
  EXPECT_EQ(target({epoch, 3}), 2U);
  EXPECT_EQ(target({epoch, 9}), 5U);
  EXPECT_EQ(target({epoch - 1, 9}), 0U);
  EXPECT_EQ(target({epoch + 1, 1}), std::nullopt);
}

TEST_F(Stream, WritesADeadLetterBeforeAnythingBeyondItIsSent) {
  StreamPolicy p = policy();
  p.sinks[0].on_reject = OnReject::dead_letter;
  start(p);
  hello();
  connect();
  publish(5);
  auto_write = false;
  forget();
  reject(3);
  EXPECT_FALSE(last<action::Connect>());
  finish_writes();
  EXPECT_TRUE(last<action::Connect>());
  EXPECT_EQ(stored->sinks[0].skips.size(), 1U);
}

TEST_F(Stream, GoesOnAfterAFailedWriteThatLandedAllTheSame) {
  start(policy());
  hello();
  auto_write = false;
  publish(5);
  const auto write = writes.front();
  writes.clear();
  step(event::Written{write.id, WriteOutcome::failed});
  EXPECT_EQ(safe(), 0U);
  step(event::JournalReopened{*write.state, 5, {}});
  EXPECT_EQ(safe(), 5U);
  ASSERT_EQ(writes.size(), 1U) << "whether it takes writes again";
  EXPECT_EQ(writes[0].append_last, 0U);
}

TEST_F(Stream, AppendsAgainAfterAFailedWriteThatDidNotLand) {
  start(policy());
  hello();
  const auto before = stored;
  auto_write = false;
  publish(5);
  const auto write = writes.front();
  writes.clear();
  step(event::Written{write.id, WriteOutcome::failed});
  step(event::JournalReopened{before, 0, {}});
  ASSERT_EQ(writes.size(), 1U);
  EXPECT_EQ(writes[0].append_last, 5U);
  EXPECT_EQ(safe(), 0U);
}

}  // namespace
}  // namespace spillway::recovery
