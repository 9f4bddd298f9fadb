// Every row of the table of damages in journal/README.md: check finds it, and repair saves what is
// intact.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <future>
#include <random>

#include "base/utf8.h"
#include "broker/journal_rebuild.h"
#include "broker/journal_report.h"
#include "broker/state_codec.h"
#include "journal/inspect.h"
#include "journal/journal.h"
#include "tests/broker/cli_support.h"
#include "tests/journal/damage.h"

namespace spillway::broker::offline {
namespace {

namespace fs = std::filesystem;
using journal::flip;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr Offset kBlocks = 60;
constexpr Offset kRecords = 10;  // of a block
constexpr std::uint64_t kEpoch = 7;
constexpr std::size_t kBytes = std::size_t{256} << 10;
constexpr Offset kBlocksOfATable = 18;  // a memtable of 4 MiB, and a little

BlockPtr block_of(Offset number) {
  std::mt19937_64 random(number);
  auto storage = std::make_shared_for_overwrite<std::byte[]>(kBytes);
  for (std::size_t i = 0; i < kBytes; i += sizeof(std::uint64_t)) {
    const std::uint64_t word = random();
    std::memcpy(storage.get() + i, &word, sizeof word);
  }
  auto block = std::make_shared<Block>();
  block->first = (number - 1) * kRecords + 1;
  block->position = {kEpoch, block->first};
  block->count = kRecords;
  block->running_bytes = number * kBytes;
  block->received_ms = 1'700'000'000'000;
  block->records = {storage.get(), kBytes};
  block->storage = std::move(storage);
  return block;
}

recovery::DurableState state_at(Offset cursor, std::uint64_t revision) {
  recovery::DurableState state;
  state.revision = revision;
  state.epochs = {{kEpoch, 0}};
  state.epoch_newest = kEpoch;
  state.open = true;
  state.first = 1;
  state.sinks.resize(1);
  state.sinks[0].name = "t";
  state.sinks[0].identity = "tcp somewhere";
  state.sinks[0].cursor = cursor;
  return state;
}

class JournalHealth : public testing::Test {
 protected:
  void SetUp() override { fill(kBlocks); }

  journal::Options options() const {
    journal::Options options;
    options.data_dir = data_;
    options.streams = {"s"};
    options.max_disk_bytes = std::uint64_t{96} << 20;
    options.min_free_disk = 0;
    options.compression = journal::Compression::none;
    return options;
  }
  static void commit(journal::Journal& journal, journal::Commit commit,
                     const std::string& stream = "s") {
    commit.stream = stream;
    std::promise<journal::Outcome> done;
    journal.commit(std::move(commit), [&](journal::Outcome o) { done.set_value(o); });
    ASSERT_EQ(done.get_future().get(), journal::Outcome::ok);
  }
  void fill(Offset blocks, Offset cursor = 0) {
    fs::remove_all(data_);
    auto journal = journal::Journal::open(options(), {});
    ASSERT_TRUE(journal) << journal.error().message;
    for (Offset i = 1; i <= blocks; ++i) {
      journal::Commit next;
      next.append = {block_of(i)};
      next.state = encode_state(state_at(cursor, i));
      next.watermark = 0;
      commit(**journal, std::move(next));
      // A memtable is full by then. While it waits to be written out the next one could join it.
      if (i % kBlocksOfATable == 0) await_tables(i / kBlocksOfATable);
    }
  }

  // A stream beside "s" with one block, and a configuration that names it and nothing else.
  void fill_other() {
    journal::Options both = options();
    both.streams.push_back("other");
    auto journal = journal::Journal::open(both, {});
    ASSERT_TRUE(journal) << journal.error().message;
    journal::Commit next;
    next.append = {block_of(1)};
    next.state = encode_state(state_at(0, 1));
    next.watermark = 0;
    commit(**journal, std::move(next), "other");
    config::Stream stream;
    stream.name = "other";
    without_s_.data_dir = data_;
    without_s_.streams = {stream};
  }
  void expect_other_alone() const {
    EXPECT_THAT(check(&without_s_).findings, IsEmpty()) << texts(check(&without_s_));
    const auto opened = journal::Inspector::open(data_);
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_THAT((*opened)->streams(),
                ElementsAre(AllOf(Field(&journal::Recovered::stream, "other"),
                                  Field(&journal::Recovered::end, kRecords))));
    EXPECT_FALSE(fs::exists(data_ / "marks" / "s"));
    EXPECT_FALSE(fs::exists(data_ / "latch" / "s"));
  }

  std::vector<fs::path> files(const std::string& part) const {
    return journal::store_files(data_, part);
  }
  std::vector<fs::path> tables() const {  // with blocks
    std::vector<fs::path> large;
    for (const auto& path : files(".sst")) {
      std::error_code gone;
      const auto size = fs::file_size(path, gone);
      if (!gone && size > (1 << 20)) large.push_back(path);
    }
    return large;
  }
  void await_tables(std::size_t count) const {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (tables().size() < count) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "in vain: a table is written";
    }
  }
  fs::path table() const {
    EXPECT_GT(tables().size(), 1u);  // two that are moved down together become one
    return tables().at(1);
  }
  fs::path wal() const {  // the newest: what older ones hold may be in tables already
    auto path = files(".log").back();
    EXPECT_GT(fs::file_size(path), 4 * kBytes);
    return path;
  }

