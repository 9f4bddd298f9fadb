// Appending and reading back.
#include <gtest/gtest.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <atomic>

#include "tests/journal/harness.h"

namespace spillway::journal {
namespace {

constexpr std::uint64_t kKiB = 1024;

// Counts what was written to the WAL since its last sync.
class Unsynced final : public rocksdb::FileSystemWrapper {
 public:
  Unsynced() : FileSystemWrapper(rocksdb::FileSystem::Default()) {}
  const char* Name() const override { return "Unsynced"; }
  std::uint64_t bytes() const { return bytes_; }

  rocksdb::IOStatus NewWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* file,
                                    rocksdb::IODebugContext* context) override {
    auto status = target()->NewWritableFile(path, options, file, context);
    if (status.ok() && path.ends_with(".log")) {
      *file = std::make_unique<File>(std::move(*file), bytes_);
    }
    return status;
  }

 private:
  class File final : public rocksdb::FSWritableFileOwnerWrapper {
   public:
    File(std::unique_ptr<rocksdb::FSWritableFile> file, std::atomic<std::uint64_t>& bytes)
        : FSWritableFileOwnerWrapper(std::move(file)), bytes_(bytes) {}
    rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* context) override {
      bytes_ += data.size();
      return target()->Append(data, options, context);
    }
    rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                             const rocksdb::DataVerificationInfo&,
                             rocksdb::IODebugContext* context) override {
      return Append(data, options, context);
    }
    rocksdb::IOStatus Sync(const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* context) override {
      bytes_ = 0;
      return target()->Sync(options, context);
    }
    rocksdb::IOStatus Fsync(const rocksdb::IOOptions& options,
                            rocksdb::IODebugContext* context) override {
      return Sync(options, context);
    }

   private:
    std::atomic<std::uint64_t>& bytes_;
  };
  std::atomic<std::uint64_t> bytes_{0};
};

TEST(Append, IsDoneOnlyWhenTheWalThatHoldsItIsSynced) {
  TempDir dir;
  const auto files = std::make_shared<Unsynced>();
  const auto env = rocksdb::NewCompositeEnv(files);
  Options options = options_in(dir.path());
  options.env = env.get();
  const auto journal = open_journal(options);
  for (Offset i = 1; i <= 10; ++i) {
    std::promise<std::uint64_t> left;
    Commit next;
    next.stream = "s";
    if (i % 2 == 1) next.append = {make_block((i + 1) / 2, 1, 100)};
    next.state = std::to_string(i);
    journal->commit(std::move(next), [&](Outcome outcome) {
      EXPECT_EQ(outcome, Outcome::ok);
      left.set_value(files->bytes());
    });
    EXPECT_EQ(left.get_future().get(), 0u) << i;
  }
}

TEST(Append, ReadsBackWhatWasAppendedByteForByte) {
  TempDir dir;
  const auto journal = open_journal(options_in(dir.path()));
  const std::vector<BlockPtr> blocks = {
      make_block(1, 10, 100 * kKiB),
      with(make_block(11, 5, 70 * kKiB), [](Block& block) { block.starts_clean = false; }),
      make_skip(16, 4, LossReason::gap, {1, 16}),
      with(make_block(20, 1, 66 * kKiB, {7, 1}), [](Block& block) { block.ends_clean = false; }),
  };
  ASSERT_EQ(append(*journal, blocks), Outcome::ok);
  const ReadResult result = read(*journal, 1);
  ASSERT_TRUE(result.ok);
  EXPECT_FALSE(result.lost);
  ASSERT_EQ(result.blocks.size(), blocks.size());
  for (std::size_t i = 0; i < blocks.size(); ++i) EXPECT_TRUE(same(*result.blocks[i], *blocks[i]));
}

