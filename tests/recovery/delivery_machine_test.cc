// The delivery machine, step by step.
#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "recovery/delivery_machine.h"

namespace spillway::recovery {
namespace {

class Delivery : public ::testing::Test {
 protected:
  Delivery() {
    window.clear(1);
    machine.emplace(SinkId{0}, policy, window, 1);
  }

  void step(const delivery::Event& event) {
    out.clear();
    machine->step(now, event, out);
  }
  template <class T>
  std::optional<T> find() const {
    for (const Action& action : out) {
      if (const T* found = std::get_if<T>(&action)) return *found;
    }
    return std::nullopt;
  }
  void push(Offset first, Offset last) {
    BlockInfo block;
    block.first = first;
    block.last = last;
    block.bytes = 10 * (last - first + 1);
    block.running_bytes = 10 * last;
    window.push(block);
  }
  void go_live() {
    step(delivery::Started{});
    step(delivery::Connected{Attempt{1}});
    step(delivery::Positioned{0});
  }
  // Connected, with 1 to 4 in the journal alone, and 5 and 6 in the window.
  void go_replaying() {
    window.clear(5);
    push(5, 6);
    step(delivery::Started{});
    step(delivery::Extended{6, 4});
    step(delivery::Connected{Attempt{1}});
    step(delivery::Positioned{0});
  }

