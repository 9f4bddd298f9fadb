// One error of the device, in each call on each kind of file: while the journal works, and as it
// starts.
#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <vector>

#include "tests/fault/child.h"
#include "tests/fault/rig.h"

namespace spillway::journal {
namespace {

struct Call {
  std::string name;
  Fault fault;
  bool works = false;  // must be met while the journal works; otherwise, as it starts
};

void PrintTo(const Call& call, std::ostream* out) { *out << call.name; }

// What RocksDB does with each kind of file: each as it starts, whatever the timing, but for those
// that it makes only while it works. Two are missing. It never closes CURRENT or what becomes of
// it: that file's destructor does. And tables are deleted by a trim: a test of its own, below.
std::vector<Call> every_call() {
  struct Kind {
    const char* name;
    FileKind kind;
    unsigned starting;
    unsigned working;
  };
  struct Named {
    const char* name;
    Operation operation;
  };
  constexpr unsigned kMade = kCreate | kAppend | kSync;
  constexpr Kind kKinds[] = {
      {"Wal", kWal, kCreate | kClose | kDelete | kOpen | kRead, kAppend | kSync},
      {"Table", kTable, kMade | kClose | kOpen | kRead, 0},
      {"Manifest", kManifest, kMade | kDelete | kOpen | kRead, kClose},
      {"Current", kCurrent, kMade | kRename | kOpen | kRead, 0},
      {"Options", kOptions, kMade | kClose | kRename | kDelete | kOpen | kRead, 0},
      {"Directory", kOther, kSyncDir, 0},
  };
  constexpr Named kOperations[] = {{"Create", kCreate},   {"Append", kAppend}, {"Sync", kSync},
                                   {"SyncDir", kSyncDir}, {"Rename", kRename}, {"Delete", kDelete},
                                   {"Close", kClose},     {"Open", kOpen},     {"Read", kRead}};
  std::vector<Call> calls;
  for (const Kind& kind : kKinds) {
    for (const Named& named : kOperations) {
      const bool works = (kind.working & named.operation) != 0;
      if (!works && (kind.starting & named.operation) == 0) continue;
      const bool reads = (named.operation & (kOpen | kRead | kDelete)) != 0;
      for (const Errno error : {Errno::eio, Errno::enospc}) {
        if (reads && error == Errno::enospc) continue;
        Fault fault{kind.kind, static_cast<unsigned>(named.operation), error, 0, 1};
        fault.torn_bytes = 100;
        calls.push_back(
            {std::string(kind.name) + named.name + (error == Errno::eio ? "Eio" : "Enospc"), fault,
             works});
      }
    }
  }
  return calls;
}

class EveryCall : public testing::TestWithParam<Call> {};

TEST_P(EveryCall, MayFailOnceWhileTheJournalWorks) {
  in_child([] {
    const TempDir dir(in_memory());
    Rig rig(dir.path());
    rig.open();
    EXPECT_EQ(rig.append_through(20), 0);
    rig.system->inject(GetParam().fault);
    rig.append_through(60);  // a memtable is written out
    rig.expect_all_there();
    rig.restart_healthy();
    EXPECT_TRUE(rig.system->fired() > 0 || !GetParam().works) << "the fault was never met";
    rig.append_through(70);
    rig.expect_all_there();
  });
}

TEST_P(EveryCall, MayFailOnceAsItStarts) {
  in_child([] {
    const TempDir dir(in_memory());
    Rig rig(dir.path());
    rig.open();
    EXPECT_EQ(rig.append_through(60), 0);  // tables and a WAL
    for (int skip = 0; skip < 6; ++skip) {
      rig.journal.reset();
      Fault fault = GetParam().fault;
      fault.skip = skip;
      rig.system->inject(fault);
      auto opened = Journal::open(rig.options, rig.log.events());
      rig.system->heal();
      if (opened) {
        rig.journal = std::move(*opened);
        rig.generation = 0;
        const Recovered& found = find(rig.journal->recovered(), "s");
        ASSERT_FALSE(found.damage) << skip << ": " << *found.damage;
        ASSERT_EQ(found.end, rig.acked) << skip << ": acknowledged records are gone";
        rig.append_through(rig.acked + 1);
      } else {
        const std::string& message = opened.error().message;
        EXPECT_TRUE(message.find("injected") != std::string::npos ||
                    message.find("CURRENT: cannot open it") != std::string::npos)
            << message;
      }
      rig.restart_healthy();
      rig.expect_all_there();
    }
    // Files are deleted in the background, on a busy machine after the start.
    const bool later = GetParam().fault.operations == kDelete;
    EXPECT_TRUE(rig.system->fired() > 0 || GetParam().works || later) << "the fault was never met";
  });
}

TEST(TableDelete, MayFailInATrimAndIsMadeUpForLater) {
  in_child([] {
    const TempDir dir(in_memory());
    Rig rig(dir.path());
    rig.open();
    EXPECT_EQ(rig.append_through(60), 0);
    rig.system->inject({kTable, kDelete, Errno::eio, 0, 1});
    EXPECT_EQ(set_watermark(*rig.journal, 50, rig.generation), Outcome::ok);
    EXPECT_TRUE(eventually([&] {
      rig.journal->trim("s");
      return rig.system->fired() > 0;
    })) << "the fault was never met";
    EXPECT_EQ(read(*rig.journal, 51).blocks.size(), 10u);
    rig.restart_healthy();
    EXPECT_EQ(rig.append_through(70), 0);
    const ReadResult result = read(*rig.journal, 51);
    ASSERT_TRUE(result.ok) << result.error;
    EXPECT_FALSE(result.lost);
    EXPECT_EQ(result.blocks.size(), 20u);
  });
}

INSTANTIATE_TEST_SUITE_P(Device, EveryCall, testing::ValuesIn(every_call()),
                         [](const auto& one) { return one.param.name; });

}  // namespace
}  // namespace spillway::journal