  JournalReport check(const config::Config* config = nullptr) const {
    auto report = check_journal(data_, config);
    EXPECT_TRUE(report) << report.error().message;
    return report ? *report : JournalReport();
  }
  static std::vector<std::string> kinds(const JournalReport& report) {
    std::vector<std::string> all;
    for (const auto& finding : report.findings) all.push_back(finding.kind);
    return all;
  }
  static std::string texts(const JournalReport& report) {
    std::string all;
    for (const auto& finding : report.findings) all += finding.kind + ": " + finding.text + "\n";
    for (const auto& note : report.notes) all += "note: " + note + "\n";
    return all;
  }
  static std::uint64_t lost(const JournalReport& report) {
    std::uint64_t records = 0;
    for (const auto& stream : report.streams) {
      for (const auto& range : stream.lost) records += range.last - range.first + 1;
    }
    return records;
  }

  // Repairs, and compares what is there then: what was intact as it was, what was lost as skips.
  JournalReport repaired(const config::Config* config = nullptr) {
    JournalReport before = check(config);
    EXPECT_THAT(before.findings, Not(IsEmpty()));
    const auto plan = repair_journal(data_, config, false);
    EXPECT_TRUE(plan) << plan.error().message;
    EXPECT_FALSE(plan->applied);
    const auto done = repair_journal(data_, config, true);
    EXPECT_TRUE(done) << done.error().message;
    if (!done) return before;
    EXPECT_TRUE(done->applied);
    EXPECT_TRUE(fs::exists(done->kept));
    EXPECT_EQ(done->steps, plan->steps);
    const JournalReport after = check(config);
    EXPECT_THAT(after.findings, IsEmpty()) << texts(after);
    compare(before);
    return before;
  }
  void compare(const JournalReport& before) const {
    const auto opened = journal::Inspector::open(data_);
    ASSERT_TRUE(opened) << opened.error().message;
    Offset next = 1;
    std::uint64_t skipped = 0;
    (*opened)->for_each_block("s", 0, [&](const journal::BlockInfo& info) {
      EXPECT_TRUE(info.intact);
      EXPECT_EQ(info.first, next);
      const Block& block = *info.block;
      next = block.last() + 1;
      EXPECT_EQ(block.position, (Position{kEpoch, block.first}));
      if (block.skip) {
        skipped += block.count;
        return true;
      }
      for (Offset first = block.first; first <= block.last(); first += kRecords) {
        const BlockPtr wanted = block_of((first - 1) / kRecords + 1);
        EXPECT_TRUE(std::ranges::equal(wanted->records, block.records)) << first;
      }
      return true;
    });
    EXPECT_EQ(skipped, lost(before));
    std::uint64_t ledgered = 0;
    for (const auto& entry : *(*opened)->ledger("s", 100)) ledgered += entry.count;
    EXPECT_EQ(ledgered, lost(before));
    EXPECT_TRUE(journal::Journal::open(options(), {}));
  }

