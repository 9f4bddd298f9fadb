// The journal on a device that fails: what was acknowledged survives, in order, and it comes back.
#include <gtest/gtest.h>

#include <chrono>
#include <future>

#include "tests/fault/child.h"
#include "tests/fault/fault_file_system.h"
#include "tests/journal/harness.h"

namespace spillway::journal {
namespace {

constexpr std::uint64_t kBlockBytes = 100'000;

struct Rig {
  explicit Rig(const std::filesystem::path& dir) : options(options_in(dir)) {
    options.max_disk_bytes = kMinDiskBytes;  // small memtables, so that tables are written often
    options.env = env.get();
  }
  void open() { journal = open_journal(options, &log); }

  // Appends through `last`, going on after each failure as the broker does. Returns how many
  // failures there were.
  int append_through(Offset last) {
    int failures = 0;
    while (acked < last && failures < 100) {
      const Outcome outcome = append(*journal, {make_block(acked + 1, 1, kBlockBytes)}, generation);
      if (outcome == Outcome::ok) {
        ++acked;
        continue;
      }
      EXPECT_EQ(outcome, Outcome::failed);
      ++failures;
      await_reopening();
    }
    return failures;
  }

  void await_reopening() {
    EXPECT_FALSE(log.wait_down().empty());
    const Recovered recovered = find(log.wait_reopened(), "s");
    EXPECT_EQ(recovered.generation, generation + 1);
    EXPECT_EQ(recovered.high_water, acked);
    EXPECT_GE(recovered.end, acked) << "acknowledged records are gone";
    EXPECT_LE(recovered.end, acked + 1);
    EXPECT_FALSE(recovered.damage) << *recovered.damage;
    generation = recovered.generation;
    acked = recovered.end;
  }

  void expect_all_there() {
    const ReadResult result = read(*journal, 1);
    ASSERT_TRUE(result.ok) << result.error;
    EXPECT_FALSE(result.lost);
    ASSERT_EQ(result.blocks.size(), acked);
    for (Offset i = 1; i <= acked; ++i) {
      EXPECT_TRUE(same(*result.blocks[i - 1], *make_block(i, 1, kBlockBytes))) << i;
    }
  }

  void restart_healthy() {
    journal.reset();
    system->heal();
    open();
    EXPECT_EQ(find(journal->recovered(), "s").end, acked);
    EXPECT_FALSE(find(journal->recovered(), "s").damage);
  }