TEST(Append, PacksSmallBlocksOfOneCommitIntoOneValue) {
  TempDir dir;
  const auto journal = open_journal(options_in(dir.path()));
  std::vector<BlockPtr> blocks;
  for (Offset i = 0; i < 200; ++i) blocks.push_back(make_block(1 + 2 * i, 2, 1000));
  ASSERT_EQ(append(*journal, blocks), Outcome::ok);
  const ReadResult result = read(*journal, 1);
  ASSERT_TRUE(result.ok);
  EXPECT_EQ(result.blocks.size(), 4u);  // 65 blocks of 1000 bytes in each 64 KiB
  Offset next = 1;
  std::vector<std::byte> records;
  for (const BlockPtr& block : result.blocks) {
    EXPECT_EQ(block->first, next);
    EXPECT_LE(block->bytes(), 64 * kKiB);
    EXPECT_EQ(block->received_ms, static_cast<std::int64_t>(1000 * block->first));
    next = block->last() + 1;
    records.insert(records.end(), block->records.begin(), block->records.end());
  }
  EXPECT_EQ(next, 401u);
  EXPECT_EQ(result.blocks.back()->running_bytes, blocks.back()->running_bytes);
  std::vector<std::byte> expected;
  for (const BlockPtr& block : blocks) {
    expected.insert(expected.end(), block->records.begin(), block->records.end());
  }
  EXPECT_EQ(records, expected);
}

TEST(Append, NeverPacksAcrossAnEpochOrASkip) {
  TempDir dir;
  const auto journal = open_journal(options_in(dir.path()));
  ASSERT_EQ(append(*journal, {make_block(1, 1, 10), make_skip(2, 1, LossReason::gap, {1, 2}),
                              make_block(3, 1, 10, {1, 3}), make_block(4, 1, 10, {2, 1})}),
            Outcome::ok);
  EXPECT_EQ(read(*journal, 1).blocks.size(), 4u);
}

TEST(Append, KeepsTheFlagsOfBothEndsWhenItPacks) {
  TempDir dir;
  const auto journal = open_journal(options_in(dir.path()));
  // A group of three, then one of which two have come.
  const auto place = [](bool starts, bool ends) {
    return [starts, ends](Block& block) {
      block.starts_clean = starts;
      block.ends_clean = ends;
    };
  };
  ASSERT_EQ(append(*journal, {with(make_block(1, 1, 10), place(true, false)),
                              with(make_block(2, 1, 10), place(false, false)),
                              with(make_block(3, 1, 10), place(false, true)),
                              with(make_block(4, 1, 10), place(true, false)),
                              with(make_block(5, 1, 10), place(false, false))}),
            Outcome::ok);
  const ReadResult result = read(*journal, 1);
  // A sink can only be cut off where a value ends.
  ASSERT_EQ(result.blocks.size(), 2u);
  EXPECT_TRUE(result.blocks[0]->starts_clean);
  EXPECT_TRUE(result.blocks[0]->ends_clean);
  EXPECT_EQ(result.blocks[1]->first, 4u);
  EXPECT_TRUE(result.blocks[1]->starts_clean);
  EXPECT_FALSE(result.blocks[1]->ends_clean);
}

TEST(Append, SaysAtTheNextOpenWhetherAGroupIsUnfinished) {
  TempDir dir;
  for (const bool clean : {false, true}) {
    const auto journal = open_journal(options_in(dir.path()));
    const Offset next = find(journal->recovered(), "s").end + 1;
    ASSERT_EQ(append(*journal, {with(make_block(next, 1, 10),
                                     [&](Block& block) { block.ends_clean = clean; })}),
              Outcome::ok);
  }
  EXPECT_TRUE(find(open_journal(options_in(dir.path()))->recovered(), "s").end_clean);
  ASSERT_EQ(append(*open_journal(options_in(dir.path())),
                   {with(make_block(3, 1, 10), [](Block& block) { block.ends_clean = false; })}),
            Outcome::ok);
  EXPECT_FALSE(find(open_journal(options_in(dir.path()))->recovered(), "s").end_clean);
}

TEST(Append, KeepsStreamsApart) {
  TempDir dir;
  const auto journal = open_journal(options_in(dir.path(), {"a", "meta", "default"}));
  for (const char* stream : {"a", "meta", "default"}) {
    ASSERT_EQ(append(*journal, {make_block(1, 3, 300)}, 0, stream), Outcome::ok);
  }
  ASSERT_EQ(append(*journal, {make_block(4, 1, 5)}, 0, "meta"), Outcome::ok);
  EXPECT_EQ(read(*journal, 1, ~Offset{0}, 1 << 20, "a").blocks.back()->last(), 3u);
  EXPECT_EQ(read(*journal, 1, ~Offset{0}, 1 << 20, "meta").blocks.back()->last(), 4u);
}