  TempDir folder_;
  const fs::path data_ = folder_.path() / "data";
  config::Config without_s_;
};

void zero(const fs::path& path) {
  const auto size = fs::file_size(path);
  std::ofstream(path, std::ios::binary | std::ios::trunc) << std::string(size, '\0');
}
void halve(const fs::path& path) { fs::resize_file(path, fs::file_size(path) / 2); }

TEST_F(JournalHealth, a_sound_journal_has_no_findings_and_needs_no_repair) {
  const auto report = check();
  EXPECT_THAT(report.findings, IsEmpty()) << texts(report);
  ASSERT_THAT(report.streams, SizeIs(1));
  EXPECT_EQ(report.streams[0].saved, kBlocks * kRecords);
  const auto plan = repair_journal(data_, nullptr, true);
  ASSERT_TRUE(plan);
  EXPECT_FALSE(plan->applied);
  EXPECT_FALSE(fs::exists(data_ / "repair"));
}

TEST_F(JournalHealth, a_missing_table_is_named_with_what_it_held) {
  const auto path = table();
  fs::remove(path);
  const auto report = repaired();
  EXPECT_THAT(texts(report), HasSubstr(path.filename().string() + " is missing from stream s"));
  EXPECT_THAT(kinds(report), Contains("hole"));
  EXPECT_GE(lost(report), kRecords);
  EXPECT_LT(lost(report), 20 * kRecords);
}
TEST_F(JournalHealth, a_truncated_table_is_lost_as_a_whole) {
  halve(table());
  const auto report = repaired();
  EXPECT_THAT(kinds(report), Contains("hole")) << texts(report);
  EXPECT_LT(lost(report), 20 * kRecords);
}
TEST_F(JournalHealth, a_zeroed_table_is_lost_as_a_whole) {
  zero(table());
  const auto report = repaired();
  EXPECT_THAT(kinds(report), Contains("hole")) << texts(report);
}
TEST_F(JournalHealth, a_flipped_bit_in_a_table_costs_the_block_it_is_in) {
  flip(table(), fs::file_size(table()) / 2);
  const auto report = repaired();
  EXPECT_THAT(kinds(report), ElementsAre("file", "hole")) << texts(report);
  EXPECT_EQ(lost(report), kRecords);
}
// So earlier versions went on behind a last block that was damaged.
TEST_F(JournalHealth, a_running_count_that_began_anew_behind_damage_rises_after_a_repair) {
  fill(kBlocks / 2);
  {
    auto journal = journal::Journal::open(options(), {});
    for (Offset i = kBlocks / 2 + 1; i <= kBlocks; ++i) {
      auto block = std::make_shared<Block>(*block_of(i));
      block->running_bytes -= kBlocks / 2 * kBytes;
      journal::Commit next;
      next.append = {block};
      next.state = encode_state(state_at(0, i));
      commit(**journal, std::move(next));
    }
  }
  const BlockPtr damaged = block_of(kBlocks / 2);
  const std::string part(reinterpret_cast<const char*>(damaged->records.data()), 100);
  ASSERT_EQ(journal::flip_in_tables(data_, part), 1);
  EXPECT_EQ(lost(repaired()), kRecords);
}
TEST_F(JournalHealth, what_is_intact_between_two_damages_of_a_table_is_saved) {
  const auto size = fs::file_size(table());
  flip(table(), size / 8);
  flip(table(), size - size / 8);
  const auto report = repaired();
  EXPECT_EQ(lost(report), 2 * kRecords) << texts(report);
  EXPECT_THAT(report.streams.at(0).lost, SizeIs(2));
}
TEST_F(JournalHealth, a_flipped_bit_in_the_footer_of_a_table_costs_the_table) {
  flip(table(), fs::file_size(table()) - 4);
  EXPECT_THAT(kinds(repaired()), Contains("hole"));
}

TEST_F(JournalHealth, a_missing_wal_is_found_by_the_high_water_mark) {
  for (const auto& path : files(".log")) fs::remove(path);
  const auto report = repaired();
  EXPECT_THAT(texts(report), HasSubstr("has no WAL file"));
  EXPECT_THAT(kinds(report), Contains("tail"));
}
TEST_F(JournalHealth, a_truncated_wal_is_found_by_the_high_water_mark) {
  halve(wal());
  const auto report = repaired();
  EXPECT_THAT(kinds(report), Contains("tail")) << texts(report);
  EXPECT_LT(lost(report), 20 * kRecords);
}
TEST_F(JournalHealth, a_zeroed_wal_is_found_by_the_high_water_mark) {
  zero(wal());
  EXPECT_THAT(kinds(repaired()), Contains("tail"));
}
TEST_F(JournalHealth, a_flipped_bit_in_the_wal_costs_its_group_and_nothing_behind_it) {
  flip(wal(), fs::file_size(wal()) / 4);
  const auto report = repaired();
  EXPECT_THAT(kinds(report), ElementsAre("file", "hole")) << texts(report);
  EXPECT_EQ(lost(report), kRecords);
}
TEST_F(JournalHealth, a_flipped_bit_in_the_last_group_of_a_wal_file_costs_no_file_behind_it) {
  fill(10);
  const fs::path last = wal();
  journal::split_wal(last, data_ / "journal" / "999999.log", 6);
  flip(last, fs::file_size(last) - 1000);
  const auto report = repaired();
  EXPECT_THAT(kinds(report), ElementsAre("file", "hole")) << texts(report);
  EXPECT_THAT(texts(report), HasSubstr("999999.log"));
  EXPECT_EQ(lost(report), kRecords);
}
TEST_F(JournalHealth, a_start_deletes_nothing_that_is_intact_behind_a_flipped_bit_in_the_wal) {
  flip(wal(), fs::file_size(wal()) / 4);
  {
    const auto journal = journal::Journal::open(options(), {});
    ASSERT_TRUE(journal);
    EXPECT_FALSE((*journal)->recovered().at(0).writable);
    EXPECT_THAT((*journal)->recovered().at(0).damage.value_or(""), HasSubstr("journal repair"));
  }
  EXPECT_EQ(lost(repaired()), kRecords);
}

// RocksDB by itself puts together what does not belong together, or searches for ever.
TEST_F(JournalHealth,
       a_flipped_bit_in_any_part_of_a_record_of_the_wal_is_read_around_and_repaired) {
  constexpr Offset kFew = 12;
  constexpr std::uintmax_t kFragment = 32 << 10;
  fill(kFew);
  const fs::path sound = folder_.path() / "sound";
  fs::rename(data_, sound);
  // Of the sixth record: in contents, length and type of its first fragments, and of later ones.
  const std::uintmax_t begin = 6 * (kBytes / kFragment) * kFragment;
  for (std::uintmax_t at = begin; at <= begin + kBytes; at += 3 * kFragment) {
    for (const std::uintmax_t byte : {100u, 4u, 5u, 6u}) {
      fs::remove_all(data_);
      fs::copy(sound, data_, fs::copy_options::recursive);
      flip(files(".log").back(), at + byte);
      {
        const auto opened = journal::Journal::open(options(), {});
        ASSERT_TRUE(opened);
        const auto& found = (*opened)->recovered().at(0);
        EXPECT_FALSE(found.writable);
        EXPECT_EQ(found.end, kFew * kRecords);
        EXPECT_THAT(found.damage.value_or(""), HasSubstr("spillway journal repair"));
      }
      const auto report = repaired();
      EXPECT_THAT(kinds(report), Contains("hole")) << at << " " << byte << ": " << texts(report);
      EXPECT_LE(lost(report), 2 * kRecords);
    }
  }
}

TEST_F(JournalHealth, a_missing_manifest_costs_nothing) {
  for (const auto& path : files("MANIFEST")) fs::remove(path);
  EXPECT_EQ(lost(repaired()), 0u);
}
TEST_F(JournalHealth, a_truncated_manifest_costs_nothing) {
  for (const auto& path : files("MANIFEST")) fs::resize_file(path, 40);
  EXPECT_EQ(lost(repaired()), 0u);
}
TEST_F(JournalHealth, a_zeroed_manifest_costs_nothing) {
  for (const auto& path : files("MANIFEST")) zero(path);
  EXPECT_EQ(lost(repaired()), 0u);
}
TEST_F(JournalHealth, a_flipped_bit_in_the_manifest_costs_nothing) {
  for (const auto& path : files("MANIFEST")) flip(path, fs::file_size(path) / 2);
  const auto report = repaired();
  EXPECT_THAT(texts(report), HasSubstr("MANIFEST"));
  EXPECT_EQ(lost(report), 0u);
}

// Between its records, and in the middle of each.
std::vector<std::uintmax_t> cuts_of(const fs::path& manifest) {
  constexpr std::uintmax_t kHeader = 7;
  std::ifstream file(manifest, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  EXPECT_LT(bytes.size(), 32u << 10) << "more than one block of the file";
  std::vector<std::uintmax_t> cuts;
  for (std::uintmax_t at = 0; at + kHeader <= bytes.size();) {
    std::uint16_t length = 0;
    std::memcpy(&length, bytes.data() + at + 4, sizeof length);
    if (at > 0) cuts.push_back(at);
    cuts.push_back(at + (kHeader + length) / 2);
    at += kHeader + length;
  }
  return cuts;
}

// What a start objects to, check finds, and after the repair neither does. RocksDB takes the rest
// for all there is, and deletes the tables that it names no more.
TEST_F(JournalHealth, a_manifest_that_is_cut_off_anywhere_is_found_and_costs_nothing) {
  constexpr Offset kFew = kBlocksOfATable + 4;
  fill(kFew);
  ASSERT_TRUE(journal::Journal::open(options(), {}));  // what was in the WAL is in tables now
  const fs::path sound = folder_.path() / "sound";
  fs::rename(data_, sound);
  const auto restore = [&](std::uintmax_t cut) {
    fs::remove_all(data_);
    fs::copy(sound, data_, fs::copy_options::recursive);
    fs::resize_file(files("MANIFEST").back(), cut);
  };
  fs::copy(sound, data_, fs::copy_options::recursive);
  ASSERT_THAT(files("MANIFEST"), SizeIs(1));
  const auto cuts = cuts_of(files("MANIFEST").back());
  std::size_t objections = 0;
  for (const std::uintmax_t cut : cuts) {
    SCOPED_TRACE(cut);
    restore(cut);
    const bool found = !check().findings.empty();
    {
      const auto opened = journal::Journal::open(options(), {});
      ASSERT_TRUE(opened) << opened.error().message;
      const journal::Recovered& recovered = (*opened)->recovered().at(0);
      EXPECT_EQ(found, recovered.damage.has_value()) << recovered.damage.value_or("");
      if (!found) {
        EXPECT_EQ(recovered.end, kFew * kRecords);
      }
    }
    if (!found) continue;
    ++objections;
    EXPECT_EQ(lost(repaired()), 0u);  // also after that start
    const auto opened = journal::Journal::open(options(), {});
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_FALSE((*opened)->recovered().at(0).damage);
    EXPECT_EQ((*opened)->recovered().at(0).end, kFew * kRecords);
  }
  EXPECT_GT(cuts.size(), 8u);
  EXPECT_GT(objections, cuts.size() / 2);
}

TEST_F(JournalHealth, a_missing_current_file_costs_nothing) {
  fs::remove(data_ / "journal" / "CURRENT");
  const auto report = repaired();
  EXPECT_THAT(texts(report), HasSubstr("journal/CURRENT is missing"));
  EXPECT_EQ(lost(report), 0u);
}
TEST_F(JournalHealth, a_truncated_current_file_costs_nothing) {
  fs::resize_file(data_ / "journal" / "CURRENT", 5);
  EXPECT_EQ(lost(repaired()), 0u);
}
TEST_F(JournalHealth, a_zeroed_current_file_costs_nothing) {
  zero(data_ / "journal" / "CURRENT");
  EXPECT_EQ(lost(repaired()), 0u);
}
TEST_F(JournalHealth, a_flipped_bit_in_the_current_file_costs_nothing) {
  flip(data_ / "journal" / "CURRENT", 10);
  EXPECT_EQ(lost(repaired()), 0u);
}

TEST_F(JournalHealth, a_format_file_without_a_number_is_made_anew) {
  for (const std::string contents : {"", "\n", "1", "1x\n", "\xff\xfe"}) {
    SCOPED_TRACE(contents);
    std::ofstream(data_ / "format", std::ios::binary) << contents;
    EXPECT_FALSE(journal::Journal::open(options(), {}));
    const auto report = repaired();
    EXPECT_THAT(kinds(report), ElementsAre("file"));
    EXPECT_TRUE(is_utf8(texts(report))) << texts(report);
    EXPECT_EQ(lost(report), 0u);
    EXPECT_TRUE(journal::Journal::open(options(), {}));
    EXPECT_TRUE(fs::exists(data_ / "format"));
    fill(1);
  }
}
TEST_F(JournalHealth, what_a_damaged_file_names_can_be_printed) {
  std::ofstream(data_ / "journal" / "CURRENT", std::ios::binary) << "MANIFEST-\xff\xfe\n";
  EXPECT_THAT(texts(check()), HasSubstr("MANIFEST-\\xff\\xfe"));
  EXPECT_TRUE(is_utf8(texts(check()))) << texts(check());
  {
    const auto opened = journal::Journal::open(options(), {});
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_TRUE(is_utf8((*opened)->recovered().at(0).damage.value_or("\xff")));
  }
  EXPECT_EQ(lost(repaired()), 0u);
}

TEST_F(JournalHealth, a_journal_whose_folder_is_gone_is_found_by_the_high_water_mark) {
  fs::remove_all(data_ / "journal");
  const auto before = check();
  EXPECT_THAT(kinds(before), Contains("tail")) << texts(before);
  EXPECT_EQ(lost(before), kBlocks * kRecords);
  const auto done = repair_journal(data_, nullptr, true);
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_THAT(check().findings, IsEmpty()) << texts(check());
  const auto opened = journal::Inspector::open(data_);
  ASSERT_TRUE(opened);
  EXPECT_EQ((*opened)->ledger("s", 10)->at(0).count, kBlocks * kRecords);
}

TEST_F(JournalHealth, a_cursor_beyond_the_end_is_set_back) {
  fill(3, 3 * kRecords + 5);
  const auto report = repaired();
  EXPECT_THAT(kinds(report), ElementsAre("cursor"));
  EXPECT_THAT(texts(report), HasSubstr("sink t has taken 5 records beyond the end"));
  const auto opened = journal::Inspector::open(data_);
  const auto state = decode_state(*(*opened)->streams().at(0).state);
  EXPECT_EQ(state->sinks.at(0).cursor, 3 * kRecords);
}

TEST_F(JournalHealth, what_all_sinks_have_needs_no_entry_in_the_ledger) {
  fill(kBlocks, kBlocks * kRecords);
  fs::remove(table());
  EXPECT_GT(lost(check()), 0u);
  ASSERT_TRUE(repair_journal(data_, nullptr, true));
  EXPECT_THAT(check().findings, IsEmpty());
  EXPECT_THAT(*(*journal::Inspector::open(data_))->ledger("s", 10), IsEmpty());
}

TEST_F(JournalHealth, a_state_of_an_unknown_format_is_neither_guessed_at_nor_repaired) {
  {
    auto journal = journal::Journal::open(options(), {});
    journal::Commit next;
    next.state = std::string("\x08\x63");  // field 1, format: 99
    commit(**journal, std::move(next));
  }
  const auto report = check();
  EXPECT_THAT(kinds(report), Contains("format")) << texts(report);
  EXPECT_THAT(report.beyond_repair, HasSubstr("format 99"));
  EXPECT_FALSE(repair_journal(data_, nullptr, true));
  EXPECT_FALSE(fs::exists(data_ / "repair"));
}

TEST_F(JournalHealth, a_latch_of_an_unknown_format_is_neither_guessed_at_nor_repaired) {
  {
    auto journal = journal::Journal::open(options(), {});
    std::promise<bool> written;
    (*journal)->write_latch("s", "\x08\x63", [&](bool ok) { written.set_value(ok); });
    ASSERT_TRUE(written.get_future().get());
  }
  const auto report = check();
  EXPECT_THAT(kinds(report), ElementsAre("format")) << texts(report);
  EXPECT_THAT(report.beyond_repair, HasSubstr("format 99"));
  EXPECT_FALSE(repair_journal(data_, nullptr, true));
}

// No damage does that, only a defect of the broker, and what it meant nobody can guess.
TEST_F(JournalHealth, a_block_under_a_position_that_does_not_follow_is_found_and_left_alone) {
  {
    auto journal = journal::Journal::open(options(), {});
    auto block = std::make_shared<Block>(*block_of(kBlocks + 1));
    block->position.sequence += 5;
    journal::Commit next;
    next.append = {block};
    commit(**journal, std::move(next));
  }
  EXPECT_THAT(kinds(check()), ElementsAre("order")) << texts(check());
  EXPECT_EQ(lost(check()), 0u);
  const auto repair = repair_journal(data_, nullptr, true);
  ASSERT_FALSE(repair);
  EXPECT_THAT(repair.error().message, HasSubstr("nothing was changed"));
  EXPECT_THAT(kinds(check()), ElementsAre("order"));
  EXPECT_FALSE(fs::exists(data_ / "repair"));
}

TEST_F(JournalHealth, a_stream_that_is_not_configured_is_foreign_while_sinks_wait_for_it) {
  fill(3, 10);
  fill_other();
  const auto report = check(&without_s_);
  EXPECT_THAT(kinds(report), ElementsAre("foreign"));
  EXPECT_THAT(texts(report), AllOf(HasSubstr("20 records of it wait"),
                                   HasSubstr("journal repair --forget-stream")));
  const auto left_alone = repair_journal(data_, &without_s_, true);
  ASSERT_TRUE(left_alone);
  EXPECT_FALSE(left_alone->applied);
  config::Config with_both = without_s_;
  with_both.streams.emplace_back().name = "s";
  EXPECT_THAT(check(&with_both).findings, IsEmpty());
}
TEST_F(JournalHealth, only_a_stream_that_nothing_configures_is_forgotten) {
  fill(3);
  fill_other();
  const auto refused = [&](const config::Config* config, const std::string& stream) {
    const auto done = repair_journal(data_, config, true, {stream});
    return done ? "" : done.error().message;
  };
  EXPECT_THAT(refused(&without_s_, "other"), HasSubstr("is in the configuration"));
  EXPECT_THAT(refused(&without_s_, "nobody"), HasSubstr("no stream nobody"));
  EXPECT_THAT(refused(nullptr, "s"), HasSubstr("--config"));
  EXPECT_FALSE(fs::exists(data_ / "repair"));
}
TEST_F(JournalHealth, a_stream_that_is_forgotten_goes_with_all_of_it_into_what_is_kept) {
  fill(3, 10);
  fill_other();
  {
    auto journal = journal::Journal::open(options(), {});
    journal::Commit next;
    next.dead_letters = {{"t", block_of(1), "no", 1}};
    commit(**journal, std::move(next));
  }
  const auto plan = repair_journal(data_, &without_s_, false, {"s"});
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_THAT(plan->steps,
              Contains(AllOf(HasSubstr("stream s: forget it"),
                             HasSubstr("7/11 to 7/30 (20 records)"), HasSubstr("t for 20"),
                             HasSubstr("1 dead letter "), HasSubstr("journal export"))));
  EXPECT_THAT(kinds(check(&without_s_)), ElementsAre("foreign"));
  const auto done = repair_journal(data_, &without_s_, true, {"s"});
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->steps, plan->steps);
  expect_other_alone();
  const auto kept = journal::Inspector::open(done->kept);
  ASSERT_TRUE(kept) << kept.error().message;
  EXPECT_THAT((*kept)->streams(), Contains(AllOf(Field(&journal::Recovered::stream, "s"),
                                                 Field(&journal::Recovered::end, 3 * kRecords))));
  // Of that name a new stream may begin.
  const auto anew = journal::Journal::open(options(), {});
  ASSERT_TRUE(anew) << anew.error().message;
  const auto& all = (*anew)->recovered();
  const auto s = std::ranges::find(all, "s", &journal::Recovered::stream);
  EXPECT_FALSE(s->damage);
  EXPECT_EQ(s->end, 0u);
}
TEST_F(JournalHealth, a_stream_whose_state_is_lost_is_forgotten_all_the_same) {
  fill(kBlocks);
  fill_other();
  for (const auto& path : files(".log")) fs::remove(path);
  for (const auto& path : files(".sst")) {
    if (fs::file_size(path) < (1 << 20)) zero(path);
  }
  without_s_.streams[0].sinks.emplace_back().name = "t";
  EXPECT_FALSE(repair_journal(data_, &without_s_, true));
  const auto done = repair_journal(data_, &without_s_, true, {"s"});
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_THAT(check(&without_s_).findings, IsEmpty()) << texts(check(&without_s_));
  EXPECT_FALSE(fs::exists(data_ / "marks" / "s"));
}

TEST_F(JournalHealth, an_unreadable_latch_is_made_anew) {
  zero(data_ / "latch" / "s");
  flip(data_ / "latch" / "s", 100);
  EXPECT_THAT(kinds(repaired()), ElementsAre("latch"));
}

TEST_F(JournalHealth, a_missing_latch_is_made_anew) {
  fs::remove(data_ / "latch" / "s");
  const auto report = repaired();
  EXPECT_THAT(kinds(report), ElementsAre("latch"));
  EXPECT_THAT(texts(report), HasSubstr("latch/s is missing"));
  EXPECT_TRUE(fs::exists(data_ / "latch" / "s"));
  fs::remove_all(data_ / "latch");
  EXPECT_THAT(kinds(repaired()), ElementsAre("latch"));
}
TEST_F(JournalHealth, a_stream_of_which_nothing_was_stored_needs_no_latch) {
  journal::Options both = options();
  both.streams.push_back("new");
  ASSERT_TRUE(journal::Journal::open(both, {}));
  fs::remove(data_ / "latch" / "new");
  EXPECT_THAT(check().findings, IsEmpty()) << texts(check());
}

TEST_F(JournalHealth, an_unreadable_or_missing_mark_is_made_anew) {
  std::ofstream(data_ / "marks" / "s", std::ios::binary) << std::string(16384, 'x');
  EXPECT_THAT(kinds(repaired()), ElementsAre("mark"));
  fs::remove(data_ / "marks" / "s");
  EXPECT_THAT(kinds(repaired()), ElementsAre("mark"));
}

TEST_F(JournalHealth, a_repair_removes_the_cause_of_the_halt_and_no_other) {
  {
    auto journal = journal::Journal::open(options(), {});
    recovery::HaltCause damaged;
    damaged.kind = recovery::CauseKind::journal_damaged;
    recovery::HaltCause full;
    full.kind = recovery::CauseKind::max_bytes;
    full.sink = "t";
    std::promise<bool> done;
    (*journal)->write_latch("s", encode_latch({damaged, full}),
                            [&](bool ok) { done.set_value(ok); });
    ASSERT_TRUE(done.get_future().get());
  }
  EXPECT_THAT(check().findings, IsEmpty());
  ASSERT_TRUE(repair_journal(data_, nullptr, true));
  const auto opened = journal::Inspector::open(data_);
  const auto causes = decode_latch(*(*opened)->streams().at(0).latch);
  EXPECT_THAT(*causes,
              ElementsAre(Field(&recovery::HaltCause::kind, recovery::CauseKind::max_bytes)));
}

// What a crash leaves at each step of broker/README.md, put together from a repair that ended.
TEST_F(JournalHealth, a_repair_that_was_cut_short_at_any_step_is_ended_by_the_next) {
  enum Step { kBuilding, kExchanged, kMarksWritten, kLatchesWritten };
  {
    auto journal = journal::Journal::open(options(), {});
    recovery::HaltCause damaged;
    damaged.kind = recovery::CauseKind::journal_damaged;
    std::promise<bool> done;
    (*journal)->write_latch("s", encode_latch({damaged}), [&](bool ok) { done.set_value(ok); });
    ASSERT_TRUE(done.get_future().get());
  }
  fs::remove(table());
  const fs::path damaged = folder_.path() / "damaged";
  fs::rename(data_, damaged);
  for (const Step step : {kBuilding, kExchanged, kMarksWritten, kLatchesWritten}) {
    fs::remove_all(data_);
    fs::copy(damaged, data_, fs::copy_options::recursive);
    const JournalReport before = check();
    EXPECT_GT(lost(before), 0u);
    if (step == kBuilding) {
      fs::create_directories(data_ / "repair" / "20260101T000000Z.unfinished" / "journal");
      std::ofstream(data_ / "repair" / "20260101T000000Z.unfinished" / "journal" / "000007.log")
          << "half of it";
      EXPECT_EQ(lost(check()), lost(before));
    } else {
      const auto done = repair_journal(data_, nullptr, true);
      ASSERT_TRUE(done) << done.error().message;
      const fs::path unfinished = done->kept + ".unfinished";
      fs::rename(done->kept, unfinished);
      for (const char* slots : {"marks", "latch"}) {
        const Step written = std::string(slots) == "marks" ? kMarksWritten : kLatchesWritten;
        if (step >= written) continue;
        fs::copy_file(unfinished / slots / "s", data_ / slots / "s",
                      fs::copy_options::overwrite_existing);
      }
      const auto journal = journal::Journal::open(options(), {});
      ASSERT_TRUE(journal);
      EXPECT_FALSE((*journal)->recovered().at(0).damage);
      EXPECT_TRUE((*journal)->recovered().at(0).writable);
    }
    const auto again = repair_journal(data_, nullptr, true);
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(again->applied, step != kLatchesWritten);
    const JournalReport after = check();
    EXPECT_THAT(after.findings, IsEmpty()) << texts(after);
    EXPECT_THAT(after.notes, IsEmpty()) << texts(after);
    compare(before);
  }
}

TEST_F(JournalHealth, a_stream_that_was_forgotten_as_far_as_its_mark_is_forgotten_by_the_next) {
  fill(3);
  fill_other();
  const auto done = repair_journal(data_, &without_s_, true, {"s"});
  ASSERT_TRUE(done) << done.error().message;
  fs::rename(fs::path(done->kept) / "marks" / "s", data_ / "marks" / "s");
  fs::rename(done->kept, done->kept + ".unfinished");
  EXPECT_THAT(kinds(check(&without_s_)), Contains("tail"));
  const auto again = repair_journal(data_, &without_s_, true, {"s"});
  ASSERT_TRUE(again) << again.error().message;
  expect_other_alone();
}

TEST_F(JournalHealth, a_table_that_no_list_names_any_more_leaves_a_hole) {
  fs::remove(table());
  for (const auto& path : files("MANIFEST")) fs::remove(path);
  const auto report = repaired();
  EXPECT_THAT(kinds(report), Contains("hole")) << texts(report);
  EXPECT_THAT(texts(report), Not(HasSubstr("from stream s")));
  EXPECT_THAT(report.streams.at(0).lost, SizeIs(1));
}

TEST_F(JournalHealth, a_state_that_is_older_than_the_blocks_sends_them_again) {
  const auto older = [this](const recovery::DurableState& state) {
    fill(3);
    auto journal = journal::Journal::open(options(), {});
    journal::Commit next;
    next.state = encode_state(state);
    commit(**journal, std::move(next));
  };
  recovery::DurableState closed = state_at(kRecords, 9);
  closed.open = false;
  closed.first = 0;
  closed.closed_end = kRecords;
  older(closed);
  EXPECT_THAT(kinds(check()), ElementsAre("state"));
  ASSERT_TRUE(repair_journal(data_, nullptr, true));
  EXPECT_THAT(check().findings, IsEmpty()) << texts(check());
  const auto stored = [this] {
    return *decode_state(*(*journal::Inspector::open(data_))->streams().at(0).state);
  };
  EXPECT_TRUE(stored().open);
  EXPECT_EQ(stored().first, kRecords + 1);
  EXPECT_EQ(stored().sinks.at(0).cursor, kRecords);

  recovery::DurableState young = state_at(0, 9);
  young.epochs = {{kEpoch - 1, 0}};
  young.epoch_newest = kEpoch - 1;
  older(young);
  const auto report = repaired();
  EXPECT_THAT(texts(report), HasSubstr("does not know epoch 7, and blocks do"));
  EXPECT_EQ(stored().epochs.back(), (recovery::Epoch{kEpoch, 0}));
}

TEST_F(JournalHealth, a_lost_state_is_made_anew_of_the_configuration_and_the_blocks) {
  config::Config config;
  config.data_dir = data_;
  config::Stream stream;
  stream.name = "s";
  config::Sink sink;
  sink.name = "t";
  stream.sinks = {sink};
  config.streams = {stream};
  // Every file that has the state; the tables hold it, and the WAL.
  for (const auto& path : files(".log")) fs::remove(path);
  for (const auto& path : files(".sst")) {
    if (fs::file_size(path) < (1 << 20)) zero(path);
  }
  EXPECT_THAT(kinds(check()), Contains("state")) << texts(check());
  EXPECT_FALSE(repair_journal(data_, nullptr, true));
  const auto before = repaired(&config);
  EXPECT_GT(before.streams.at(0).saved, 0u);
  const auto opened = journal::Inspector::open(data_);
  const auto state = decode_state(*(*opened)->streams().at(0).state);
  EXPECT_EQ(state->epochs, (std::vector<recovery::Epoch>{{kEpoch, 0}}));
  EXPECT_TRUE(state->open);
  EXPECT_EQ(state->sinks.at(0).cursor, 0u);
}

// Files of which some blocks can be read only the first time, or only from the second time on.
class Fickle final : public journal::Salvage {
 public:
  Fickle(std::unique_ptr<journal::Salvage> files, std::size_t time_without,
         std::function<bool(const Block&)> without)
      : files_(std::move(files)), time_without_(time_without), without_(std::move(without)) {}
  const std::optional<std::string>& unknown_format() const override {
    return files_->unknown_format();
  }
  const std::vector<journal::FileDamage>& damage() const override { return files_->damage(); }
  const std::vector<journal::FileDamage>& notes() const override { return files_->notes(); }
  const std::vector<journal::SalvagedStream>& streams() const override { return files_->streams(); }
  std::uint64_t bytes() const override { return files_->bytes(); }
  void for_each_block(const std::string& stream,
                      const std::function<bool(const BlockPtr&)>& visit) override {
    const bool without = times_++ == time_without_;
    files_->for_each_block(stream, [&](const BlockPtr& block) {
      return (without && without_(*block)) || visit(block);
    });
  }

