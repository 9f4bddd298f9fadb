#include <gtest/gtest.h>

#include "journal/data_dir.h"
#include "journal/format.h"
#include "journal/inspect.h"
#include "journal/store.h"
#include "tests/journal/damage.h"
#include "tests/journal/harness.h"

namespace spillway::journal {
namespace {

// Of stream "s", as a journal or an inspector reads them.
template <class Source>
std::vector<DeadLetter> letters_of(Source& source) {
  std::vector<DeadLetter> letters;
  const auto error = source.dead_letters("s", [&letters](const DeadLetter& letter) {
    letters.push_back(letter);
    return true;
  });
  EXPECT_FALSE(error.has_value());
  return letters;
}

TEST(DeadLetters, AreKeptInOrderAndReadByTheInspector) {
  TempDir dir;
  {
    const auto journal = open_journal(options_in(dir.path()));
    for (Offset i = 1; i <= 3; ++i) {
      Commit commit;
      commit.stream = "s";
      commit.dead_letters = {{"sink", make_block(i, 1, 100), "no " + std::to_string(i), 5}};
      ASSERT_EQ(journal::commit(*journal, commit), Outcome::ok);
    }
  }
  const auto inspector = Inspector::open(dir.path());
  ASSERT_TRUE(inspector.has_value());
  const auto letters = letters_of(**inspector);
  ASSERT_EQ(letters.size(), 3u);
  EXPECT_EQ(letters[2].reason, "no 3");
  EXPECT_EQ(letters[2].number, 3u);
  EXPECT_TRUE(same(*letters[2].record, *make_block(3, 1, 100)));
}

TEST(DeadLetters, ThatArePurgedGoWithTheStateThatSaysSoAndGiveBackTheirSpace) {
  TempDir dir;
  const Options options = options_in(dir.path());
  std::uint64_t before = 0;
  {
    const auto journal = open_journal(options);
    Commit commit;
    commit.stream = "s";
    commit.dead_letters.assign(8, {"sink", make_block(1, 1, 1 << 20), "no", 5});
    ASSERT_EQ(journal::commit(*journal, commit), Outcome::ok);
  }
  {
    const auto journal = open_journal(options);
    before = measure_disk_use(Layout(dir.path()))->sst;
    ASSERT_GT(before, 8u << 20);
    Commit commit;
    commit.stream = "s";
    commit.state = "purged";
    commit.purged = {1, 2, 3, 5, 6, 7, 8};
    ASSERT_EQ(journal::commit(*journal, commit), Outcome::ok);
    EXPECT_EQ(letters_of(*journal).size(), 1u);
  }
  EXPECT_LT(measure_disk_use(Layout(dir.path()))->sst, before / 4);
  const auto journal = open_journal(options);
  EXPECT_EQ(find(journal->recovered(), "s").state, "purged");
  const auto letters = letters_of(*journal);
  ASSERT_EQ(letters.size(), 1u);
  EXPECT_EQ(letters[0].number, 4u);
}

TEST(DeadLetters, ThatAreDamagedAreShownByTheirNumber) {
  TempDir dir;
  {
    const auto journal = open_journal(options_in(dir.path()));
    Commit commit;
    commit.stream = "s";
    commit.dead_letters = {{"sink", make_block(1, 1, 100), "no", 5}};
    ASSERT_EQ(journal::commit(*journal, commit), Outcome::ok);
  }
  {
    StoreContext context(options_in(dir.path()));
    Store::Failure failure;
    const auto store = Store::open(context, Store::Mode::write, failure);
    ASSERT_NE(store, nullptr) << failure.text;
    const std::string key = dead_letter_prefix("s") + std::string(view(key_of(1)));
    ASSERT_TRUE(store->db().Put(rocksdb::WriteOptions(), store->dead_letters(), key, "torn").ok());
  }
  const auto inspector = Inspector::open(dir.path());
  ASSERT_TRUE(inspector.has_value());
  const auto letters = letters_of(**inspector);
  ASSERT_EQ(letters.size(), 1u);
  EXPECT_EQ(letters[0].record, nullptr);
  EXPECT_EQ(letters[0].number, 1u);
}

TEST(DeadLetters, ThatCannotBeReadAreNotReplacedByNewOnes) {
  TempDir dir;
  for (Offset i = 1; i <= 3; ++i) {
    const auto journal = open_journal(options_in(dir.path()));
    Commit commit;
    commit.stream = "s";
    commit.dead_letters = {{"sink", make_block(i, 1, 10'000), "no " + std::to_string(i), 5}};
    ASSERT_EQ(journal::commit(*journal, commit), Outcome::ok);
  }
  { const auto journal = open_journal(options_in(dir.path())); }  // into tables
  const BlockPtr last = make_block(3, 1, 10'000);
  const std::string part(reinterpret_cast<const char*>(last->records.data()), 100);
  ASSERT_EQ(flip_in_tables(dir.path(), part), 1);
  const auto journal = open_journal(options_in(dir.path()));
  const Recovered& recovered = find(journal->recovered(), "s");
  EXPECT_FALSE(recovered.writable);
  ASSERT_TRUE(recovered.damage);
  EXPECT_NE(recovered.damage->find("its dead letters cannot be read"), std::string::npos)
      << *recovered.damage;
  Commit commit;
  commit.stream = "s";
  commit.dead_letters = {{"sink", make_block(4, 1, 100), "no 4", 5}};
  EXPECT_EQ(journal::commit(*journal, commit), Outcome::failed);
}

}  // namespace
}  // namespace spillway::journal
