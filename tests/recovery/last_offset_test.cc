// How many records a stream can have: what would be more is refused before any of it is taken.
#include <gtest/gtest.h>

#include <limits>

#include "tests/recovery/stream_fixture.h"

namespace spillway::recovery {
namespace {

class LastOffset : public StreamFixture {
 protected:
  void begin(OnGap on_gap = OnGap::halt) {
    StreamPolicy p = policy();
    p.on_gap = on_gap;
    start(p);
    hello();
    ASSERT_TRUE(last<action::Welcome>());
    connect();
    forget();
  }

  // A skip of `count` from the record after the head on.
  event::BatchCame skip(std::uint64_t count) const {
    event::BatchCame batch;
    batch.session = machine->session().value_or(kSession);
    const std::uint64_t before = machine->head() - machine->epochs().current_base();
    batch.first = {machine->epochs().current(), before + 1};
    batch.count = count;
    batch.skip = LossReason::filter;
    return batch;
  }

  // The next producer's Hello, once the one before it has left.
  void next_hello(event::HelloCame came) {
    if (machine->session()) step(event::SessionEnded{*machine->session()});
    came.session = SessionId{++sessions_};
    forget();
    hello(came);
  }

  void new_epoch() {
    ack(machine->head());  // an epoch begins once what lies before it is safe
    event::HelloCame came;
    came.wish = event::EpochWish::assign;
    next_hello(came);
    ASSERT_TRUE(last<action::Welcome>());
    forget();
  }

  bool refused() const {
    const auto reject = last<action::Reject>();
    return reject && reject->code == RejectCode::malformed;
  }

  std::uint64_t sessions_ = value_of(kSession);
};

TEST_F(LastOffset, IsTakenAndNothingAfterIt) {
  begin();
  step(skip(kMaxOffset));
  EXPECT_FALSE(refused());
  EXPECT_EQ(machine->head(), kMaxOffset);
  new_epoch();
  publish();
  EXPECT_TRUE(refused());
  EXPECT_EQ(machine->head(), kMaxOffset);
}

TEST_F(LastOffset, IsCountedOverAllEpochs) {
  begin();
  step(skip(kMaxOffset - 2));
  new_epoch();
  publish(3);
  EXPECT_TRUE(refused());
  EXPECT_EQ(machine->head(), kMaxOffset - 2);
  forget();
  publish(2);
  EXPECT_FALSE(refused());
  EXPECT_EQ(machine->head(), kMaxOffset);
}

TEST_F(LastOffset, BoundsTheFirstBatchOfAnEpochThatARelayNames) {
  begin();
  step(skip(kMaxOffset - 2));
  const std::uint64_t before = machine->epochs().current();
  event::BatchCame batch = skip(3);
  batch.first = {before + 1, 1};
  batch.previous = machine->epochs().position_of(machine->head());
  step(batch);
  EXPECT_TRUE(refused());
  EXPECT_EQ(machine->epochs().current(), before);
  forget();
  batch.count = 1;
  batch.first.epoch = kMaxOffset + 1;
  step(batch);
  EXPECT_TRUE(refused());
  EXPECT_EQ(machine->epochs().current(), before);
  forget();
  batch.first.epoch = kMaxOffset;
  batch.count = 2;
  step(batch);
  EXPECT_FALSE(refused());
  EXPECT_EQ(machine->head(), kMaxOffset);
}

TEST_F(LastOffset, BoundsTheGapThatAHelloTells) {
  begin(OnGap::record);
  step(skip(10));
  new_epoch();
  const std::uint64_t epoch = machine->epochs().current();
  for (const std::uint64_t beyond : {kMaxOffset - 9, std::numeric_limits<std::uint64_t>::max()}) {
    event::HelloCame came;
    came.oldest = Position{epoch, beyond};
    next_hello(came);
    EXPECT_TRUE(refused()) << beyond;
    EXPECT_EQ(machine->head(), 10U);
  }
  event::HelloCame came;
  came.oldest = Position{epoch, kMaxOffset - 10};
  next_hello(came);
  EXPECT_FALSE(refused());
  EXPECT_EQ(machine->head(), kMaxOffset - 1);
}

TEST_F(LastOffset, BoundsWhatAStoreThatWasLostIsToldOf) {
  start(policy());
  for (const Position beyond :
       {Position{1'800'000'000, kMaxOffset + 1}, Position{kMaxOffset + 1, 1},
        Position{std::numeric_limits<std::uint64_t>::max(), 1}}) {
    event::HelloCame came;
    came.acknowledged = beyond;
    next_hello(came);
    EXPECT_TRUE(refused()) << to_string(beyond);
  }
  event::HelloCame own;
  own.wish = event::EpochWish::own;
  own.own_epoch = kMaxOffset + 1;
  next_hello(own);
  EXPECT_TRUE(refused());
  event::HelloCame came;
  came.acknowledged = Position{kMaxOffset, kMaxOffset};
  next_hello(came);
  EXPECT_FALSE(refused());
  ASSERT_TRUE(last<action::Welcome>());
  EXPECT_GT(last<action::Welcome>()->held.epoch, kMaxOffset);
}

TEST_F(LastOffset, BoundsTheSumOfWhatAHelloNames) {
  start(policy());
  event::HelloCame came;
  came.acknowledged = Position{1'800'000'000, kMaxOffset};
  came.oldest = Position{1'900'000'000, 2};
  came.resumes = true;
  next_hello(came);
  EXPECT_TRUE(refused());
}

}  // namespace
}  // namespace spillway::recovery
