// The journal on a device that fails: what was acknowledged survives, in order, and it comes back.
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <ostream>

#include "tests/fault/child.h"
#include "tests/fault/rig.h"

namespace spillway::journal {
namespace {

struct Case {
  const char* name;
  Fault fault;
  bool empty_memtable = false;
};

void PrintTo(const Case& one, std::ostream* out) { *out << one.name; }

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
