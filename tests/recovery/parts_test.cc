// The small parts of the machines: backoff, epochs, window index.
#include <gtest/gtest.h>

#include <vector>

#include "recovery/backoff.h"
#include "recovery/epochs.h"
#include "recovery/window_index.h"

namespace spillway::recovery {
namespace {

TEST(Backoff, GrowsToItsCeilingAndStaysThere) {
  BackoffPolicy policy;
  policy.jitter = 0;
  Backoff backoff(policy, 7);
  EXPECT_EQ(backoff.next(), Millis(100));
  EXPECT_EQ(backoff.next(), Millis(200));
  EXPECT_EQ(backoff.next(), Millis(400));
  EXPECT_EQ(backoff.next(), Millis(800));
  EXPECT_EQ(backoff.next(), Millis(1000));
  EXPECT_EQ(backoff.next(), Millis(1000));
}

TEST(Backoff, BeginsAnewAfterASuccess) {
  BackoffPolicy policy;
  policy.jitter = 0;
  Backoff backoff(policy, 7);
  backoff.next();
  backoff.next();
  backoff.reset();
  EXPECT_EQ(backoff.failures(), 0);
  EXPECT_EQ(backoff.next(), Millis(100));
}

TEST(Backoff, KeepsItsJitterWithinTheShareThatIsConfigured) {
  const BackoffPolicy policy;
  Backoff backoff(policy, 42);
  for (int i = 0; i < 20; ++i) backoff.next();
  for (int i = 0; i < 1000; ++i) {
    const Millis pause = backoff.next();
    EXPECT_GE(pause, Millis(800));
    EXPECT_LE(pause, Millis(1200));
  }
}

TEST(EpochTable, TranslatesBothWaysWithinAnEpoch) {
  std::vector<Epoch> epochs;
  EpochTable table(epochs);
  table.open(100, 0);
  table.open(200, 5);
  EXPECT_EQ(table.offset_of({100, 5}), 5u);
  EXPECT_EQ(table.offset_of({200, 1}), 6u);
  EXPECT_EQ(table.position_of(5), (Position{100, 5}));
  EXPECT_EQ(table.position_of(6), (Position{200, 1}));
}

TEST(EpochTable, ClampsAPositionBeyondTheEndOfItsEpoch) {
  std::vector<Epoch> epochs;
  EpochTable table(epochs);
  table.open(100, 0);
  table.open(200, 5);
  EXPECT_EQ(table.offset_of({100, 9}), 5u);
  EXPECT_FALSE(table.offset_of({150, 1}).has_value());
}

TEST(EpochTable, NamesTheNewEpochAsThePlaceBeforeItsFirstRecord) {
  std::vector<Epoch> epochs;
  EpochTable table(epochs);
  table.open(100, 0);
  table.open(200, 5);
  EXPECT_EQ(table.place_of(5), (Position{200, 0}));
  EXPECT_EQ(table.position_of(5), (Position{100, 5}));
}

TEST(EpochTable, ForgetsTheOldestOnlyOnceThereAreTooManyAndNobodyNeedsThem) {
  std::vector<Epoch> epochs;
  EpochTable table(epochs);
  for (std::uint64_t i = 1; i <= kMaxEpochs + 2; ++i) table.open(i, i);
  table.forget_before(0);
  EXPECT_EQ(epochs.size(), kMaxEpochs + 2);
  table.forget_before(100);
  EXPECT_EQ(epochs.size(), kMaxEpochs);
  EXPECT_TRUE(table.older_than_all(1));
}

BlockInfo block(Offset first, Offset last, std::uint64_t bytes, std::uint64_t running) {
  BlockInfo info;
  info.first = first;
  info.last = last;
  info.bytes = bytes;
  info.running_bytes = running;
  return info;
}

TEST(WindowIndex, FindsTheBlockThatHoldsARecord) {
  WindowIndex window;
  window.clear(11);
  EXPECT_EQ(window.first(), 11u);
  window.push(block(11, 14, 40, 40));
  window.push(block(15, 15, 10, 50));
  window.push(block(16, 20, 50, 100));
  EXPECT_EQ(window.bytes(), 100u);
  EXPECT_EQ(window.find(10), nullptr);
  EXPECT_EQ(window.find(14)->first, 11u);
  EXPECT_EQ(window.find(15)->first, 15u);
  EXPECT_EQ(window.find(20)->first, 16u);
  EXPECT_EQ(window.find(21), nullptr);
  window.pop();
  EXPECT_EQ(window.first(), 15u);
  EXPECT_EQ(window.bytes(), 60u);
}

TEST(WindowIndex, SaysTheRunningBytesInsideABlock) {
  const BlockInfo info = block(11, 14, 40, 140);
  EXPECT_EQ(info.running_at(10), 100u);
  EXPECT_EQ(info.running_at(12), 120u);
  EXPECT_EQ(info.running_at(14), 140u);
}

}  // namespace
}  // namespace spillway::recovery
