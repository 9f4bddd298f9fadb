#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "journal/disk_bound.h"
#include "tests/journal/harness.h"

namespace spillway::journal {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

struct Bound {
  DiskState disk;
  std::chrono::steady_clock::time_point now{std::chrono::hours(1)};
  int looks = 0;
  DiskBound bound{{1000 * kMiB, 100 * kMiB, 8 * kMiB},
                  [this] { return ++looks, disk; },
                  [this] { return now; }};
  Bound() {
    disk.free = 5000 * kMiB;
    bound.look();
  }
};

TEST(DiskBound, CountsABytesTwiceUntilItLooksAtTheDiskAgain) {
  Bound test;
  EXPECT_EQ(test.bound.check(480 * kMiB, 0), Outcome::ok);
  EXPECT_EQ(test.bound.check(497 * kMiB, 0), Outcome::disk_bound);
  test.bound.stages(400 * kMiB);
  test.bound.wrote();
  EXPECT_EQ(test.bound.check(100 * kMiB, 0), Outcome::disk_bound);
  test.now += std::chrono::seconds(1);
  test.disk.use.total = 400 * kMiB;
  EXPECT_EQ(test.bound.check(100 * kMiB, 0), Outcome::ok);
  EXPECT_EQ(test.looks, 2);  // it looks again only when the answer would have been no
}

// Several commits make a group, and while it is made no look at the disk shows what is in it.
TEST(DiskBound, CountsWhatIsStagedAlsoWhenItLooksAtTheDiskMeanwhile) {
  Bound test;
  test.bound.stages(400 * kMiB);
  test.bound.look();
  EXPECT_EQ(test.bound.check(100 * kMiB, 0), Outcome::disk_bound);
  test.disk.free = 900 * kMiB;
  test.disk.use.total = 0;
  test.bound.look();
  EXPECT_EQ(test.bound.check(1, 0), Outcome::min_free);
  test.bound.wrote();
  test.disk.use.total = 400 * kMiB;
  test.disk.free = 4600 * kMiB;
  test.bound.look();
  EXPECT_EQ(test.bound.check(100 * kMiB, 0), Outcome::ok);
}

TEST(DiskBound, CountsWhatIsInMemoryAndWhatIsReserved) {
  Bound test;
  test.disk.use.total = 500 * kMiB;
  test.disk.unflushed = 200 * kMiB;
  test.bound.look();
  EXPECT_EQ(test.bound.check(100 * kMiB, 0), Outcome::ok);
  EXPECT_EQ(test.bound.check(100 * kMiB, 100 * kMiB), Outcome::disk_bound);
}

TEST(DiskBound, KeepsTheFreeSpaceOfTheFileSystem) {
  Bound test;
  test.disk.free = 300 * kMiB;
  test.bound.look();
  EXPECT_EQ(test.bound.check(90 * kMiB, 0), Outcome::ok);
  EXPECT_EQ(test.bound.check(100 * kMiB, 0), Outcome::min_free);
}

TEST(DiskBound, DoesNotWalkTheDirectoryForEveryRefusal) {
  Bound test;
  test.disk.use.total = 1000 * kMiB;
  test.bound.look();
  for (int i = 0; i < 100; ++i) EXPECT_EQ(test.bound.check(1, 0), Outcome::disk_bound);
  EXPECT_EQ(test.looks, 2);
}

TEST(DiskBound, KeepsWhatItSawWhenItCannotLook) {
  std::optional<DiskState> disk{DiskState{}};
  disk->use.total = 500 * kMiB;
  disk->free = 5000 * kMiB;
  DiskBound bound(
      {1000 * kMiB, 100 * kMiB, 8 * kMiB}, [&disk] { return disk; },
      [] { return std::chrono::steady_clock::now(); });
  bound.look();
  bound.stages(100 * kMiB);
  bound.wrote();
  disk.reset();
  bound.look();
  EXPECT_EQ(bound.check(100 * kMiB, 0), Outcome::ok);
  EXPECT_EQ(bound.check(200 * kMiB, 0), Outcome::disk_bound);
  EXPECT_EQ(bound.state().use.total, 500 * kMiB);
}

TEST(DiskUse, IsWhatDuSays) {
  TempDir dir;
  {
    const auto journal = open_journal(options_in(dir.path()));
    for (Offset i = 1; i <= 20; ++i) append(*journal, {make_block(i, 1, kMiB)});
  }
  EXPECT_EQ(measure_disk_use(Layout(dir.path()))->total, du(dir.path()));
}

TEST(DiskUse, TellsTheStoreFromWhatARepairHasKept) {
  TempDir dir;
  {
    const auto journal = open_journal(options_in(dir.path()));
    append(*journal, {make_block(1, 1, kMiB)});
  }
  const Layout layout(dir.path());
  const DiskUse before = measure_disk_use(layout).value();
  EXPECT_EQ(before.kept, 0u);
  std::filesystem::create_directory(layout.repair());
  std::filesystem::copy(layout.store(), layout.repair() / "20261128T170000Z");
  const DiskUse after = measure_disk_use(layout).value();
  EXPECT_EQ(after.wal, before.wal);
  EXPECT_EQ(after.sst, before.sst);
  EXPECT_GT(after.kept, kMiB);
  EXPECT_EQ(after.total, before.total + after.kept);
}

// Such as lost+found, where data_dir is the root of a file system, and the broker is not root.
TEST(DiskUse, CountsWhatLiesBesideAFolderThatMustNotBeOpened) {
  constexpr uid_t kNobody = 65534;
  TempDir dir;
  for (int i = 0; i < 8; ++i) {
    for (const char* name : {"open", "closed"}) {
      const fs::path folder = dir.path() / (name + std::to_string(i));
      fs::create_directory(folder);
      if (folder.filename() == "open" + std::to_string(i)) {
        std::ofstream(folder / "table.sst") << std::string(kMiB, 'x');
      } else {
        ASSERT_EQ(::chmod(folder.c_str(), 0), 0);
      }
    }
  }
  ASSERT_EQ(::chmod(dir.path().c_str(), 0755), 0);
  // In a process that is not root's, beginning where it may not have the way to.
  const auto child = [&dir] {
    const bool ready =
        ::chdir(dir.path().c_str()) == 0 && (::geteuid() != 0 || ::setuid(kNobody) == 0);
    const auto use = measure_disk_use(Layout("."));
    return !ready ? 2 : use && use->sst >= 8 * kMiB && use->total > use->sst ? 0 : 1;
  };
  EXPECT_EXIT(std::_Exit(child()), testing::ExitedWithCode(0), "");
}

TEST(DiskUse, IsNotKnownWhereThereIsNoDescriptorToLookWith) {
  TempDir dir;
  fs::create_directory(dir.path() / "journal");
  const auto child = [&dir] {
    const rlimit none{0, 0};
    const bool ready = ::setrlimit(RLIMIT_NOFILE, &none) == 0;
    return !ready ? 2 : measure_disk_use(Layout(dir.path())) ? 1 : 0;
  };
  EXPECT_EXIT(std::_Exit(child()), testing::ExitedWithCode(0), "");
}

TEST(Bound, RefusesAnAppendAndLeavesNothingOfItsCommit) {
  TempDir dir;
  Options options = options_in(dir.path());
  options.min_free_disk = ~std::uint64_t{0} >> 1;
  EventLog log;
  {
    const auto journal = open_journal(options, &log);
    Commit commit;
    commit.stream = "s";
    commit.state = "not to be seen";
    commit.append = {make_block(1, 1, 10)};
    EXPECT_EQ(journal::commit(*journal, commit), Outcome::min_free);
    EXPECT_EQ(log.wait_disk(), Outcome::min_free);
    // One that follows the refused one is refused with it.
    EXPECT_EQ(append(*journal, {make_block(2, 1, 10)}), Outcome::min_free);
    commit.append.clear();
    commit.state = "alone";
    EXPECT_EQ(journal::commit(*journal, commit), Outcome::ok);
  }
  const auto journal = open_journal(options);
  EXPECT_EQ(find(journal->recovered(), "s").state, "alone");
  EXPECT_EQ(find(journal->recovered(), "s").end, 0u);
}

// Fills a journal until it refuses, watching the disk all the while. Returns what it took.
std::uint64_t fill_until_refused(const Options& options, std::uint64_t block_bytes,
                                 std::uint64_t& peak) {
  EventLog log;
  const auto journal = open_journal(options, &log);
  std::atomic<bool> done{false};
  std::thread watcher([&] {
    while (!done) peak = std::max(peak, measure_disk_use(Layout(options.data_dir))->total);
  });
  Offset next = 1;
  Outcome outcome = Outcome::ok;
  while (outcome == Outcome::ok && next * block_bytes <= options.max_disk_bytes) {
    outcome = append(*journal, {make_block(next, 1, block_bytes)});
    next += outcome == Outcome::ok ? 1 : 0;
  }
  EXPECT_EQ(outcome, Outcome::disk_bound);
  EXPECT_EQ(log.wait_disk(), Outcome::disk_bound);
  // State goes on being written to a full journal.
  for (int i = 0; i < 2000; ++i) {
    Commit commit;
    commit.stream = "s";
    commit.state = std::string(2000, static_cast<char>('a' + i % 26));
    EXPECT_EQ(journal::commit(*journal, commit), Outcome::ok);
  }
  // What was taken is there, and draining it makes room again.
  EXPECT_EQ(read(*journal, next - 1).blocks.size(), 1u);
  EXPECT_EQ(set_watermark(*journal, next - 1), Outcome::ok);
  journal->trim("s");
  EXPECT_EQ(log.wait_disk(), Outcome::ok);
  // What RocksDB still writes out may take the room once more.
  for (outcome = append(*journal, {make_block(next, 1, block_bytes)});
       outcome == Outcome::disk_bound && !testing::Test::HasFailure();
       outcome = append(*journal, {make_block(next, 1, block_bytes)})) {
    EXPECT_EQ(log.wait_disk(), Outcome::disk_bound);
    EXPECT_EQ(log.wait_disk(), Outcome::ok);
  }
  EXPECT_EQ(outcome, Outcome::ok);
  done = true;
  watcher.join();
  return (next - 1) * block_bytes;
}

TEST(Bound, HoldsAsDuMeasuresItAtTheSmallestSize) {
  TempDir dir;
  Options options = options_in(dir.path());
  options.max_disk_bytes = kMinDiskBytes;
  std::uint64_t peak = 0;
  const std::uint64_t taken = fill_until_refused(options, 100'000, peak);
  EXPECT_LE(peak, options.max_disk_bytes);
  EXPECT_GT(taken, options.max_disk_bytes / 2) << "peak " << peak;
  RecordProperty("taken_mib", static_cast<int>(taken / kMiB));
  RecordProperty("peak_mib", static_cast<int>(peak / kMiB));
}

TEST(Bound, HoldsAsDuMeasuresItAtAQuarterOfAGibibyte) {
  TempDir dir;
  Options options = options_in(dir.path());
  std::uint64_t peak = 0;
  const std::uint64_t taken = fill_until_refused(options, 1 << 20, peak);
  EXPECT_LE(peak, options.max_disk_bytes);
  EXPECT_GT(taken, options.max_disk_bytes / 3 * 2) << "peak " << peak;
  RecordProperty("taken_mib", static_cast<int>(taken / kMiB));
  RecordProperty("peak_mib", static_cast<int>(peak / kMiB));
}

// The little that a stream at the bound has in memory holds the WAL, and the state of all others
// is in it.
TEST(Bound, HoldsWhateverStateIsWrittenWhileAStreamStandsStill) {
  TempDir dir;
  const Options options = options_in(dir.path(), {"s", "live"});
  const auto journal = open_journal(options);
  Offset next = 1;
  while (append(*journal, {make_block(next, 1, kMiB)}) == Outcome::ok) {
    ASSERT_LT(++next, 256u) << "it never refuses";
  }
  Commit commit;
  commit.stream = "s";
  commit.append = {make_block(next, 1, 1000)};
  commit.use_group_reserve = true;
  ASSERT_EQ(journal::commit(*journal, commit), Outcome::ok);
  std::uint64_t peak = 0;
  commit = {};
  commit.stream = "live";
  for (int i = 0; i < 20; ++i) {  // faster than the disk is looked at
    commit.state = std::string(20'000, static_cast<char>('a' + i % 26));
    for (int k = 1; k < 100; ++k) journal->commit(commit, {});
    ASSERT_EQ(journal::commit(*journal, commit), Outcome::ok);
    peak = std::max(peak, measure_disk_use(Layout(options.data_dir))->total);
  }
  EXPECT_LE(peak, options.max_disk_bytes);
}

TEST(Bound, NeverRefusesTheRestOfAGroupAndCountsTheBreach) {
  TempDir dir;
  Options options = options_in(dir.path());
  options.min_free_disk = ~std::uint64_t{0} >> 1;
  const auto journal = open_journal(options);
  Commit commit;
  commit.stream = "s";
  commit.append = {make_block(1, 1, 10)};
  commit.use_group_reserve = true;
  EXPECT_EQ(journal::commit(*journal, commit), Outcome::ok);
  EXPECT_EQ(journal->stats().bound_breaches, 1u);
}

const auto kOpenGroup = [](Block& block) { block.ends_clean = false; };

// Fills the rest of the bound with "t", and then ends the group that "s" has begun.
void expect_reserve(Journal& journal, const Options& options) {
  Offset next = find(journal.recovered(), "t").end + 1;
  while (append(journal, {make_block(next, 1, kMiB)}, 0, "t") == Outcome::ok) {
    ASSERT_LT(++next, 128u) << "it never refuses";
  }
  for (Offset i = 2; i <= 6; ++i) {
    Commit commit;
    commit.stream = "s";
    commit.use_group_reserve = true;
    commit.append = {with(make_block(i, 1, kMiB), kOpenGroup)};
    EXPECT_EQ(journal::commit(journal, commit), Outcome::ok);
  }
  EXPECT_EQ(journal.stats().bound_breaches, 0u);
  EXPECT_LE(du(options.data_dir), options.max_disk_bytes);
}

Options with_reserve(const TempDir& dir) {
  Options options = options_in(dir.path(), {"s", "t"});
  options.max_disk_bytes = 128 * kMiB;
  options.group_reserve = 16 * kMiB;
  return options;
}

TEST(Bound, KeepsAReserveForTheRestOfAnOpenGroup) {
  TempDir dir;
  const Options options = with_reserve(dir);
  const auto journal = open_journal(options);
  ASSERT_EQ(append(*journal, {with(make_block(1, 1, 10), kOpenGroup)}), Outcome::ok);
  expect_reserve(*journal, options);
}

TEST(Bound, KeepsTheReserveOfAGroupThatWasOpenWhenTheStoreWasOpened) {
  TempDir dir;
  const Options options = with_reserve(dir);
  ASSERT_EQ(append(*open_journal(options), {with(make_block(1, 1, 10), kOpenGroup)}), Outcome::ok);
  const auto journal = open_journal(options);
  expect_reserve(*journal, options);
}

}  // namespace
}  // namespace spillway::journal