TEST(Append, MakesRoomForAllStreamsThatWaitInOneStep) {
  // RocksDB writes a file of options after each step, which has a line for each option of each
  // stream, and takes the next number for it.
  const auto newest_options = [](const TempDir& dir) {
    unsigned long newest = 0;
    for (const auto& entry : std::filesystem::directory_iterator(dir.path() / "journal")) {
      const std::string name = entry.path().filename();
      if (name.starts_with("OPTIONS-")) newest = std::max(newest, std::stoul(name.substr(8)));
    }
    return newest;
  };
  constexpr int kStreams = 40;
  TempDir dir;
  std::vector<std::string> names{"first"};
  for (int i = 0; i < kStreams; ++i) names.push_back("s" + std::to_string(i));
  const auto journal = open_journal(options_in(dir.path(), names));
  std::promise<void> queued;
  Commit first;
  first.stream = "first";
  first.append = {make_block(1, 1, 100)};
  std::promise<unsigned long> before;
  journal->commit(std::move(first), [&](Outcome) {  // holds the journal thread meanwhile
    before.set_value(newest_options(dir));
    queued.get_future().wait();
  });
  std::vector<std::future<Outcome>> outcomes;
  for (int i = 0; i < kStreams; ++i) {
    const auto done = std::make_shared<std::promise<Outcome>>();
    outcomes.push_back(done->get_future());
    Commit commit;
    commit.stream = names[static_cast<std::size_t>(i) + 1];
    commit.append = {make_block(1, 1, 100)};
    journal->commit(std::move(commit), [done](Outcome outcome) { done->set_value(outcome); });
  }
  const unsigned long newest = before.get_future().get();
  queued.set_value();
  for (auto& outcome : outcomes) EXPECT_EQ(outcome.get(), Outcome::ok);
  EXPECT_LE(newest_options(dir), newest + 2);
}

TEST(Append, CompletesCommitsInTheOrderOfTheCalls) {
  TempDir dir;
  std::vector<Offset> order;
  {
    const auto journal = open_journal(options_in(dir.path(), {"a", "b"}));
    for (Offset i = 0; i < 200; ++i) {
      Commit commit;
      commit.stream = i % 2 == 0 ? "a" : "b";
      commit.append = {make_block(1 + i / 2, 1, 100)};
      journal->commit(std::move(commit), [&order, i](Outcome outcome) {
        EXPECT_EQ(outcome, Outcome::ok);
        order.push_back(i);
      });
    }
  }  // completes what is queued
  ASSERT_EQ(order.size(), 200u);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST(Append, TakesAllOfACommitOrNothingAcrossAReopening) {
  TempDir dir;
  {
    const auto journal = open_journal(options_in(dir.path()));
    Commit commit;
    commit.stream = "s";
    commit.append = {make_block(11, 5, 500, {3, 1})};
    commit.state = "the state";
    commit.watermark = 10;
    ASSERT_EQ(journal::commit(*journal, commit), Outcome::ok);
  }
  const auto journal = open_journal(options_in(dir.path()));
  const Recovered& recovered = find(journal->recovered(), "s");
  EXPECT_EQ(recovered.state, "the state");
  EXPECT_EQ(recovered.watermark, 10u);
  EXPECT_EQ(recovered.end, 15u);
  EXPECT_EQ(recovered.high_water, 15u);
  EXPECT_FALSE(recovered.damage) << *recovered.damage;
  EXPECT_EQ(read(*journal, 11).blocks.front()->position, (Position{3, 1}));
}

TEST(Append, GoesOnBehindAWatermarkThatPassedTheEnd) {
  TempDir dir;
  const auto journal = open_journal(options_in(dir.path()));
  ASSERT_EQ(append(*journal, {make_block(1, 5, 50)}), Outcome::ok);
  Commit commit;
  commit.stream = "s";
  commit.watermark = 100;
  commit.append = {make_block(101, 1, 10)};
  ASSERT_EQ(journal::commit(*journal, commit), Outcome::ok);
  const ReadResult result = read(*journal, 101);
  EXPECT_TRUE(result.ok);
  EXPECT_FALSE(result.lost);
  ASSERT_EQ(result.blocks.size(), 1u);
}

TEST(Append, EndsACommitOfAnotherGenerationAsFailed) {
  TempDir dir;
  const auto journal = open_journal(options_in(dir.path()));
  EXPECT_EQ(append(*journal, {make_block(1, 1, 10)}, 1), Outcome::failed);
  EXPECT_EQ(append(*journal, {make_block(1, 1, 10)}, 0), Outcome::ok);
}

TEST(AppendDeathTest, StopsTheProcessWhenAnAppendLeavesAGap) {
  // RocksDB's threads outlive its stores, and a fork has none of them: it would wait for them.
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        TempDir dir;
        const auto journal = open_journal(options_in(dir.path()));
        append(*journal, {make_block(2, 1, 10)});
      },
      "");
}