  Instant now{Millis(1000)};
  SinkPolicy policy;
  WindowIndex window;
  std::optional<DeliveryMachine> machine;
  std::vector<Action> out;
};

TEST_F(Delivery, ConnectsAtOnceAndSendsNothingBeforeThePositionIsKnown) {
  step(delivery::Started{});
  EXPECT_TRUE(find<action::Connect>());
  push(1, 4);
  step(delivery::Extended{4, 0});
  step(delivery::Connected{Attempt{1}});
  EXPECT_FALSE(find<action::Send>());
  step(delivery::Positioned{0});
  ASSERT_TRUE(find<action::Send>());
  EXPECT_EQ(find<action::Send>()->last, 4u);
  EXPECT_EQ(machine->state(), State::live);
}

TEST_F(Delivery, SendsAgainWhatWasNotAcknowledgedWhenTheConnectionIsLost) {
  go_live();
  push(1, 4);
  step(delivery::Extended{4, 0});
  step(delivery::Acked{Attempt{1}, 2});
  step(delivery::Lost{Attempt{1}, SinkLoss::broken});
  EXPECT_EQ(machine->state(), State::journaling);
  EXPECT_EQ(machine->sent(), 2u);
  now = *machine->deadline();
  step(delivery::Ticked{});
  step(delivery::Connected{Attempt{2}});
  step(delivery::Positioned{0});
  EXPECT_EQ(find<action::Send>()->first, 3u);
}

TEST_F(Delivery, IgnoresWhateverCarriesAnOldAttempt) {
  go_live();
  push(1, 4);
  step(delivery::Extended{4, 0});
  step(delivery::Lost{Attempt{1}, SinkLoss::broken});
  step(delivery::Acked{Attempt{1}, 4});
  step(delivery::Connected{Attempt{1}});
  EXPECT_EQ(machine->acked(), 0u);
  EXPECT_FALSE(machine->connected());
}

TEST_F(Delivery, TakesAnAcknowledgementBeyondWhatWasSentForABreachOfTheProtocol) {
  go_live();
  push(1, 4);
  step(delivery::Extended{4, 0});
  step(delivery::Acked{Attempt{1}, 5});
  EXPECT_EQ(machine->acked(), 0u);
  EXPECT_EQ(find<action::Moved>()->cause, Cause::protocol);
}

// A receiver that assembles a record says nothing before it has all of it, so the limit would make
// it silent for ack_timeout, and begin anew, for ever (seed 2033370).
TEST_F(Delivery, LimitsTheRateOfAReplayOnlyBetweenRecords) {
  policy.replay_rate = 1;  // a byte per second
  machine.emplace(SinkId{0}, policy, window, 1);
  go_replaying();
  BlockInfo block;
  block.first = 1;
  block.last = 2;
  block.bytes = block.running_bytes = 20;
  block.inside_record = true;
  step(delivery::ReadDone{find<action::Read>()->id, true, {&block, 1}});
  ASSERT_TRUE(find<action::Read>());
  EXPECT_EQ(find<action::Read>()->from, 3u);
  block.first = 3;
  block.last = 3;
  block.bytes = 10;
  block.running_bytes = 30;
  block.inside_record = false;
  step(delivery::ReadDone{find<action::Read>()->id, true, {&block, 1}});
  EXPECT_FALSE(find<action::Read>());
  EXPECT_GE(*machine->deadline(), now + Millis(1));
}

TEST_F(Delivery, ReadsFromTheJournalWhatHasLeftTheWindow) {
  go_replaying();
  EXPECT_EQ(machine->state(), State::replaying);
  ASSERT_TRUE(find<action::Read>());
  EXPECT_EQ(find<action::Read>()->from, 1u);
  EXPECT_EQ(find<action::Read>()->through, 4u);
  EXPECT_FALSE(find<action::Send>());  // G3: nothing from memory while older ones are undelivered
}

TEST_F(Delivery, GivesUpASinkThatIsSilentForItsTimeout) {
  go_live();
  push(1, 4);
  step(delivery::Extended{4, 0});
  now = *machine->deadline();
  step(delivery::Ticked{});
  EXPECT_TRUE(find<action::Close>());
  EXPECT_EQ(find<action::Moved>()->cause, Cause::ack_timeout);
}

TEST_F(Delivery, SendsASkipInPlaceOfARangeThatPolicyLetGo) {
  step(delivery::Started{});
  push(1, 6);
  step(delivery::Extended{6, 0});
  step(delivery::Skipped{{2, 4, LossReason::limit}});
  step(delivery::Connected{Attempt{1}});
  step(delivery::Positioned{0});
  EXPECT_EQ(find<action::Send>()->last, 1u);
  EXPECT_EQ(find<action::SendSkip>()->first, 2u);
  EXPECT_EQ(find<action::SendSkip>()->last, 4u);
  EXPECT_EQ(machine->sent(), 6u);
}

TEST_F(Delivery, SendsTheRestOfASkipThatALaterOneLiesIn) {
  step(delivery::Started{});
  push(1, 8);
  step(delivery::Extended{8, 0});
  step(delivery::Skipped{{2, 6, LossReason::reset}});
  step(delivery::Skipped{{3, 4, LossReason::journal_loss}});
  step(delivery::Connected{Attempt{1}});
  step(delivery::Positioned{4});
  ASSERT_TRUE(find<action::SendSkip>());
  EXPECT_EQ(find<action::SendSkip>()->first, 5u);
  EXPECT_EQ(find<action::SendSkip>()->last, 6u);
}

TEST_F(Delivery, NeverSendsASkipBeyondTheHead) {
  step(delivery::Started{});
  step(delivery::Skipped{{1, 9, LossReason::limit}});
  push(1, 3);
  step(delivery::Extended{3, 0});
  step(delivery::Connected{Attempt{1}});
  step(delivery::Positioned{0});
  EXPECT_EQ(find<action::SendSkip>()->last, 3u);
  EXPECT_EQ(machine->sent(), 3u);
}

TEST_F(Delivery, ForgetsSkipsAndClaimsBeyondTheEndOfAnEpoch) {
  step(delivery::Started{});
  step(delivery::Skipped{{2, 9, LossReason::limit}});
  step(delivery::Connected{Attempt{1}});
  step(delivery::Positioned{7});
  step(delivery::Clamped{4});
  EXPECT_EQ(machine->acked(), 4u);
  for (const SkipRange& skip : machine->skips()) EXPECT_LE(skip.last, 4u);
}

TEST_F(Delivery, StopsSendingAtItsLimitOfBytesInFlight) {
  policy.max_in_flight = 25;
  machine.emplace(SinkId{0}, policy, window, 1);
  go_live();
  for (Offset offset = 1; offset <= 9; ++offset) push(offset, offset);
  step(delivery::Extended{9, 0});
  EXPECT_EQ(machine->sent(), 3u);
  step(delivery::Acked{Attempt{1}, 1});
  EXPECT_EQ(machine->sent(), 4u);
}

}  // namespace
}  // namespace spillway::recovery
