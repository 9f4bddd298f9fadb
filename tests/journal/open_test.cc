// What open() makes of a data directory, and what it says of one that does not add up.
#include <gtest/gtest.h>
#include <rocksdb/db.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <utility>

#include "journal/data_dir.h"
#include "journal/format.h"
#include "journal/log_scan.h"
#include "journal/manifest.h"
#include "journal/slots.h"
#include "journal/start_check.h"
#include "journal/store.h"
#include "journal/wal_contents.h"
#include "tests/journal/damage.h"
#include "tests/journal/harness.h"

namespace spillway::journal {
namespace {

namespace fs = std::filesystem;

void flip_in_the_middle(const fs::path& path) { flip(path, fs::file_size(path) / 2); }

void fill(const fs::path& dir, Offset blocks, std::uint64_t bytes) {
  const auto journal = open_journal(options_in(dir));
  const Recovered before = find(journal->recovered(), "s");
  for (Offset i = 1; i <= blocks; ++i) {
    ASSERT_EQ(append(*journal, {make_block(before.end + i, 1, bytes)}), Outcome::ok);
  }
}

TEST(Open, RefusesASecondBrokerAndNamesTheFirst) {
  TempDir dir;
  const auto journal = open_journal(options_in(dir.path()));
  const auto second = Journal::open(options_in(dir.path()), {});
  ASSERT_FALSE(second.has_value());
  EXPECT_NE(second.error().message.find(std::to_string(::getpid())), std::string::npos)
      << second.error().message;
}

TEST(Open, RefusesABoundTooSmallForTheStoreItself) {
  TempDir dir;
  Options options = options_in(dir.path());
  options.max_disk_bytes = kMinDiskBytes - 1;
  EXPECT_FALSE(Journal::open(options, {}).has_value());
  options.max_disk_bytes = kMinDiskBytes;
  EXPECT_TRUE(Journal::open(options, {}).has_value());
}

TEST(Open, RefusesStreamNamesThatCannotNameAFile) {
  TempDir dir;
  for (const std::string& name : {std::string(), std::string("."), std::string(".."),
                                  std::string("a/b"), std::string("a b"), std::string(65, 'a')}) {
    EXPECT_FALSE(Journal::open(options_in(dir.path(), {name}), {}).has_value()) << name;
  }
  EXPECT_TRUE(Journal::open(options_in(dir.path(), {std::string(64, 'a')}), {}).has_value());
}

TEST(Open, FindsANewStreamEmpty) {
  TempDir dir;
  const auto journal = open_journal(options_in(dir.path()));
  const Recovered& recovered = find(journal->recovered(), "s");
  EXPECT_FALSE(recovered.state);
  EXPECT_EQ(recovered.end, 0u);
  EXPECT_FALSE(recovered.damage);
}

TEST(Open, ReportsStreamsThatAreNoLongerConfigured) {
  TempDir dir;
  fill(dir.path(), 3, 10);
  const auto journal = open_journal(options_in(dir.path(), {"other"}));
  EXPECT_EQ(find(journal->recovered(), "s").end, 3u);
  EXPECT_EQ(find(journal->recovered(), "other").end, 0u);
}

TEST(Open, RefusesAFormatThatItDoesNotKnow) {
  TempDir dir;
  { const auto journal = open_journal(options_in(dir.path())); }
  {
    const std::string path = (dir.path() / "journal").string();
    std::vector<rocksdb::ColumnFamilyDescriptor> families;
    for (const char* name : {"default", "meta", "dead-letters"}) families.push_back({name, {}});
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    rocksdb::DB* raw = nullptr;
    ASSERT_TRUE(rocksdb::DB::Open(rocksdb::DBOptions(), path, families, &handles, &raw).ok());
    const std::unique_ptr<rocksdb::DB> db(raw);
    ASSERT_TRUE(db->Put({}, handles[1], "format", "2").ok());
    for (auto* handle : handles) ASSERT_TRUE(db->DestroyColumnFamilyHandle(handle).ok());
  }
  const auto journal = Journal::open(options_in(dir.path()), {});
  ASSERT_FALSE(journal.has_value());
  EXPECT_NE(journal.error().message.find("format 2"), std::string::npos) << journal.error().message;
}

TEST(Open, ReadsTheFormatFromItsFileBeforeRocksDbIsAsked) {
  TempDir dir;
  { const auto journal = open_journal(options_in(dir.path())); }
  const auto format = dir.path() / "format";
  ASSERT_TRUE(std::filesystem::exists(format));
  std::ofstream(format) << "2\n";
  const auto current = std::filesystem::last_write_time(dir.path() / "journal" / "CURRENT");
  const auto refused = Journal::open(options_in(dir.path()), {});
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("format 2"), std::string::npos) << refused.error().message;
  EXPECT_EQ(std::filesystem::last_write_time(dir.path() / "journal" / "CURRENT"), current);
  std::filesystem::remove(format);  // as of a store before there was such a file
  EXPECT_TRUE(Journal::open(options_in(dir.path()), {}).has_value());
  EXPECT_TRUE(std::filesystem::exists(format));
}

TEST(Open, DeliversWhatIsIntactAroundAFlippedBitInTheWalAndDeletesNothing) {
  TempDir dir;
  fill(dir.path(), 100, 1000);
  flip_in_the_middle(store_files(dir.path(), ".log").back());
  const auto journal = open_journal(options_in(dir.path()));
  const Recovered& recovered = find(journal->recovered(), "s");
  EXPECT_EQ(recovered.high_water, 100u);
  EXPECT_EQ(recovered.end, 100u);
  EXPECT_FALSE(recovered.writable);
  ASSERT_TRUE(recovered.damage);
  EXPECT_EQ(append(*journal, {make_block(101, 1, 10)}), Outcome::failed);
  const ReadResult before = read(*journal, 1);
  ASSERT_TRUE(before.ok);
  ASSERT_TRUE(before.lost);
  EXPECT_EQ(before.blocks.back()->last() + 1, before.lost->first);
  EXPECT_LT(before.lost->second - before.lost->first, 34u);  // a block of 32 KiB of the WAL
  const ReadResult after = read(*journal, before.lost->second + 1);
  EXPECT_FALSE(after.lost);
  EXPECT_EQ(after.blocks.back()->last(), 100u);
}

TEST(Open, KeepsAWalFileBehindOneWhoseLastRecordIsDamaged) {
  TempDir dir;
  fill(dir.path(), 100, 1000);
  const fs::path wal = store_files(dir.path(), ".log").back();
  const fs::path next = dir.path() / "journal" / "999999.log";
  split_wal(wal, next, 50);
  {
    TempDir sound;
    fs::copy(dir.path(), sound.path(), fs::copy_options::recursive);
    EXPECT_FALSE(find(open_journal(options_in(sound.path()))->recovered(), "s").damage);
  }
  flip(wal, fs::file_size(wal) - 10);
  for (int i = 0; i < 2; ++i) {
    const auto journal = open_journal(options_in(dir.path()));
    const Recovered& recovered = find(journal->recovered(), "s");
    EXPECT_EQ(recovered.end, 100u);
    EXPECT_FALSE(recovered.writable);
    ASSERT_TRUE(recovered.damage);
    EXPECT_NE(recovered.damage->find("999999.log"), std::string::npos) << *recovered.damage;
    const ReadResult before = read(*journal, 1);
    ASSERT_TRUE(before.lost);
    EXPECT_EQ(before.lost->first, before.lost->second);
    EXPECT_EQ(read(*journal, before.lost->second + 1).blocks.back()->last(), 100u);
  }
  EXPECT_TRUE(fs::exists(next));
}

// RocksDB begins the file after a torn one with the write that comes next.
TEST(Open, GoesOnBehindATornWalFileWhereARecoveryWentOn) {
  TempDir dir;
  fill(dir.path(), 10, 1000);
  const fs::path wal = store_files(dir.path(), ".log").back();
  fs::resize_file(wal, fs::file_size(wal) - 10);
  std::pair<std::uint64_t, std::uint32_t> last;
  scan_log(wal, [&](const std::string& record, bool) { last = writes_of(record).value(); });
  std::string log;
  std::string empty(12, '\0');
  const std::uint64_t next = last.first + last.second;
  std::memcpy(empty.data(), &next, sizeof next);
  append_log(log, empty);
  std::ofstream(dir.path() / "journal" / "999999.log", std::ios::binary) << log;
  const auto journal = open_journal(options_in(dir.path()));
  EXPECT_TRUE(find(journal->recovered(), "s").writable);
}

TEST(Open, DoesNotMindATornWalFileThatIsNotNeededAnyMore) {
  TempDir dir;
  fill(dir.path(), 10, 1000);
  const fs::path wal = store_files(dir.path(), ".log").back();
  fill(dir.path(), 10, 1000);  // this start wrote what it held into a table
  ASSERT_FALSE(fs::exists(wal));
  std::ofstream(wal, std::ios::binary) << "torn before its first record was whole";
  const auto journal = open_journal(options_in(dir.path()));
  EXPECT_FALSE(find(journal->recovered(), "s").damage);
  EXPECT_EQ(find(journal->recovered(), "s").end, 20u);
}

// RocksDB by itself puts fragments of two records together, or ends there.
TEST(Open, DeliversAllButOneRecordWhateverBitOfAHeaderInTheWalIsFlipped) {
  constexpr Offset kBlocks = 12;
  constexpr std::uint64_t kBytes = 256 << 10;
  constexpr std::uintmax_t kFragment = 32 << 10;
  TempDir dir;
  fill(dir.path(), kBlocks, kBytes);
  const fs::path wal = store_files(dir.path(), ".log").back();
  const std::uintmax_t middle = kBlocks / 2 * (kBytes / kFragment) * kFragment;
  for (const std::uintmax_t at : {middle, middle + 3 * kFragment}) {
    for (const std::uintmax_t byte : {0, 4, 5, 6, 100}) {
      flip(wal, at + byte);
      const auto journal = open_journal(options_in(dir.path()));
      const Recovered& recovered = find(journal->recovered(), "s");
      EXPECT_FALSE(recovered.writable);
      EXPECT_EQ(recovered.end, kBlocks);
      const ReadResult before = read(*journal, 1);
      ASSERT_TRUE(before.lost) << at << " " << byte;
      EXPECT_EQ(before.lost->first, before.lost->second) << at << " " << byte;
      const ReadResult after = read(*journal, before.lost->second + 1);
      EXPECT_FALSE(after.lost) << at << " " << byte;
      EXPECT_EQ(before.blocks.size() + after.blocks.size(), kBlocks - 1) << at << " " << byte;
      for (const auto& block : after.blocks) {
        EXPECT_TRUE(same(*block, *make_block(block->first, 1, kBytes)));
      }
      flip(wal, at + byte);
    }
  }
}

TEST(Open, KeepsReportingALossUntilSomethingIsAppendedAfterIt) {
  TempDir dir;
  fill(dir.path(), 100, 1000);
  const fs::path wal = store_files(dir.path(), ".log").back();
  fs::resize_file(wal, fs::file_size(wal) / 2);
  Offset end = 0;
  for (int i = 0; i < 2; ++i) {
    const auto journal = open_journal(options_in(dir.path()));
    ASSERT_TRUE(find(journal->recovered(), "s").damage);
    Commit commit;
    commit.stream = "s";
    commit.state = "looked at it";
    ASSERT_EQ(journal::commit(*journal, commit), Outcome::ok);
    end = find(journal->recovered(), "s").end;
  }
  {
    const auto journal = open_journal(options_in(dir.path()));
    ASSERT_TRUE(find(journal->recovered(), "s").damage);
    ASSERT_EQ(append(*journal, {make_block(end + 1, 1, 10)}), Outcome::ok);
  }
  const auto journal = open_journal(options_in(dir.path()));
  EXPECT_FALSE(find(journal->recovered(), "s").damage);
  EXPECT_EQ(find(journal->recovered(), "s").high_water, end + 1);
}

// What a crash leaves at the end of the MANIFEST: a record of which only a part was written.
void tear_manifest(const fs::path& dir) {
  const auto manifest = current_manifest(Layout(dir));
  ASSERT_TRUE(manifest);
  constexpr char kTorn[] = {1, 2, 3, 4, 0x7f, 0, 1, 'x'};  // crc, length, type, contents
  std::ofstream(*manifest, std::ios::binary | std::ios::app).write(kTorn, sizeof kTorn);
}

// Of this RocksDB: a start that knew less would open a store twice whenever a crash left a table.
TEST(Manifest, NamesEveryTableOfASoundStore) {
  TempDir dir;
  fill(dir.path(), 30, 1 << 20);
  {
    const auto journal = open_journal(options_in(dir.path()));
    ASSERT_EQ(set_watermark(*journal, 20), Outcome::ok);
    journal->trim("s");
  }
  const auto manifest = current_manifest(Layout(dir.path()));
  ASSERT_TRUE(manifest);
  Manifest said;
  scan_log(*manifest, [&](const std::string& record, bool) { said.take(record); });
  EXPECT_TRUE(said.known());
  const auto tables = store_files(dir.path(), ".sst");
  EXPECT_FALSE(tables.empty());
  for (const fs::path& table : tables) {
    EXPECT_TRUE(said.tables().contains(file_number(table).value_or(0))) << table;
  }
  // No tag of ours; a file that ends too early.
  for (const char* record : {"\x7f", "\x67\x01"}) {
    Manifest unknown;
    unknown.take(record);
    EXPECT_FALSE(unknown.known());
  }
}

// Commits a state that is in the WAL, and as of the next start in a table; returns the tables that
// this start makes. `dir` stays as it was before it.
std::vector<fs::path> unlisted_state(const fs::path& dir, const fs::path& other) {
  {
    const auto journal = open_journal(options_in(dir));
    Commit next;
    next.stream = "s";
    next.state = "the only one";
    EXPECT_EQ(commit(*journal, std::move(next)), Outcome::ok);
  }
  fs::copy(dir, other, fs::copy_options::recursive | fs::copy_options::overwrite_existing);
  StoreContext context(options_in(other));
  Store::Failure failure;
  EXPECT_NE(Store::open(context, Store::Mode::write, failure), nullptr) << failure.text;
  std::vector<fs::path> made;
  for (const auto& table : store_files(other, ".sst")) {
    if (!fs::exists(dir / "journal" / table.filename())) made.push_back(table);
  }
  EXPECT_FALSE(made.empty());
  return made;
}

TEST(Open, NeverDeletesAStateThatAManifestWithoutItsEndDoesNotList) {
  for (const bool torn : {true, false}) {  // or cut off behind a record
    TempDir dir;
    TempDir other;
    const auto made = unlisted_state(dir.path(), other.path());
    for (const auto& wal : store_files(dir.path(), ".log")) fs::remove(wal);
    for (const auto& table : made) fs::copy(table, dir.path() / "journal");
    if (torn) tear_manifest(dir.path());
    const auto journal = open_journal(options_in(dir.path()));
    EXPECT_FALSE(find(journal->recovered(), "s").writable);
    EXPECT_TRUE(find(journal->recovered(), "s").damage);
    for (const auto& table : made) {
      EXPECT_TRUE(fs::exists(dir.path() / "journal" / table.filename()));
    }
  }
}

TEST(Open, TakesATableThatWasNotListedYetAtACrashForNoDamageWhileTheWalHoldsIt) {
  for (const bool torn : {true, false}) {
    TempDir dir;
    TempDir other;
    for (const auto& table : unlisted_state(dir.path(), other.path())) {
      fs::copy(table, dir.path() / "journal");
    }
    if (torn) tear_manifest(dir.path());
    const auto journal = open_journal(options_in(dir.path()));
    EXPECT_TRUE(find(journal->recovered(), "s").writable);
    EXPECT_FALSE(find(journal->recovered(), "s").damage);
    EXPECT_EQ(find(journal->recovered(), "s").state, "the only one");
  }
}

TEST(Open, TakesATrimmedTableThatACrashLeftForNoDamage) {
  TempDir dir;
  TempDir kept;
  fill(dir.path(), 30, 1 << 20);
  auto before = store_files(dir.path(), ".sst");
  std::erase_if(before, [](const fs::path& table) { return fs::file_size(table) < (1 << 20); });
  ASSERT_FALSE(before.empty());
  for (const auto& table : before) fs::copy(table, kept.path());
  {
    const auto journal = open_journal(options_in(dir.path()));
    ASSERT_EQ(set_watermark(*journal, 30), Outcome::ok);
    journal->trim("s");
    ASSERT_TRUE(eventually([&] { return !fs::exists(before.back()); }));
  }
  for (const auto& table : before) {
    if (!fs::exists(table)) fs::copy(kept.path() / table.filename(), table);
  }
  tear_manifest(dir.path());
  const auto journal = open_journal(options_in(dir.path()));
  EXPECT_TRUE(find(journal->recovered(), "s").writable);
  EXPECT_FALSE(find(journal->recovered(), "s").damage);
  EXPECT_EQ(append(*journal, {make_block(31, 1, 10)}), Outcome::ok);
}

TEST(Open, ReportsAJournalThatWasDeleted) {
  TempDir dir;
  fill(dir.path(), 10, 10);
  fs::remove_all(dir.path() / "journal");
  const auto journal = open_journal(options_in(dir.path()));
  const Recovered& recovered = find(journal->recovered(), "s");
  EXPECT_EQ(recovered.high_water, 10u);
  EXPECT_EQ(recovered.end, 0u);
  EXPECT_TRUE(recovered.damage);
}

TEST(Open, DeliversTheIntactPartOfAStoreWithABrokenTableAndRefusesCommits) {
  TempDir dir;
  fill(dir.path(), 40, 1 << 20);  // several tables
  const auto tables = store_files(dir.path(), ".sst");
  ASSERT_GT(tables.size(), 3u);
  std::vector<fs::path> large;
  for (const auto& table : tables) {
    if (fs::file_size(table) > (1 << 20)) large.push_back(table);
  }
  ASSERT_GT(large.size(), 2u);
  fs::resize_file(large[1], fs::file_size(large[1]) / 2);
  EventLog log;
  const auto journal = open_journal(options_in(dir.path()), &log);
  ASSERT_NE(journal, nullptr);
  EXPECT_TRUE(find(journal->recovered(), "s").damage);
  EXPECT_EQ(find(journal->recovered(), "s").end, 40u);
  EXPECT_EQ(append(*journal, {make_block(41, 1, 10)}), Outcome::failed);
  EXPECT_TRUE(write_latch(*journal, "damaged"));
  const ReadResult result = read(*journal, 1);
  ASSERT_TRUE(result.ok) << result.error;
  EXPECT_FALSE(result.blocks.empty());
  ASSERT_TRUE(result.lost);
  const ReadResult after = read(*journal, result.lost->second + 1);
  ASSERT_TRUE(after.ok) << after.error;
  EXPECT_FALSE(after.lost);
  ASSERT_FALSE(after.blocks.empty());
  EXPECT_EQ(after.blocks.back()->last(), 40u);
  EXPECT_EQ(log.downs(), 0);
}

// Whichever it is: the first that is read, one in the middle, the last of all.
TEST(Open, DeliversTheIntactPartOfAStoreThatMissesATable) {
  for (const std::size_t which : {0, 1, 2}) {
    TempDir dir;
    fill(dir.path(), 40, 1 << 20);
    { const auto journal = open_journal(options_in(dir.path())); }  // all of it is in tables now
    std::vector<fs::path> large;
    for (const auto& table : store_files(dir.path(), ".sst")) {
      if (fs::file_size(table) > (1 << 20)) large.push_back(table);
    }
    ASSERT_GT(large.size(), 2u);
    fs::remove(which == 2 ? large.back() : large[which]);
    const auto journal = open_journal(options_in(dir.path()));
    EXPECT_TRUE(find(journal->recovered(), "s").damage);
    EXPECT_FALSE(find(journal->recovered(), "s").writable);
    EXPECT_EQ(find(journal->recovered(), "s").end, 40u);
    Offset next = 1;
    std::size_t intact = 0;
    std::size_t holes = 0;
    while (next <= 40) {
      const ReadResult result = read(*journal, next);
      ASSERT_TRUE(result.ok) << which << ": " << result.error;
      ASSERT_TRUE(result.lost || !result.blocks.empty());
      intact += result.blocks.size();
      if (!result.blocks.empty()) next = result.blocks.back()->last() + 1;
      if (!result.lost) continue;
      EXPECT_EQ(result.lost->first, next);
      next = result.lost->second + 1;
      ++holes;
    }
    EXPECT_EQ(holes, 1u) << which;
    // The newest may still be where every read looks (journal/README.md, "Limitations").
    EXPECT_TRUE(intact > 0 || which == 2) << which;
    EXPECT_LT(intact, 40u) << which;
  }
}

// Seeking backwards reads the block before, too.
TEST(Open, GivesNoBlockUpForDamageInTheOneBefore) {
  TempDir dir;
  const std::vector<Offset> firsts{1, 2, 3, 13, 23};  // the third is asked for behind its first ten
  {
    const auto journal = open_journal(options_in(dir.path()));
    for (std::size_t i = 0; i + 1 < firsts.size(); ++i) {
      const BlockPtr block = make_block(firsts[i], firsts[i + 1] - firsts[i], 100'000);
      ASSERT_EQ(append(*journal, {block}), Outcome::ok);
    }
  }
  { const auto journal = open_journal(options_in(dir.path())); }  // into a table
  const BlockPtr before = make_block(2, 1, 100'000);
  const std::string part(reinterpret_cast<const char*>(before->records.data()), 100);
  ASSERT_EQ(flip_in_tables(dir.path(), part), 1);
  const auto journal = open_journal(options_in(dir.path()));
  for (Offset from = 3; from <= 22; ++from) {
    const ReadResult result = read(*journal, from, from);
    EXPECT_FALSE(result.lost) << from << ": " << result.lost->first << ", " << result.lost->second;
    ASSERT_EQ(result.blocks.size(), 1u) << from << result.error;
    EXPECT_EQ(result.blocks.front()->first, from < 13 ? 3u : 13u);
  }
  const ReadResult lost = read(*journal, 2);
  ASSERT_TRUE(lost.lost);
  EXPECT_EQ(lost.lost->second, 2u);
}

// So does a look for the last one.
TEST(Open, FindsTheEndBehindADamagedBlock) {
  for (const bool last_damaged : {false, true}) {
    TempDir dir;
    {
      const auto journal = open_journal(options_in(dir.path()));
      for (Offset i = 1; i <= 6; ++i) {
        ASSERT_EQ(append(*journal, {with(make_block(i, 1, 100'000),
                                         [](Block& block) { block.ends_clean = true; })}),
                  Outcome::ok);
      }
    }
    { const auto journal = open_journal(options_in(dir.path())); }  // into a table
    // The mark is written once a second: it may not know of the last ones.
    const fs::path mark = Layout(dir.path()).mark("s");
    fs::remove(mark);
    ASSERT_TRUE(Slots::open(mark, kMarkSlotBytes)->write(std::string(view(key_of(4)))));
    for (const Offset damaged : last_damaged ? std::vector<Offset>{3, 6} : std::vector<Offset>{5}) {
      const BlockPtr block = make_block(damaged, 1, 100'000);
      const std::string part(reinterpret_cast<const char*>(block->records.data()), 100);
      ASSERT_EQ(flip_in_tables(dir.path(), part), 1);
    }
    const auto journal = open_journal(options_in(dir.path()));
    const Recovered& recovered = find(journal->recovered(), "s");
    EXPECT_EQ(recovered.damage.has_value(), last_damaged);
    EXPECT_TRUE(recovered.writable);
    EXPECT_EQ(recovered.end, last_damaged ? 5u : 6u);
    EXPECT_EQ(recovered.end_clean, !last_damaged);
    EXPECT_EQ(recovered.running_bytes, recovered.end * 100'000);
    EXPECT_EQ(read(*journal, recovered.end).blocks.size(), 1u);
  }
}

// A mount that is gone takes all files, and brings them back.
TEST(Open, GivesNothingUpWhenTheFolderOfTheStoreIsAwayAndNotATable) {
  TempDir dir;
  fill(dir.path(), 40, 1 << 20);
  { const auto journal = open_journal(options_in(dir.path())); }
  fs::path first;
  for (const auto& table : store_files(dir.path(), ".sst")) {
    if (first.empty() && fs::file_size(table) > (1 << 20)) first = table;
  }
  fs::rename(first, dir.path() / "kept");
  const auto journal = open_journal(options_in(dir.path()));
  fs::rename(dir.path() / "journal", dir.path() / "away");
  const ReadResult result = read(*journal, 1);
  EXPECT_FALSE(result.ok);
  EXPECT_TRUE(result.retryable);
  EXPECT_FALSE(result.lost);
  fs::rename(dir.path() / "away", dir.path() / "journal");
  fs::rename(dir.path() / "kept", first);
  const ReadResult again = read(*journal, 1);
  ASSERT_TRUE(again.ok) << again.error;
  EXPECT_FALSE(again.lost);
  EXPECT_EQ(again.blocks.back()->last(), 40u);
}

TEST(Open, NeverTakesAStoreWithoutItsCurrentFileForAnEmptyOne) {
  TempDir dir;
  fill(dir.path(), 20, 1 << 20);
  const auto before = store_files(dir.path(), ".sst");
  fs::remove(dir.path() / "journal" / "CURRENT");
  const auto journal = open_journal(options_in(dir.path()));
  ASSERT_NE(journal, nullptr);
  EXPECT_TRUE(find(journal->recovered(), "s").damage);
  EXPECT_EQ(append(*journal, {make_block(1, 1, 10)}), Outcome::failed);
  const ReadResult result = read(*journal, 1);
  EXPECT_FALSE(result.ok);
  EXPECT_FALSE(result.retryable);
  EXPECT_EQ(store_files(dir.path(), ".sst"), before);
}

// Without it a broker would take all that is stored for delivered, and trim it.
TEST(Open, OnlyReadsAStoreThatHasBlocksAndNoStateThatSpeaksOfThem) {
  TempDir dir;
  {
    const auto journal = open_journal(options_in(dir.path()));
    Commit one;
    one.stream = "s";
    one.append = {make_block(1, 1, 10)};
    ASSERT_EQ(commit(*journal, std::move(one)), Outcome::ok);
  }
  {
    const auto journal = open_journal(options_in(dir.path()));
    const Recovered& recovered = find(journal->recovered(), "s");
    EXPECT_FALSE(recovered.writable);
    ASSERT_TRUE(recovered.damage);
    EXPECT_NE(recovered.damage->find("its state is gone"), std::string::npos) << *recovered.damage;
    EXPECT_EQ(set_watermark(*journal, 1), Outcome::failed);
    EXPECT_EQ(read(*journal, 1).blocks.size(), 1u);
  }
}

TEST(Open, OnlyReadsAStoreWhoseStateOrWatermarkIsDamaged) {
  for (const bool state : {true, false}) {
    TempDir dir;
    {
      const auto journal = open_journal(options_in(dir.path(), {"r", "s"}));
      ASSERT_EQ(append(*journal, {make_block(1, 2, 10)}), Outcome::ok);
      for (const char* stream : {"r", "s"}) {
        Commit one;
        one.stream = stream;
        one.state = stream + std::string(64 << 10, 'x');  // a data block of its own
        ASSERT_EQ(commit(*journal, std::move(one)), Outcome::ok);
      }
      ASSERT_EQ(set_watermark(*journal, 1), Outcome::ok);
    }
    { const auto journal = open_journal(options_in(dir.path())); }  // into tables
    const std::string part = state ? "s" + std::string(1000, 'x') : watermark_key("s");
    ASSERT_EQ(flip_in_tables(dir.path(), part), 1);
    const auto journal = open_journal(options_in(dir.path()));
    const Recovered& recovered = find(journal->recovered(), "s");
    EXPECT_FALSE(recovered.writable);
    ASSERT_TRUE(recovered.damage);
    const std::string what = state ? "its state cannot be read" : "its watermark cannot be read";
    EXPECT_NE(recovered.damage->find(what), std::string::npos) << *recovered.damage;
    EXPECT_EQ(append(*journal, {make_block(3, 1, 10)}), Outcome::failed);
    EXPECT_EQ(read(*journal, 2).blocks.size(), 1u);
  }
}

// The tables of meta are compacted: a start reads little of them, its first compaction reads all.
TEST(Reopening, SaysWhatDamageACompactionMet) {
  TempDir dir;
  const std::string old_state = "old" + std::string(64 << 10, 'x');  // data blocks of its own
  // The first tables are moved, not rewritten: the one with the old states is met in the sixth
  // start.
  for (const std::string& state :
       {old_state, std::string("2"), std::string("3"), std::string("4"), std::string("5")}) {
    const auto journal = open_journal(options_in(dir.path(), {"r", "s"}));
    ASSERT_EQ(append(*journal, {make_block(find(journal->recovered(), "s").end + 1, 1, 10)}),
              Outcome::ok);
    for (const char* stream : {"r", "s"}) {  // the first keeps the other's apart from the ledger
      Commit one;
      one.stream = stream;
      one.state = stream + state;
      ASSERT_EQ(commit(*journal, std::move(one)), Outcome::ok);
    }
  }
  ASSERT_EQ(flip_in_tables(dir.path(), "s" + old_state), 1);
  EventLog log;
  const auto journal = open_journal(options_in(dir.path()), &log);
  EXPECT_FALSE(find(journal->recovered(), "s").damage) << *find(journal->recovered(), "s").damage;
  EXPECT_EQ(find(journal->recovered(), "s").state, "s5");
  const std::string why = log.wait_down();
  EXPECT_NE(why.find("Corruption"), std::string::npos) << why;
  const Recovered recovered = find(log.wait_reopened(), "s");
  ASSERT_TRUE(recovered.damage);
  EXPECT_NE(recovered.damage->find(why), std::string::npos) << *recovered.damage;
  EXPECT_EQ(recovered.state, "s5");
  EXPECT_EQ(recovered.end, 5u);
}

TEST(Open, ReportsAMissingLatchOfWhatTheStoreHolds) {
  TempDir dir;
  fill(dir.path(), 3, 10);
  fs::remove(Layout(dir.path()).latch("s"));
  for (int i = 0; i < 2; ++i) {  // also where a start ended before it said so in the new one
    const auto journal = open_journal(options_in(dir.path(), {"s", "new"}));
    EXPECT_TRUE(find(journal->recovered(), "s").damage);
    EXPECT_TRUE(find(journal->recovered(), "s").writable);
    EXPECT_FALSE(find(journal->recovered(), "new").damage);
    if (i == 0) continue;
    EXPECT_TRUE(write_latch(*journal, "damaged"));
  }
  const auto journal = open_journal(options_in(dir.path()));
  EXPECT_FALSE(find(journal->recovered(), "s").damage);
  EXPECT_EQ(find(journal->recovered(), "s").latch, "damaged");
}

TEST(Open, ReportsADamagedLatch) {
  TempDir dir;
  {
    const auto journal = open_journal(options_in(dir.path()));
    ASSERT_TRUE(write_latch(*journal, "one"));
  }
  const fs::path latch = Layout(dir.path()).latch("s");
  std::ofstream(latch, std::ios::binary) << std::string(2 * kLatchSlotBytes, 'x');
  const auto journal = open_journal(options_in(dir.path()));
  EXPECT_TRUE(find(journal->recovered(), "s").damage);
}

}  // namespace
}  // namespace spillway::journal