TEST(Read, BeginsWithTheBlockThatContainsTheOffset) {
  TempDir dir;
  const auto journal = open_journal(options_in(dir.path()));
  ASSERT_EQ(append(*journal, {make_block(1, 10, 70 * kKiB), make_block(11, 10, 70 * kKiB)}),
            Outcome::ok);
  const ReadResult middle = read(*journal, 5);
  ASSERT_EQ(middle.blocks.size(), 2u);
  EXPECT_EQ(middle.blocks[0]->first, 1u);
  const ReadResult edge = read(*journal, 11);
  ASSERT_EQ(edge.blocks.size(), 1u);
  EXPECT_EQ(edge.blocks[0]->first, 11u);
}

TEST(Read, StopsAfterMaxBytesButNotBeforeOneBlock) {
  TempDir dir;
  const auto journal = open_journal(options_in(dir.path()));
  std::vector<BlockPtr> blocks;
  for (Offset i = 1; i <= 10; ++i) blocks.push_back(make_block(i, 1, 40 * kKiB));
  ASSERT_EQ(append(*journal, blocks), Outcome::ok);
  EXPECT_EQ(read(*journal, 1, 10, 1).blocks.size(), 1u);
  EXPECT_EQ(read(*journal, 1, 10, 40 * kKiB).blocks.size(), 1u);
  EXPECT_EQ(read(*journal, 1, 10, 41 * kKiB).blocks.size(), 2u);
}

TEST(Read, StopsAtTheBlockThatContainsThrough) {
  TempDir dir;
  const auto journal = open_journal(options_in(dir.path()));
  std::vector<BlockPtr> blocks;
  for (Offset i = 0; i < 10; ++i) blocks.push_back(make_block(1 + 10 * i, 10, 40 * kKiB));
  ASSERT_EQ(append(*journal, blocks), Outcome::ok);
  EXPECT_EQ(read(*journal, 1, 25).blocks.back()->last(), 30u);
  EXPECT_EQ(read(*journal, 1, 30).blocks.back()->last(), 30u);
}

TEST(Read, BeyondTheEndIsEmptyAndNoError) {
  TempDir dir;
  const auto journal = open_journal(options_in(dir.path()));
  EXPECT_TRUE(read(*journal, 1).ok);
  ASSERT_EQ(append(*journal, {make_block(1, 1, 10)}), Outcome::ok);
  const ReadResult result = read(*journal, 2);
  EXPECT_TRUE(result.ok);
  EXPECT_TRUE(result.blocks.empty());
  EXPECT_FALSE(result.lost);
}

TEST(Read, ReportsWhatLiesBelowAHoleAsLost) {
  TempDir dir;
  const auto journal = open_journal(options_in(dir.path()));
  ASSERT_EQ(append(*journal, {make_block(1, 5, 50)}), Outcome::ok);
  Commit commit;
  commit.stream = "s";
  commit.watermark = 20;
  commit.append = {make_block(21, 1, 10)};
  ASSERT_EQ(journal::commit(*journal, commit), Outcome::ok);
  const ReadResult result = read(*journal, 3);
  ASSERT_TRUE(result.ok);
  ASSERT_EQ(result.blocks.size(), 1u);
  EXPECT_EQ(result.lost, (std::pair<Offset, Offset>{6, 20}));
}

}  // namespace
}  // namespace spillway::journal
