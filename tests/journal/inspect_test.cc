#include "journal/inspect.h"

#include <gtest/gtest.h>
#include <rocksdb/db.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "journal/format.h"
#include "tests/journal/harness.h"

namespace spillway::journal {
namespace {

// Changes the stored blocks of stream "s" behind the journal's back.
template <class Change>
void tamper(const std::filesystem::path& dir, const Change& change) {
  const std::string path = (dir / "journal").string();
  std::vector<std::string> names;
  ASSERT_TRUE(rocksdb::DB::ListColumnFamilies({}, path, &names).ok());
  std::vector<rocksdb::ColumnFamilyDescriptor> families;
  for (const std::string& name : names) families.emplace_back(name, rocksdb::ColumnFamilyOptions());
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* raw = nullptr;
  ASSERT_TRUE(rocksdb::DB::Open(rocksdb::DBOptions(), path, families, &handles, &raw).ok());
  const std::unique_ptr<rocksdb::DB> db(raw);
  for (rocksdb::ColumnFamilyHandle* handle : handles) {
    if (handle->GetName() == "stream.s") change(*db, handle);
  }
  for (auto* handle : handles) ASSERT_TRUE(db->DestroyColumnFamilyHandle(handle).ok());
}

rocksdb::Slice slice(const Key& key) { return {key.data(), key.size()}; }

void fill(const std::filesystem::path& dir) {
  const auto journal = open_journal(options_in(dir));
  std::vector<BlockPtr> blocks;
  for (Offset i = 0; i < 10; ++i) blocks.push_back(make_block(1 + 10 * i, 10, 40'000));
  ASSERT_EQ(append(*journal, blocks), Outcome::ok);
}

void damage_block_at_41(const std::filesystem::path& dir) {
  tamper(dir, [](rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family) {
    std::string value;
    const Key key = key_of(41);
    ASSERT_TRUE(db.Get({}, family, slice(key), &value).ok());
    value[100] = static_cast<char>(value[100] ^ 1);
    ASSERT_TRUE(db.Put({}, family, slice(key), value).ok());
  });
}

TEST(Inspect, FindsNothingWrongWithAnIntactStore) {
  TempDir dir;
  fill(dir.path());
  const auto inspector = Inspector::open(dir.path());
  ASSERT_TRUE(inspector.has_value());
  EXPECT_FALSE((*inspector)->broker_running());
  EXPECT_TRUE((*inspector)->check().empty());
  std::vector<Offset> firsts;
  EXPECT_FALSE((*inspector)->for_each_block("s", 0, [&](const BlockInfo& info) {
    EXPECT_TRUE(info.intact);
    firsts.push_back(info.first);
    return firsts.size() < 3;
  }));
  EXPECT_EQ(firsts, (std::vector<Offset>{1, 11, 21}));
}

TEST(Inspect, WorksWhileTheJournalIsWrittenTo) {
  TempDir dir;
  const auto journal = open_journal(options_in(dir.path()));
  ASSERT_EQ(append(*journal, {make_block(1, 5, 500)}), Outcome::ok);
  const auto inspector = Inspector::open(dir.path());
  ASSERT_TRUE(inspector.has_value());
  EXPECT_TRUE((*inspector)->broker_running());
  EXPECT_EQ(find((*inspector)->streams(), "s").end, 5u);
  EXPECT_TRUE((*inspector)->check().empty());
  EXPECT_EQ(append(*journal, {make_block(6, 5, 500)}), Outcome::ok);
}

TEST(Inspect, CallsNothingDamagedThatARunningJournalGaveUp) {
  TempDir dir;
  Options options = options_in(dir.path());
  options.max_disk_bytes = std::uint64_t{128} << 20;  // small files, which go soon
  const auto journal = open_journal(options);
  ASSERT_EQ(append(*journal, {make_block(1, 1, 100)}), Outcome::ok);
  std::atomic<bool> looked = false;
  std::thread onlooker([&] {
    for (int i = 0; i < 60; ++i) {
      const auto inspector = Inspector::open(dir.path());
      ASSERT_TRUE(inspector.has_value()) << inspector.error().message;
      const Recovered& stream = find((*inspector)->streams(), "s");
      EXPECT_FALSE(stream.damage) << *stream.damage;
      for (const Finding& finding : (*inspector)->check()) {
        ADD_FAILURE() << finding.first << " to " << finding.last << ": " << finding.text;
      }
    }
    looked = true;
  });
  for (Offset next = 2; !looked; ++next) {
    EXPECT_EQ(append(*journal, {make_block(next, 1, std::uint64_t{1} << 20)}), Outcome::ok);
    if (next % 16 != 0) continue;
    EXPECT_EQ(set_watermark(*journal, next), Outcome::ok);
    journal->trim("s");
  }
  onlooker.join();
}

TEST(Inspect, RefusesADirectoryWithoutAJournal) {
  TempDir dir;
  EXPECT_FALSE(Inspector::open(dir.path()).has_value());
  EXPECT_FALSE(Inspector::open(dir.path() / "nowhere").has_value());
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST(Inspect, SaysWhichBlockIsDamaged) {
  TempDir dir;
  fill(dir.path());
  damage_block_at_41(dir.path());
  const auto inspector = Inspector::open(dir.path());
  ASSERT_TRUE(inspector.has_value());
  const auto findings = (*inspector)->check();
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].first, 41u);
  EXPECT_EQ(findings[0].last, 50u);
}

TEST(Inspect, SaysWhichRangeIsMissing) {
  TempDir dir;
  fill(dir.path());
  tamper(dir.path(), [](rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family) {
    for (const Offset at : {31U, 41U}) {
      const Key key = key_of(at);
      ASSERT_TRUE(db.Delete({}, family, slice(key)).ok());
    }
  });
  const auto inspector = Inspector::open(dir.path());
  ASSERT_TRUE(inspector.has_value());
  const auto findings = (*inspector)->check();
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].first, 31u);
  EXPECT_EQ(findings[0].last, 50u);
}

TEST(Read, StopsAtADamagedBlockAndSaysHowFarItReaches) {
  TempDir dir;
  fill(dir.path());
  damage_block_at_41(dir.path());
  const auto journal = open_journal(options_in(dir.path()));
  const ReadResult before = read(*journal, 1);
  ASSERT_TRUE(before.ok);
  EXPECT_EQ(before.blocks.size(), 4u);
  EXPECT_EQ(before.lost, (std::pair<Offset, Offset>{41, 50}));
  const ReadResult inside = read(*journal, 45);
  ASSERT_TRUE(inside.ok);
  EXPECT_TRUE(inside.blocks.empty());
  EXPECT_EQ(inside.lost, (std::pair<Offset, Offset>{45, 50}));
  const ReadResult after = read(*journal, 51);
  EXPECT_EQ(after.blocks.size(), 5u);
  EXPECT_FALSE(after.lost);
}

TEST(Read, StopsAtAMissingBlock) {
  TempDir dir;
  fill(dir.path());
  tamper(dir.path(), [](rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family) {
    const Key key = key_of(41);
    ASSERT_TRUE(db.Delete({}, family, slice(key)).ok());
  });
  const auto journal = open_journal(options_in(dir.path()));
  const ReadResult result = read(*journal, 1);
  EXPECT_EQ(result.blocks.size(), 4u);
  EXPECT_EQ(result.lost, (std::pair<Offset, Offset>{41, 50}));
}

TEST(Inspect, ReadsNothingOfAFormatThatItDoesNotKnow) {
  TempDir dir;
  { const auto journal = open_journal(options_in(dir.path())); }
  std::ofstream(dir.path() / "format") << "2\n";
  const auto inspector = Inspector::open(dir.path());
  ASSERT_FALSE(inspector.has_value());
  EXPECT_NE(inspector.error().message.find("says format 2"), std::string::npos)
      << inspector.error().message;
}

}  // namespace
}  // namespace spillway::journal
