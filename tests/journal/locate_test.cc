#include <gtest/gtest.h>

#include <random>

#include "tests/journal/damage.h"
#include "tests/journal/harness.h"

namespace spillway::journal {
namespace {

struct Fixture : testing::Test {
  // Blocks too large to be packed: offset o has 40 KiB, was received at 1000 o, and of every three
  // only the last ends cleanly.
  void fill(Offset count) {
    std::vector<BlockPtr> blocks;
    for (Offset i = 1; i <= count; ++i) {
      blocks.push_back(with(make_block(i, 1, kBytes), [&](Block& block) {
        block.starts_clean = i % 3 == 1;
        block.ends_clean = i % 3 == 0;
      }));
    }
    ASSERT_EQ(append(*journal, blocks), Outcome::ok);
  }
  static constexpr std::uint64_t kBytes = 40 * 1024;
  TempDir dir;
  std::unique_ptr<Journal> journal = open_journal(options_in(dir.path()));
};
using Locate = Fixture;

TEST_F(Locate, FindsTheFirstCleanEndAtOrAfterAnOffset) {
  fill(30);
  EXPECT_EQ(locate(*journal, 4, 0, 0)->offset, 6u);
  EXPECT_EQ(locate(*journal, 6, 0, 0)->offset, 6u);
  EXPECT_EQ(locate(*journal, 7, 0, 0)->offset, 9u);
  EXPECT_EQ(locate(*journal, 30, 0, 0)->offset, 30u);
  EXPECT_FALSE(locate(*journal, 31, 0, 0));
}

TEST_F(Locate, FindsTheFirstCleanEndThatLeavesNoMoreThanSomeBytes) {
  fill(30);
  EXPECT_EQ(locate(*journal, 0, 7 * kBytes, 0)->offset, 9u);
  EXPECT_EQ(locate(*journal, 0, 9 * kBytes, 0)->offset, 9u);
  EXPECT_EQ(locate(*journal, 0, 9 * kBytes + 1, 0)->offset, 12u);
  EXPECT_EQ(locate(*journal, 0, 9 * kBytes, 0)->running_bytes, 9 * kBytes);
  EXPECT_EQ(locate(*journal, 0, 9 * kBytes, 0)->received_ms, 10'000);
}

TEST_F(Locate, FindsTheFirstCleanEndThatLeavesNothingOlder) {
  fill(30);
  EXPECT_EQ(locate(*journal, 0, 0, 10'000)->offset, 9u);
  EXPECT_EQ(locate(*journal, 0, 0, 10'001)->offset, 12u);
  EXPECT_EQ(locate(*journal, 0, 0, 99'000)->offset, 30u);
  EXPECT_EQ(locate(*journal, 0, 0, 99'000)->received_ms, 0);
}

TEST_F(Locate, SaysTheWatermarkWhenNothingHasToGo) {
  fill(30);
  ASSERT_EQ(set_watermark(*journal, 6), Outcome::ok);
  const auto location = locate(*journal, 0, 0, 0);
  ASSERT_TRUE(location);
  EXPECT_EQ(location->offset, 6u);
  EXPECT_EQ(location->running_bytes, 6 * kBytes);
  EXPECT_EQ(location->received_ms, 7000);
}

TEST_F(Locate, FindsNothingInsideAGroupThatHasNotEnded) {
  fill(31);
  EXPECT_FALSE(locate(*journal, 31, 0, 0));
  EXPECT_EQ(locate(*journal, 29, 0, 0)->offset, 30u);
}

TEST_F(Locate, FindsTheEndOfAGroupThatItsProducerLeftUnfinished) {
  std::vector<BlockPtr> blocks;
  for (Offset i = 1; i <= 9; ++i) {
    blocks.push_back(with(make_block(i, 1, kBytes), [&](Block& block) {
      block.starts_clean = i % 3 == 1;
      block.ends_clean = false;
    }));
  }
  ASSERT_EQ(append(*journal, blocks), Outcome::ok);
  EXPECT_EQ(locate(*journal, 2, 0, 0)->offset, 3u);
  EXPECT_EQ(locate(*journal, 4, 0, 0)->offset, 6u);
  EXPECT_EQ(locate(*journal, 4, 0, 0)->running_bytes, blocks[5]->running_bytes);
  EXPECT_FALSE(locate(*journal, 7, 0, 0));
}

// Small ones, which share values on disk.
TEST_F(Locate, FindsEveryEndOfAGroupAmongSmallBlocks) {
  std::vector<BlockPtr> blocks;
  for (Offset i = 1; i <= 30; ++i) {
    blocks.push_back(with(make_block(i, 1, 100), [&](Block& block) {
      block.starts_clean = i % 3 == 1;
      block.ends_clean = i % 3 == 0;
    }));
  }
  blocks.pop_back();  // the last group is unfinished
  ASSERT_EQ(append(*journal, blocks), Outcome::ok);
  EXPECT_EQ(locate(*journal, 26, 0, 0)->offset, 27u);
  EXPECT_FALSE(locate(*journal, 28, 0, 0));
}

TEST_F(Locate, AgreesWithASearchOfEveryBlock) {
  std::mt19937_64 random(1);
  std::vector<BlockPtr> blocks;
  std::uint64_t running = 0;
  std::int64_t received = 0;
  bool clean = true;
  for (Offset next = 1; blocks.size() < 120;) {
    const std::uint64_t count = 1 + random() % 50;
    const std::uint64_t bytes = 33 * 1024 + random() % 9000;  // two do not fit into one value
    running += bytes;
    received += static_cast<std::int64_t>(random() % 100);
    blocks.push_back(with(make_block(next, count, bytes), [&](Block& block) {
      block.running_bytes = running;
      block.received_ms = received;
      block.starts_clean = clean;
      block.ends_clean = clean = random() % 3 != 0;
    }));
    next += count;
  }
  ASSERT_EQ(append(*journal, blocks), Outcome::ok);
  for (int i = 0; i < 300; ++i) {
    const Offset offset = random() % (blocks.back()->last() + 10);
    const std::uint64_t bytes = random() % (running + 1000);
    const std::int64_t age = static_cast<std::int64_t>(random()) % (received + 50);
    std::optional<Offset> expected;
    if (offset == 0 && bytes == 0 && age <= blocks[0]->received_ms) expected = 0;
    for (std::size_t b = 0; b < blocks.size() && !expected; ++b) {
      const bool young = b + 1 == blocks.size() || blocks[b + 1]->received_ms >= age;
      if (blocks[b]->ends_clean && blocks[b]->last() >= offset &&
          blocks[b]->running_bytes >= std::min(bytes, running) && young) {
        expected = blocks[b]->last();
      }
    }
    const auto found = locate(*journal, offset, bytes, age);
    EXPECT_EQ(found ? std::optional(found->offset) : std::nullopt, expected)
        << offset << " " << bytes << " " << age;
  }
}

// A drop that is told of no place to cut lets go of all there is.
TEST(LocateDamage, IsGoneAroundWhereSeveralBlocksInARowAreDamaged) {
  constexpr Offset kRecords = 10;  // of a block
  constexpr std::uint64_t kBlockBytes = 70 * 1024;
  TempDir dir;
  const Options options = options_in(dir.path());
  {
    const auto journal = open_journal(options);
    for (Offset i = 0; i < 20; ++i) {
      ASSERT_EQ(append(*journal,
                       {with(make_block(1 + kRecords * i, kRecords, kBlockBytes),
                             [](Block& block) { block.starts_clean = block.ends_clean = true; })}),
                Outcome::ok);
    }
  }
  { const auto journal = open_journal(options); }  // into tables
  for (const Offset first : {81, 91, 101}) {
    const BlockPtr damaged = make_block(first, kRecords, kBlockBytes);
    const std::string part(reinterpret_cast<const char*>(damaged->records.data()), 100);
    ASSERT_EQ(flip_in_tables(dir.path(), part), 1) << first;
  }
  const auto journal = open_journal(options);
  for (const Offset offset : {81, 85, 90, 91, 95, 101, 105, 111}) {
    const auto found = locate(*journal, offset, 0, 0);
    ASSERT_TRUE(found) << offset;
    EXPECT_EQ(found->offset, 120U) << offset;
  }
}

}  // namespace
}  // namespace spillway::journal
