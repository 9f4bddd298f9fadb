// The device fails a read: nothing is given up for it, and nothing deleted.
#include <gtest/gtest.h>

#include "tests/fault/child.h"
#include "tests/fault/rig.h"
#include "tests/journal/damage.h"

namespace spillway::journal {
namespace {

constexpr Offset kBlocks = 60;
constexpr Offset kRecords = 10;  // of a block

Fault failing_reads(int skip, int count) { return {kTable, kRead, Errno::eio, skip, count}; }

// Blocks of ten records, all of them in tables.
void fill(Rig& rig) {
  rig.open();
  for (Offset i = 0; i < kBlocks; ++i) {
    Block block = *make_block(1 + kRecords * i, kRecords, kBlockBytes);
    block.starts_clean = block.ends_clean = true;
    ASSERT_EQ(append(*rig.journal, {std::make_shared<const Block>(block)}), Outcome::ok);
  }
  rig.acked = kBlocks * kRecords;
  rig.restart_healthy();
}

// A bit is flipped in records 301 to 310, in their table.
void damage_one(Rig& rig, const std::filesystem::path& data_dir) {
  rig.journal.reset();
  const BlockPtr damaged = make_block(301, kRecords, kBlockBytes);
  const std::string part(reinterpret_cast<const char*>(damaged->records.data()), 100);
  ASSERT_EQ(flip_in_tables(data_dir, part), 1);
  rig.open();
}

TEST(ReadFault, LosesNothingOfWhatIsReadFromTheMiddleOfABlock) {
  in_child([] {
    const TempDir dir(in_memory());
    Rig rig(dir.path());
    fill(rig);
    int failed = 0;
    for (int skip = 0; skip < 6; ++skip) {
      rig.system->inject(failing_reads(skip, 1));
      const ReadResult result = read(*rig.journal, 305, 310);
      rig.system->heal();
      EXPECT_FALSE(result.lost) << skip;
      EXPECT_TRUE(result.ok || result.retryable) << skip;
      EXPECT_EQ(result.blocks.size(), result.ok ? 1u : 0u) << skip;
      failed += result.retryable ? 1 : 0;
    }
    EXPECT_GT(failed, 1) << "the fault was hardly ever met";
  });
}

TEST(ReadFault, BehindADamagedBlockMakesTheHoleNoLarger) {
  in_child([] {
    const TempDir dir(in_memory());
    Rig rig(dir.path());
    fill(rig);
    damage_one(rig, dir.path());
    int failed = 0;
    for (int skip = 0; skip < 12; ++skip) {
      rig.system->inject(failing_reads(skip, 1));
      const ReadResult result = read(*rig.journal, 301, 320);
      rig.system->heal();
      EXPECT_NE(result.lost.has_value(), result.retryable) << skip;
      EXPECT_EQ(result.lost.value_or(std::pair(Offset{301}, Offset{310})),
                std::pair(Offset{301}, Offset{310}))
          << skip;
      failed += result.retryable ? 1 : 0;
    }
    EXPECT_GT(failed, 1) << "the fault was hardly ever met";
  });
}

// Its first record is found by way of the block before it.
TEST(ReadFault, NextToADamagedBlockGivesNoIntactOneUp) {
  in_child([] {
    const TempDir dir(in_memory());
    Rig rig(dir.path());
    fill(rig);
    damage_one(rig, dir.path());
    int failed = 0;
    for (int skip = 0; skip < 60; ++skip) {
      rig.system->inject(failing_reads(skip, 1));
      const ReadResult result = read(*rig.journal, 315, 320);
      rig.system->heal();
      EXPECT_FALSE(result.lost) << skip;
      EXPECT_NE(result.ok, result.retryable) << skip;
      failed += result.retryable ? 1 : 0;
    }
    EXPECT_GT(failed, 5) << "the fault was hardly ever met";
  });
}

// A drop that is told of no place to cut lets go of all there is.
TEST(ReadFault, NextToADamagedBlockIsNoAnswerToWhereToCut) {
  in_child([] {
    const TempDir dir(in_memory());
    Rig rig(dir.path());
    fill(rig);
    damage_one(rig, dir.path());
    const auto ask = [&rig](Offset offset_min, std::uint64_t bytes_min) {
      std::promise<Result<std::optional<Location>>> promise;
      rig.journal->locate("s", offset_min, bytes_min, 0,
                          [&](Result<std::optional<Location>> location) {
                            promise.set_value(std::move(location));
                          });
      return promise.get_future().get();
    };
    int failed = 0;
    // Where the damaged block begins, inside it, and where its bytes end.
    for (const auto& [offset_min, bytes_min] :
         {std::pair<Offset, std::uint64_t>{301, 0}, {305, 0}, {0, 31 * kBlockBytes}}) {
      for (int skip = 0; skip < 60; ++skip) {
        rig.system->inject(failing_reads(skip, 1));
        const auto location = ask(offset_min, bytes_min);
        rig.system->heal();
        if (!location) {
          ++failed;
          continue;
        }
        ASSERT_TRUE(location->has_value()) << offset_min << " " << skip;
        EXPECT_EQ((*location)->offset, 320U) << offset_min << " " << skip;
        EXPECT_EQ((*location)->received_ms, 321'000) << offset_min << " " << skip;
      }
    }
    EXPECT_GT(failed, 15) << "the fault was hardly ever met";
  });
}

TEST(ReadFault, LetsNoTrimTakeTheRestOfABlock) {
  in_child([] {
    const TempDir dir(in_memory());
    Rig rig(dir.path());
    fill(rig);
    for (Offset i = 0; i + 1 < kBlocks; ++i) {
      const Offset watermark = kRecords * i + 5;  // inside each block, also the last one of a table
      ASSERT_EQ(set_watermark(*rig.journal, watermark), Outcome::ok);
      const int fired = rig.system->fired();
      rig.system->inject(failing_reads(0, 1'000'000));
      rig.journal->trim("s");
      ASSERT_TRUE(eventually([&] { return rig.system->fired() > fired; })) << watermark;
      ASSERT_EQ(set_watermark(*rig.journal, watermark), Outcome::ok);  // the trim is over
      rig.system->heal();
      const ReadResult result = read(*rig.journal, watermark + 1, watermark + 1);
      ASSERT_TRUE(result.ok) << result.error;
      EXPECT_FALSE(result.lost) << watermark;
      ASSERT_EQ(result.blocks.size(), 1u) << watermark;
    }
    EXPECT_EQ(rig.log.downs(), 0);
  });
}

// A ledger that lies in more than one place of its table, and a block.
void fill_ledger(Rig& rig) {
  rig.open();
  ASSERT_EQ(rig.append_through(1), 0);
  Commit commit;
  commit.stream = "s";
  for (std::uint64_t id = 1; id <= 1000; ++id) {
    LedgerEntry entry;
    entry.id = id;
    entry.text = std::string(500, 'x');
    commit.ledger.push_back(entry);
  }
  ASSERT_EQ(journal::commit(*rig.journal, std::move(commit)), Outcome::ok);
  rig.restart_healthy();
}

TEST(ReadFault, AtAStartIsAnErrorOfItAndNoDamage) {
  in_child([] {
    const TempDir dir(in_memory());
    Rig rig(dir.path());
    fill_ledger(rig);
    int failed = 0;
    for (int skip = 0; skip < 60; ++skip) {
      rig.journal.reset();
      rig.system->inject(failing_reads(skip, 1));
      auto opened = Journal::open(rig.options, {});
      rig.system->heal();
      failed += opened ? 0 : 1;
      if (opened) rig.journal = std::move(*opened);
      if (!opened) rig.open();
      const Recovered& recovered = find(rig.journal->recovered(), "s");
      EXPECT_FALSE(recovered.damage) << skip << ": " << *recovered.damage;
      EXPECT_EQ(recovered.next_ledger_id, 1001u) << skip;
      EXPECT_EQ(recovered.end, 1u) << skip;
    }
    EXPECT_GT(failed, 5) << "the fault was hardly ever met";
  });
}

TEST(ReadFault, AtAReopeningIsTriedAgainAndNoDamage) {
  in_child([] {
    const TempDir dir(in_memory());
    Rig rig(dir.path());
    fill_ledger(rig);
    int met = 0;
    for (int skip = 0; skip < 60; ++skip) {
      const int before = rig.system->fired();
      rig.system->inject({kWal, kAppend, Errno::eio, 0, 1});
      rig.system->inject(failing_reads(skip, 1));
      ASSERT_EQ(append(*rig.journal, {make_block(rig.acked + 1, 1, 100)}, rig.generation),
                Outcome::failed);
      rig.await_reopening();
      met += rig.system->fired() - before - 1;
      rig.system->heal();
      if (testing::Test::HasFailure()) break;
    }
    EXPECT_GT(met, 5) << "the fault was hardly ever met";
  });
}

// What cannot be read just now may be all there is of it: RocksDB would delete it.
TEST(ReadFault, OfATableThatIsNotListedIsAnErrorOfTheStartThatDeletesNothing) {
  in_child([] {
    namespace fs = std::filesystem;
    const TempDir dir(in_memory());
    const auto start_on_a_copy = [&dir](const fs::path& copy) {
      fs::copy(dir.path(), copy, fs::copy_options::recursive);
      return std::make_unique<Rig>(copy);
    };
    {
      Rig rig(dir.path());
      rig.open();
      ASSERT_EQ(rig.append_through(1), 0);
    }
    std::vector<fs::path> made;
    {
      const TempDir other(in_memory());
      start_on_a_copy(other.path())->open();  // what is in the WAL comes into tables
      for (const fs::path& table : store_files(other.path(), ".sst")) {
        if (fs::exists(dir.path() / "journal" / table.filename())) continue;
        fs::copy(table, dir.path() / "journal");
        made.push_back(table.filename());
      }
    }
    ASSERT_EQ(made.size(), 2u);  // of the stream, and of its state
    for (const fs::path& wal : store_files(dir.path(), ".log")) fs::remove(wal);
    int failed = 0;
    const auto start_with = [&](const fs::path& table, int skip, int count) {
      const TempDir copy(in_memory());
      const auto rig = start_on_a_copy(copy.path());
      for (const fs::path& other : made) {
        if (other != table) fs::remove(copy.path() / "journal" / other);
      }
      rig->system->inject({kTable, kOpen | kRead, Errno::eio, skip, count});
      const auto opened = Journal::open(rig->options, {});
      failed += opened ? 0 : 1;
      EXPECT_FALSE(opened && find((*opened)->recovered(), "s").writable) << skip << " " << count;
      EXPECT_TRUE(fs::exists(copy.path() / "journal" / table)) << skip << " " << count;
    };
    for (const fs::path& table : made) {
      for (int skip = 0; skip < 30; ++skip) {
        // Also where an intact part behind is looked for, and not when the store is opened then.
        for (int count = 1; count <= 4; ++count) start_with(table, skip, count);
      }
    }
    EXPECT_GT(failed, 3) << "the fault was hardly ever met";
  });
}

}  // namespace
}  // namespace spillway::journal