  std::shared_ptr<FaultFileSystem> system = std::make_shared<FaultFileSystem>();
  std::unique_ptr<rocksdb::Env> env = rocksdb::NewCompositeEnv(system);
  Options options;
  EventLog log;
  std::unique_ptr<Journal> journal;
  Offset acked = 0;
  std::uint64_t generation = 0;
};

struct Case {
  const char* name;
  Fault fault;
  bool empty_memtable = false;
};

class OneFault : public testing::TestWithParam<Case> {};

TEST_P(OneFault, LosesNothingAcknowledgedKeepsTheOrderAndGoesOn) {
  in_child([] {
    const TempDir dir(in_memory());
    Rig rig(dir.path());
    rig.open();
    EXPECT_EQ(rig.append_through(20), 0);
    if (GetParam().empty_memtable) {
      rig.restart_healthy();  // what was recovered is written out, and the memtable is empty
    }
    rig.system->inject(GetParam().fault);
    const int failures = rig.append_through(150);
    EXPECT_GE(rig.system->fired(), 1) << "the fault was never met";
    EXPECT_GE(failures, 1);
    rig.expect_all_there();
    rig.restart_healthy();
    rig.expect_all_there();
  });
}

constexpr Case kCases[] = {
    {"WalAppendEio", {kWal, kAppend, Errno::eio, 3, 1, 100}},
    {"WalAppendEioOnAnEmptyMemtable", {kWal, kAppend, Errno::eio, 0, 1, 100}, true},
    {"WalAppendEnospc", {kWal, kAppend, Errno::enospc, 3, 1, 100}},
    {"WalAppendEnospcOnAnEmptyMemtable", {kWal, kAppend, Errno::enospc, 0, 1, 100}, true},
    {"WalSyncEio", {kWal, kSync, Errno::eio, 3, 1}},
    {"WalSyncEioOnAnEmptyMemtable", {kWal, kSync, Errno::eio, 0, 1}, true},
    {"WalSyncEnospc", {kWal, kSync, Errno::enospc, 3, 1}},
    {"WalCreateEio", {kWal, kCreate, Errno::eio, 0, 1}},
    {"TableAppendEio", {kTable, kAppend, Errno::eio, 0, 1}},
    {"TableAppendEnospc", {kTable, kAppend, Errno::enospc, 0, 1}},
    {"TableSyncEio", {kTable, kSync, Errno::eio, 0, 1}},
    {"TableCreateEnospc", {kTable, kCreate, Errno::enospc, 0, 1}},
    {"ManifestAppendEio", {kManifest, kAppend, Errno::eio, 0, 1}},
    {"ManifestAppendEnospc", {kManifest, kAppend, Errno::enospc, 0, 1}},
    {"ManifestSyncEio", {kManifest, kSync, Errno::eio, 0, 1}},
    {"DirectorySyncEio", {kAny, kSyncDir, Errno::eio, 0, 1}},
    {"WalSyncEioTenTimes", {kWal, kSync, Errno::eio, 5, 10}},
    {"EnospcFortyTimes", {kAny, kAppend | kCreate, Errno::enospc, 5, 40}},
};
INSTANTIATE_TEST_SUITE_P(Device, OneFault, testing::ValuesIn(kCases),
                         [](const auto& one) { return std::string(one.param.name); });

TEST(FullDisk, IsReadFromWhileItLastsAndLeftWhenThereIsSpace) {
  in_child([] {
    const TempDir dir(in_memory());
    Rig rig(dir.path());
    rig.open();
    EXPECT_EQ(rig.append_through(60), 0);
    rig.system->inject({kAny, kAppend | kCreate, Errno::enospc, 0, 1'000'000});
    rig.system->set_free_space(0);
    EXPECT_EQ(append(*rig.journal, {make_block(61, 1, kBlockBytes)}), Outcome::failed);
    EXPECT_FALSE(rig.log.wait_down().empty());
    EXPECT_TRUE(rig.journal->stats().failing);
    rig.expect_all_there();
    EXPECT_TRUE(write_latch(*rig.journal, "the disk is full"));
    EXPECT_EQ(append(*rig.journal, {make_block(61, 1, kBlockBytes)}), Outcome::failed);
    rig.expect_all_there();
    EXPECT_FALSE(std::filesystem::exists(dir.path() / "ballast"));
    rig.system->heal();
    const Recovered recovered = find(rig.log.wait_reopened(), "s");
    EXPECT_EQ(recovered.end, 60u);
    EXPECT_EQ(recovered.latch, "the disk is full");
    rig.generation = recovered.generation;
    EXPECT_EQ(rig.append_through(70), 0);
    EXPECT_FALSE(rig.journal->stats().failing);
    EXPECT_EQ(rig.journal->stats().reopens, 1u);
    EXPECT_TRUE(eventually([&] { return std::filesystem::exists(dir.path() / "ballast"); }));
    rig.expect_all_there();
  });
}

TEST(Reopening, IsReportedWithoutACommitWhenATableCannotBeWritten) {
  in_child([] {
    const TempDir dir(in_memory());
    Rig rig(dir.path());
    rig.open();
    // Fills a memtable; nothing is committed after the one that seals it.
    rig.system->inject({kTable, kAppend, Errno::eio, 0, 1});
    while (rig.log.downs() == 0 && rig.system->fired() == 0) {
      if (append(*rig.journal, {make_block(rig.acked + 1, 1, kBlockBytes)}) != Outcome::ok) break;
      ++rig.acked;
    }
    rig.await_reopening();
    EXPECT_EQ(rig.append_through(rig.acked + 20), 0);
    rig.expect_all_there();
  });
}

TEST(Reopening, RefusesCommitsMadeBeforeTheirMakerKnewOfIt) {
  in_child([] {
    const TempDir dir(in_memory());
    Rig rig(dir.path());
    rig.open();
    EXPECT_EQ(rig.append_through(5), 0);
    rig.system->inject({kWal, kAppend, Errno::eio, 0, 1});
    EXPECT_EQ(append(*rig.journal, {make_block(6, 1, kBlockBytes)}), Outcome::failed);
    EXPECT_FALSE(rig.log.wait_down().empty());
    const Recovered recovered = find(rig.log.wait_reopened(), "s");
    EXPECT_EQ(recovered.end, 5u);
    Commit stale;
    stale.stream = "s";
    stale.state = "rests on record 6";
    EXPECT_EQ(commit(*rig.journal, stale), Outcome::failed);
    EXPECT_EQ(append(*rig.journal, {make_block(7, 1, kBlockBytes)}), Outcome::failed);
    EXPECT_EQ(append(*rig.journal, {make_block(6, 1, kBlockBytes)}, recovered.generation),
              Outcome::ok);
  });
}

TEST(Reopening, EndsEverythingInAFailedGroupAsFailed) {
  in_child([] {
    const TempDir dir(in_memory());
    Rig rig(dir.path());
    rig.open();
    EXPECT_EQ(rig.append_through(5), 0);
    rig.system->inject({kWal, kSync, Errno::eio, 0, 1});
    std::vector<std::promise<Outcome>> promises(20);
    for (std::size_t i = 0; i < promises.size(); ++i) {
      Commit one;
      one.stream = "s";
      one.append = {make_block(6 + i, 1, 1000)};
      rig.journal->commit(std::move(one),
                          [&promises, i](Outcome outcome) { promises[i].set_value(outcome); });
    }
    for (auto& promise : promises) EXPECT_EQ(promise.get_future().get(), Outcome::failed);
    const Recovered recovered = find(rig.log.wait_reopened(), "s");
    EXPECT_GE(recovered.end, 5u);
  });
}

TEST(SlowTables, HoldAppendsUpButAreNoFailure) {
  in_child([] {
    const TempDir dir(in_memory());
    Rig rig(dir.path());
    rig.open();
    EXPECT_EQ(rig.append_through(1), 0);
    // Four memtables in wait of being written stop all writes; each begins a WAL file.
    rig.system->hold_tables_until(4);
    EXPECT_EQ(rig.append_through(250), 0);
    EXPECT_EQ(rig.log.downs(), 0);
    EXPECT_GT(rig.journal->stats().stall_seconds, 0);
    rig.expect_all_there();
  });
}

TEST(Stopping, DoesNotWaitForAReopeningThatIsFarAway) {
  in_child([] {
    const TempDir dir(in_memory());
    Rig rig(dir.path());
    rig.options.reopen_initial = std::chrono::hours(1);
    rig.open();
    rig.system->inject({kWal, kAppend, Errno::eio, 0, 1'000'000});
    EXPECT_EQ(append(*rig.journal, {make_block(1, 1, 100)}), Outcome::failed);
    EXPECT_FALSE(rig.log.wait_down().empty());
    int failed = 0;
    for (int i = 0; i < 10; ++i) {
      Commit one;
      one.stream = "s";
      one.state = "x";
      rig.journal->commit(one, [&](Outcome outcome) { failed += outcome == Outcome::failed; });
    }
    const auto start = std::chrono::steady_clock::now();
    rig.journal.reset();
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
    EXPECT_EQ(failed, 10);
  });
}

}  // namespace
}  // namespace spillway::journal