 private:
  std::unique_ptr<journal::Salvage> files_;
  const std::size_t time_without_;
  const std::function<bool(const Block&)> without_;
  std::size_t times_ = 0;
};

TEST_F(JournalHealth, a_repair_that_reads_something_else_the_second_time_changes_nothing) {
  fs::remove(table());
  const auto rebuilt = [&](std::size_t time_without, std::function<bool(const Block&)> without) {
    auto files = journal::Salvage::open(data_);
    EXPECT_TRUE(files) << files.error().message;
    Fickle fickle(std::move(*files), time_without, std::move(without));
    const Diagnosis found = diagnose(fickle, nullptr);
    const TempDir staging;
    const auto error = rebuild(fickle, found.streams, staging.path());
    return error ? error->message : "";
  };
  const auto of = [](Offset number) {
    return [number](const Block& block) { return block.first == (number - 1) * kRecords + 1; };
  };
  EXPECT_EQ(rebuilt(0, of(0)), "");  // every time the same
  for (const std::size_t time : {0u, 1u}) {
    for (const Offset number : {Offset{1}, Offset{2}, kBlocks / 2 + kBlocksOfATable, kBlocks}) {
      EXPECT_THAT(rebuilt(time, of(number)), HasSubstr("was read differently the second time"))
          << time << " " << number;
    }
    // Beside what is lost for good.
    const Offset end = (check().streams[0].lost[0].first - 1) / kRecords;
    EXPECT_THAT(rebuilt(time, of(end)), HasSubstr("was read differently the second time")) << time;
  }
}

TEST_F(JournalHealth, a_running_broker_is_not_repaired) {
  const auto journal = journal::Journal::open(options(), {});
  EXPECT_TRUE(check().broker_running);
  EXPECT_THAT(check().findings, IsEmpty());
  const auto done = repair_journal(data_, nullptr, true);
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message, HasSubstr("in use"));
  EXPECT_FALSE(repair_journal(data_, nullptr, false));
}

TEST_F(JournalHealth, a_folder_without_a_journal_is_an_error) {
  EXPECT_FALSE(check_journal(folder_.path() / "nowhere", nullptr));
  EXPECT_FALSE(repair_journal(folder_.path() / "nowhere", nullptr, true));
  EXPECT_FALSE(fs::exists(folder_.path() / "nowhere"));
}

}  // namespace
}  // namespace spillway::broker::offline
