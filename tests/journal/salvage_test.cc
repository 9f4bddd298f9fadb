// What files tell by themselves when the store's own lists do not.
#include "journal/salvage.h"

#include <gtest/gtest.h>
#include <rocksdb/db.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>

#include "journal/format.h"
#include "journal/log_scan.h"
#include "journal/store.h"
#include "tests/journal/damage.h"
#include "tests/journal/harness.h"

namespace spillway::journal {
namespace {

namespace fs = std::filesystem;

void remove(const fs::path& dir, const std::string& part) {
  for (const fs::path& path : store_files(dir, part)) fs::remove(path);
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
  ASSERT_GT(store_files(dir.path(), ".sst").size(), 3u);
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
  ASSERT_TRUE(store_files(dir.path(), ".sst").size() <= 1);
  remove(dir.path(), "MANIFEST");
  const auto all = salvage(dir.path());
  EXPECT_EQ(all->streams().at(0).state, "5");
  EXPECT_EQ(firsts(*all), (std::vector<Offset>{1, 11, 21, 31, 41}));
}

TEST(Salvage, ReadsOnBehindAFlippedBitInTheWal) {
  TempDir dir;
  fill(dir.path(), 10, 100'000);
  const fs::path wal = store_files(dir.path(), ".log").back();
  flip(wal, fs::file_size(wal) / 2);
  const auto all = salvage(dir.path());
  ASSERT_EQ(all->damage().size(), 1u);
  EXPECT_EQ(all->streams().at(0).state, "10");
  EXPECT_EQ(firsts(*all).size(), 9u);
}

TEST(Salvage, TakesAnUnfinishedEndOfTheWalForWhatACrashLeaves) {
  TempDir dir;
  fill(dir.path(), 10, 100'000);
  const fs::path wal = store_files(dir.path(), ".log").back();
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
  const auto tables = store_files(dir.path(), ".sst");
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
  for (const fs::path& path : store_files(dir.path(), ".sst")) {
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
  const fs::path wal = store_files(dir.path(), ".log").back();
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

// Where the fragments of a sound WAL begin.
std::vector<std::uintmax_t> fragments(const fs::path& path) {
  constexpr std::uintmax_t kBlock = 32 << 10;
  constexpr std::uintmax_t kHeader = 7;
  std::ifstream file(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  std::vector<std::uintmax_t> found;
  for (std::uintmax_t at = 0; at + kHeader <= bytes.size();) {
    if (kBlock - at % kBlock < kHeader) {
      at += kBlock - at % kBlock;
      continue;
    }
    found.push_back(at);
    std::uint16_t length = 0;
    std::memcpy(&length, bytes.data() + at + 4, sizeof length);
    at += kHeader + length;
  }
  return found;
}

TEST(LogScan, LosesOneRecordToAFlippedBitInAnyPartOfItsHeader) {
  TempDir dir;
  fill(dir.path(), 40, 1000);  // more than one block of the file
  const fs::path wal = store_files(dir.path(), ".log").back();
  const LogScan sound = scan_log(wal, {});
  const auto headers = fragments(wal);
  ASSERT_GT(headers.size(), 40u);
  for (const std::size_t which : {std::size_t{3}, headers.size() / 3, headers.size() - 3}) {
    for (std::uintmax_t byte = 0; byte < 7; ++byte) {
      flip(wal, headers[which] + byte);
      const LogScan scan = scan_log(wal, {});
      EXPECT_TRUE(scan.damaged_at);
      EXPECT_TRUE(scan.intact_after_damage) << which << " " << byte;
      EXPECT_EQ(scan.records, sound.records - 1) << which << " " << byte;
      flip(wal, headers[which] + byte);
    }
  }
  EXPECT_FALSE(scan_log(wal, {}).damaged_at);
}

TEST(LogScan, LosesAllOfARecordToAFlippedBitInAnyOfItsFragments) {
  TempDir dir;
  fill(dir.path(), 4, 100'000);
  const fs::path wal = store_files(dir.path(), ".log").back();
  std::vector<std::string> sound;
  scan_log(wal, [&](const std::string& record, bool) { sound.push_back(record); });
  for (const std::uintmax_t at : fragments(wal)) {
    flip(wal, at + 10);
    std::vector<std::string> left;
    scan_log(wal, [&](const std::string& record, bool) { left.push_back(record); });
    EXPECT_EQ(left.size() + 1, sound.size()) << at;
    for (const std::string& record : left) {
      EXPECT_NE(std::ranges::find(sound, record), sound.end()) << at;
    }
    flip(wal, at + 10);
  }
}

TEST(LogScan, SeesARecordThatIsCutOffBetweenTwoOfItsFragments) {
  TempDir dir;
  fill(dir.path(), 4, 100'000);
  const fs::path wal = store_files(dir.path(), ".log").back();
  fs::resize_file(wal, 6 * (32 << 10));  // in the second block
  const LogScan scan = scan_log(wal, {});
  EXPECT_TRUE(scan.damaged_at);
  EXPECT_FALSE(scan.intact_after_damage);
}

TEST(LogScan, TakesNoPayloadForARecordThatFollowsDamage) {
  TempDir dir;
  fill(dir.path(), 1, 100);
  fs::path wal = store_files(dir.path(), ".log").back();
  std::ifstream file(wal, std::ios::binary);
  const std::string old{std::istreambuf_iterator<char>(file), {}};
  const std::string record = old.substr(fragments(wal).back());
  ASSERT_FALSE(record.empty());
  {
    const auto journal = open_journal(options_in(dir.path()));
    for (Offset i = 0; i < 3; ++i) {
      const BlockPtr block = with(make_block(11 + i, 1, record.size() + 200), [&](Block& b) {
        auto storage = std::make_shared_for_overwrite<std::byte[]>(b.records.size());
        std::memcpy(storage.get(), b.records.data(), b.records.size());
        std::memcpy(storage.get() + 100, record.data(), record.size());
        b.records = {storage.get(), b.records.size()};
        b.storage = std::move(storage);
      });
      ASSERT_EQ(append(*journal, {block}), Outcome::ok);
    }
  }
  wal = store_files(dir.path(), ".log").back();
  const LogScan sound = scan_log(wal, {});
  const auto headers = fragments(wal);
  ASSERT_GE(headers.size(), 3u);
  flip(wal, headers[headers.size() - 2] + 4);
  const LogScan scan = scan_log(wal, {});
  EXPECT_EQ(scan.records, sound.records - 1);
  flip(wal, headers[headers.size() - 2] + 4);
  flip(wal, headers.back() + 4);
  EXPECT_EQ(scan_log(wal, {}).records, sound.records - 1);
}

TEST(Salvage, ForgetsDeadLettersThatThePurgeInTheWalTook) {
  TempDir dir;
  fill(dir.path(), 3, 1000);
  {
    // Which writes out what it finds in the WAL; a journal would give back the space, too.
    StoreContext context(options_in(dir.path()));
    Store::Failure failure;
    const auto store = Store::open(context, Store::Mode::write, failure);
    ASSERT_NE(store, nullptr) << failure.text;
    for (const Offset number : {1U, 3U}) {
      const std::string key = dead_letter_prefix("s") + std::string(view(key_of(number)));
      ASSERT_TRUE(store->db().Delete(rocksdb::WriteOptions(), store->dead_letters(), key).ok());
    }
  }
  const auto all = salvage(dir.path());
  ASSERT_EQ(all->streams().at(0).dead_letters.size(), 1u);
  EXPECT_EQ(all->streams().at(0).dead_letters[0].record->first, 11u);
}

}  // namespace
}  // namespace spillway::journal
