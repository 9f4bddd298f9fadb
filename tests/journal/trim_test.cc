#include <gtest/gtest.h>

#include "journal/data_dir.h"
#include "journal/table_scan.h"
#include "tests/journal/damage.h"
#include "tests/journal/harness.h"

namespace spillway::journal {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

void fill(Journal& journal, Offset first, Offset last, const std::string& stream = "s") {
  for (Offset i = first; i <= last; ++i) {
    ASSERT_EQ(append(journal, {make_block(i, 1, kMiB)}, 0, stream), Outcome::ok);
  }
}

TEST(Trim, GivesBackWholeFilesBelowTheWatermarkAndKeepsTheRest) {
  TempDir dir;
  const auto journal = open_journal(options_in(dir.path()));
  fill(*journal, 1, 60);
  ASSERT_TRUE(eventually([&] { return du(dir.path()) > 55 * kMiB; }));
  ASSERT_EQ(set_watermark(*journal, 50), Outcome::ok);
  journal->trim("s");
  EXPECT_TRUE(eventually([&] {
    journal->trim("s");
    return du(dir.path()) < 40 * kMiB;
  })) << du(dir.path());
  const ReadResult result = read(*journal, 51);
  ASSERT_TRUE(result.ok);
  EXPECT_FALSE(result.lost);
  EXPECT_EQ(result.blocks.size(), 10u);
}

TEST(Trim, KeepsABlockThatTheWatermarkCutsInTwo) {
  TempDir dir;
  const auto journal = open_journal(options_in(dir.path()));
  for (Offset i = 0; i < 40; ++i) {
    ASSERT_EQ(append(*journal, {make_block(1 + 10 * i, 10, kMiB)}), Outcome::ok);
  }
  for (Offset watermark = 5; watermark < 395; watermark += 30) {
    ASSERT_EQ(set_watermark(*journal, watermark), Outcome::ok);
    journal->trim("s");
    const ReadResult result = read(*journal, watermark + 1, watermark + 1);
    ASSERT_TRUE(result.ok);
    EXPECT_FALSE(result.lost) << watermark;
    ASSERT_EQ(result.blocks.size(), 1u);
  }
}

TEST(Trim, ReturnsADrainedJournalToAFewMebibytes) {
  TempDir dir;
  const auto journal = open_journal(options_in(dir.path(), {"s", "idle"}));
  fill(*journal, 1, 1, "idle");
  ASSERT_EQ(set_watermark(*journal, 1, 0, "idle"), Outcome::ok);
  fill(*journal, 1, 60);
  ASSERT_EQ(set_watermark(*journal, 60), Outcome::ok);
  journal->trim("s");
  journal->trim("idle");
  EXPECT_TRUE(eventually([&] { return du(dir.path()) < 8 * kMiB; })) << du(dir.path());
  EXPECT_EQ(append(*journal, {make_block(61, 1, 100)}), Outcome::ok);
  EXPECT_EQ(read(*journal, 61).blocks.size(), 1u);
}

TEST(Trim, LetsGoOfTheWalThatAnIdleStreamHolds) {
  TempDir dir;
  const auto journal = open_journal(options_in(dir.path(), {"s", "idle"}));
  fill(*journal, 1, 1, "idle");  // stays in memory, and in the first WAL file
  ASSERT_EQ(set_watermark(*journal, 1, 0, "idle"), Outcome::ok);
  for (Offset i = 1; i <= 9; ++i) {
    fill(*journal, i, i);
    ASSERT_EQ(set_watermark(*journal, i), Outcome::ok);
    journal->trim("s");
  }
  EXPECT_TRUE(eventually([&] { return du(dir.path()) < 8 * kMiB; })) << du(dir.path());
}

std::size_t tables_of(const std::filesystem::path& data_dir, const std::string& stream) {
  return static_cast<std::size_t>(
      std::ranges::count_if(store_files(data_dir, ".sst"), [&](const std::filesystem::path& path) {
        rocksdb::Status why;
        const auto table = Table::open(path, why);  // nothing: it went meanwhile
        return table && table->family() == "stream." + stream;
      }));
}

TEST(Trim, LeavesTheMemtableOfAnotherStreamAloneAndGivesBackTheWalThatItHolds) {
  TempDir dir;
  Options options = options_in(dir.path(), {"s", "slow"});
  options.max_disk_bytes = 1024 * kMiB;  // RocksDB would let go of the WAL at 144 MiB
  const auto journal = open_journal(options);
  constexpr Offset kRounds = 40;
  for (Offset i = 1; i <= kRounds; ++i) {
    ASSERT_EQ(append(*journal, {make_block(i, 1, 10'000)}, 0, "slow"), Outcome::ok);
    const auto newest = store_files(dir.path(), ".log").back();
    ASSERT_EQ(append(*journal, {make_block(i, 1, 3 * kMiB)}), Outcome::ok);
    ASSERT_EQ(set_watermark(*journal, i), Outcome::ok);
    journal->trim("s");
    // Where a memtable is written out, a new WAL file begins.
    ASSERT_TRUE(eventually([&] { return store_files(dir.path(), ".log").back() > newest; }));
  }
  EXPECT_LE(tables_of(dir.path(), "slow"), kRounds / 4);
  EXPECT_TRUE(eventually([&] { return du(dir.path()) < 56 * kMiB; })) << du(dir.path());
  EXPECT_EQ(read(*journal, 1, ~Offset{0}, ~std::uint64_t{0}, "slow").blocks.size(), kRounds);
}

TEST(Trim, LeavesTheEndWhereItWasForTheNextStart) {
  TempDir dir;
  {
    const auto journal = open_journal(options_in(dir.path()));
    fill(*journal, 1, 40);
    ASSERT_EQ(set_watermark(*journal, 40), Outcome::ok);
    journal->trim("s");
    ASSERT_TRUE(eventually([&] { return du(dir.path()) < 8 * kMiB; }));
  }
  const auto journal = open_journal(options_in(dir.path()));
  const Recovered& recovered = find(journal->recovered(), "s");
  EXPECT_EQ(recovered.end, 40u);
  EXPECT_EQ(recovered.watermark, 40u);
  EXPECT_FALSE(recovered.damage);
}

TEST(Trim, BelowNothingDurableDoesNothing) {
  TempDir dir;
  const auto journal = open_journal(options_in(dir.path()));
  journal->trim("s");
  fill(*journal, 1, 3);
  journal->trim("s");
  EXPECT_EQ(append(*journal, {make_block(4, 1, 10)}), Outcome::ok);
  EXPECT_EQ(read(*journal, 1).blocks.front()->first, 1u);
}

}  // namespace
}  // namespace spillway::journal
