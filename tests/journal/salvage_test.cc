// What files tell by themselves when the store's own lists do not.
#include "journal/salvage.h"

#include <gtest/gtest.h>
#include <rocksdb/db.h>

#include <fstream>

#include "journal/log_scan.h"
#include "tests/journal/harness.h"

namespace spillway::journal {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> files(const fs::path& dir, const std::string& part) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(dir / "journal")) {
    if (entry.path().filename().string().find(part) != std::string::npos) {
      found.push_back(entry.path());
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

void remove(const fs::path& dir, const std::string& part) {
  for (const fs::path& path : files(dir, part)) fs::remove(path);
}

void flip(const fs::path& path, std::uintmax_t at) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(at));
  const int c = file.get();
  file.seekp(static_cast<std::streamoff>(at));
  file.put(static_cast<char>(c ^ 1));
}

// Blocks of ten records, each with a state that says how many there are.
void fill(const fs::path& dir, Offset blocks, std::uint64_t bytes) {
  const auto journal = open_journal(options_in(dir));
  for (Offset i = 0; i < blocks; ++i) {
    Commit next;
    next.stream = "s";
    next.append = {make_block(10 * i + 1, 10, bytes, {1, 10 * i + 1})};
    next.state = std::to_string(i + 1);
    LedgerEntry entry;
    entry.id = i + 1;
    entry.sink = "t";
    next.ledger = {entry};
    next.dead_letters = {{"t", make_block(10 * i + 1, 1, 10), "no", 1}};
    ASSERT_EQ(commit(*journal, std::move(next)), Outcome::ok);
  }
}

std::unique_ptr<Salvage> salvage(const fs::path& dir) {
  auto opened = Salvage::open(dir);
  EXPECT_TRUE(opened.has_value());
  return std::move(*opened);
}

std::vector<Offset> firsts(Salvage& salvage) {
  std::vector<Offset> found;
  salvage.for_each_block("s", [&](const BlockPtr& block) {
    found.push_back(block->first);
    return true;
  });
  return found;
}

TEST(Salvage, ReadsAllOfASoundStore) {
  TempDir dir;
  fill(dir.path(), 30, 1 << 20);
  const auto all = salvage(dir.path());
  EXPECT_TRUE(all->damage().empty());
  ASSERT_EQ(all->streams().size(), 1u);
  const SalvagedStream& stream = all->streams()[0];
  EXPECT_EQ(stream.state, "30");
  EXPECT_EQ(stream.high_water, 300u);
  EXPECT_EQ(stream.ledger.size(), 30u);
  EXPECT_EQ(stream.dead_letters.size(), 30u);
  EXPECT_EQ(firsts(*all).size(), 30u);
  EXPECT_EQ(firsts(*all).back(), 291u);
}

TEST(Salvage, FindsTheNewestStateOfSeveralTablesWithoutTheStoresLists) {
  TempDir dir;
  fill(dir.path(), 100, 1 << 20);
  remove(dir.path(), ".log");
  ASSERT_GT(files(dir.path(), ".sst").size(), 3u);
  const auto before = salvage(dir.path());
  const auto state = before->streams().at(0).state;
  ASSERT_TRUE(state);
  EXPECT_GT(std::stoi(*state), 50);
  remove(dir.path(), "MANIFEST");
  remove(dir.path(), "CURRENT");
  const auto after = salvage(dir.path());
  EXPECT_FALSE(after->damage().empty());
  EXPECT_EQ(after->streams().at(0).state, state);
  EXPECT_EQ(firsts(*after), firsts(*before));
}

TEST(Salvage, KnowsWhoseBlocksTheWalHoldsWithoutTheStoresLists) {
  TempDir dir;
  fill(dir.path(), 5, 1000);
  ASSERT_TRUE(files(dir.path(), ".sst").size() <= 1);
  remove(dir.path(), "MANIFEST");
  const auto all = salvage(dir.path());
  EXPECT_EQ(all->streams().at(0).state, "5");
  EXPECT_EQ(firsts(*all), (std::vector<Offset>{1, 11, 21, 31, 41}));
}

