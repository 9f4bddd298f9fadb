#include <gtest/gtest.h>

#include "journal/inspect.h"
#include "tests/journal/harness.h"

namespace spillway::journal {
namespace {

LedgerEntry entry(std::uint64_t id, const std::string& sink = "a") {
  LedgerEntry entry;
  entry.id = id;
  entry.sink = sink;
  entry.first = {1, 2 * id};
  entry.last = {1, 2 * id + 1};
  entry.count = 2;
  entry.reason = LossReason::limit;
  return entry;
}

Outcome put(Journal& journal, std::vector<LedgerEntry> entries, const std::string& stream = "s") {
  Commit commit;
  commit.stream = stream;
  commit.ledger = std::move(entries);
  return journal::commit(journal, std::move(commit));
}

TEST(Ledger, IsReadNewestFirst) {
  TempDir dir;
  const auto journal = open_journal(options_in(dir.path(), {"s", "t"}));
  ASSERT_EQ(put(*journal, {entry(1), entry(2)}), Outcome::ok);
  ASSERT_EQ(put(*journal, {entry(3)}), Outcome::ok);
  ASSERT_EQ(put(*journal, {entry(9)}, "t"), Outcome::ok);
  const auto two = journal->ledger("s", 2);
  ASSERT_TRUE(two.has_value());
  ASSERT_EQ(two->size(), 2u);
  EXPECT_EQ((*two)[0].id, 3u);
  EXPECT_EQ((*two)[1].id, 2u);
  EXPECT_EQ(journal->ledger("s", 100)->size(), 3u);
}

TEST(Ledger, ReplacesAnEntryThatIsPutAgain) {
  TempDir dir;
  const auto journal = open_journal(options_in(dir.path()));
  LedgerEntry growing = entry(1);
  growing.last = {};
  growing.count = 0;
  ASSERT_EQ(put(*journal, {growing}), Outcome::ok);
  ASSERT_EQ(put(*journal, {entry(1)}), Outcome::ok);
  const auto all = journal->ledger("s", 100);
  ASSERT_EQ(all->size(), 1u);
  EXPECT_EQ((*all)[0].count, 2u);
}

TEST(Ledger, SaysWhichIdIsNextAtOpen) {
  TempDir dir;
  {
    const auto journal = open_journal(options_in(dir.path()));
    EXPECT_EQ(find(journal->recovered(), "s").next_ledger_id, 1u);
    ASSERT_EQ(put(*journal, {entry(1), entry(2)}), Outcome::ok);
  }
  const auto journal = open_journal(options_in(dir.path()));
  EXPECT_EQ(find(journal->recovered(), "s").next_ledger_id, 3u);
}

TEST(Ledger, MergesTheOldestEntriesOfASinkBeyondItsLimitAndCountsStay) {
  TempDir dir;
  const auto journal = open_journal(options_in(dir.path()));
  LedgerEntry growing = entry(1, "growing");
  growing.last = {};
  growing.count = 0;
  ASSERT_EQ(put(*journal, {growing}), Outcome::ok);
  std::vector<LedgerEntry> entries;
  for (std::uint64_t id = 2; id <= kMaxLedgerEntries + 500; ++id) {
    entries.push_back(entry(id, id % 2 == 0 ? "a" : "b"));
  }
  ASSERT_EQ(put(*journal, entries), Outcome::ok);
  ASSERT_EQ(put(*journal, {}), Outcome::ok);  // after this one, the merging is done
  const auto all = journal->ledger("s", 100'000);
  EXPECT_LE(all->size(), kMaxLedgerEntries);
  EXPECT_GT(all->size(), kMaxLedgerEntries / 2);
  std::uint64_t records = 0;
  for (const LedgerEntry& one : *all) records += one.count;
  EXPECT_EQ(records, 2 * entries.size());
  EXPECT_EQ(all->back().sink, "growing");
  EXPECT_EQ(all->back().last, Position{});
  const LedgerEntry& merged = (*all)[all->size() - 2];
  EXPECT_EQ(merged.first, (Position{1, 4}));
  EXPECT_GT(merged.count, 2u);
  EXPECT_EQ(all->front().id, kMaxLedgerEntries + 500);
}

}  // namespace
}  // namespace spillway::journal