TEST(Salvage, ReadsOnBehindAFlippedBitInTheWal) {
  TempDir dir;
  fill(dir.path(), 10, 100'000);
  const fs::path wal = files(dir.path(), ".log").back();
  flip(wal, fs::file_size(wal) / 2);
  const auto all = salvage(dir.path());
  ASSERT_EQ(all->damage().size(), 1u);
  EXPECT_EQ(all->streams().at(0).state, "10");
  EXPECT_EQ(firsts(*all).size(), 9u);
}

TEST(Salvage, TakesAnUnfinishedEndOfTheWalForWhatACrashLeaves) {
  TempDir dir;
  fill(dir.path(), 10, 100'000);
  const fs::path wal = files(dir.path(), ".log").back();
  fs::resize_file(wal, fs::file_size(wal) - 10);
  const auto all = salvage(dir.path());
  EXPECT_TRUE(all->damage().empty());
  EXPECT_EQ(all->notes().size(), 1u);
  EXPECT_EQ(firsts(*all).size(), 9u);
}

TEST(Salvage, TakesTheWordOfTheFormatFile) {
  TempDir dir;
  fill(dir.path(), 2, 10);
  std::ofstream(dir.path() / "format") << "3\n";
  EXPECT_EQ(salvage(dir.path())->unknown_format(), "3");
}

TEST(Salvage, SaysOfAnUnknownFormatNothingButItsNumber) {
  TempDir dir;
  fill(dir.path(), 2, 10);
  {
    const std::string path = (dir.path() / "journal").string();
    std::vector<std::string> names;
    ASSERT_TRUE(rocksdb::DB::ListColumnFamilies({}, path, &names).ok());
    std::vector<rocksdb::ColumnFamilyDescriptor> families;
    for (const auto& name : names) families.emplace_back(name, rocksdb::ColumnFamilyOptions());
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    rocksdb::DB* raw = nullptr;
    ASSERT_TRUE(rocksdb::DB::Open(rocksdb::DBOptions(), path, families, &handles, &raw).ok());
    const std::unique_ptr<rocksdb::DB> db(raw);
    for (auto* handle : handles) {
      if (handle->GetName() != "meta") continue;
      ASSERT_TRUE(db->Put({}, handle, "format", "2").ok());
    }
    for (auto* handle : handles) ASSERT_TRUE(db->DestroyColumnFamilyHandle(handle).ok());
  }
  const auto all = salvage(dir.path());
  EXPECT_EQ(all->unknown_format(), "2");
  EXPECT_TRUE(all->streams().empty());
}

TEST(Read, ReadsWhatIsIntactBetweenTwoDamages) {
  TempDir dir;
  fill(dir.path(), 30, 1 << 20);
  const auto tables = files(dir.path(), ".sst");
  const fs::path table = *std::find_if(tables.begin(), tables.end(), [](const fs::path& path) {
    return fs::file_size(path) > (4 << 20);
  });
  const auto size = fs::file_size(table);
  flip(table, size / 8);
  flip(table, size - size / 8);
  const auto journal = open_journal(options_in(dir.path()));
  std::vector<std::pair<Offset, Offset>> lost;
  Offset read_to = 0;
  while (read_to < 300) {
    const ReadResult result = read(*journal, read_to + 1, 300);
    ASSERT_TRUE(result.ok) << result.error;
    ASSERT_TRUE(result.lost || !result.blocks.empty());
    if (!result.blocks.empty()) read_to = result.blocks.back()->last();
    if (!result.lost) continue;
    lost.push_back(*result.lost);
    read_to = result.lost->second;
  }
  ASSERT_EQ(lost.size(), 2u) << ::testing::PrintToString(lost);
  for (const auto& [first, last] : lost) EXPECT_EQ(last - first, 9u);
}

TEST(Read, DeliversWhatIsIntactBeforeATableWhoseEndIsDamaged) {
  TempDir dir;
  fill(dir.path(), 30, 1 << 20);
  remove(dir.path(), ".log");
  std::vector<fs::path> large;
  for (const fs::path& path : files(dir.path(), ".sst")) {
    if (fs::file_size(path) > (4 << 20)) large.push_back(path);
  }
  flip(large.back(), fs::file_size(large.back()) - 100'000);
  const auto journal = open_journal(options_in(dir.path()));
  EXPECT_TRUE(find(journal->recovered(), "s").damage);
  EXPECT_EQ(find(journal->recovered(), "s").end, 300u);
  const ReadResult result = read(*journal, 1, 300);
  ASSERT_TRUE(result.ok) << result.error;
  EXPECT_GT(result.blocks.size(), 10u);
  EXPECT_TRUE(result.lost);
}

TEST(LogScan, TellsDamageInTheMiddleFromAnUnfinishedEnd) {
  TempDir dir;
  fill(dir.path(), 10, 100'000);
  const fs::path wal = files(dir.path(), ".log").back();
  const LogScan sound = scan_log(wal, {});
  EXPECT_FALSE(sound.damaged_at);
  EXPECT_GE(sound.records, 10u);
  flip(wal, fs::file_size(wal) - 5);
  const LogScan end = scan_log(wal, {});
  EXPECT_TRUE(end.damaged_at);
  EXPECT_FALSE(end.intact_after_damage);
  EXPECT_EQ(end.records, sound.records - 1);
  flip(wal, 500'000);
  const LogScan middle = scan_log(wal, {});
  EXPECT_TRUE(middle.intact_after_damage);
  EXPECT_EQ(middle.records, sound.records - 2);
  EXPECT_FALSE(scan_log(dir.path() / "nothing", {}).error.empty());
}

}  // namespace
}  // namespace spillway::journal
