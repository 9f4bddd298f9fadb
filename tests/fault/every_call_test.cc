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
};

void PrintTo(const Call& call, std::ostream* out) { *out << call.name; }

// What RocksDB does with each kind of file.
std::vector<Call> every_call() {
  struct Kind {
    const char* name;
    FileKind kind;
    unsigned operations;
  };
  struct Named {
    const char* name;
    Operation operation;
  };
  constexpr Kind kKinds[] = {
      {"Wal", kWal, kCreate | kAppend | kSync | kClose | kDelete | kOpen | kRead},
      {"Table", kTable, kCreate | kAppend | kSync | kClose | kDelete | kOpen | kRead},
      {"Manifest", kManifest, kCreate | kAppend | kSync | kClose | kDelete | kOpen | kRead},
      {"Current", kCurrent, kCreate | kAppend | kSync | kClose | kRename | kOpen | kRead},
      {"Options", kOptions, kCreate | kAppend | kSync | kClose | kRename | kDelete | kOpen | kRead},
      {"Directory", kOther, kSyncDir},
  };
  constexpr Named kOperations[] = {{"Create", kCreate},   {"Append", kAppend}, {"Sync", kSync},
                                   {"SyncDir", kSyncDir}, {"Rename", kRename}, {"Delete", kDelete},
                                   {"Close", kClose},     {"Open", kOpen},     {"Read", kRead}};
  std::vector<Call> calls;
  for (const Kind& kind : kKinds) {
    for (const Named& named : kOperations) {
      if ((kind.operations & named.operation) == 0) continue;
      const bool reads = (named.operation & (kOpen | kRead | kDelete)) != 0;
      for (const Errno error : {Errno::eio, Errno::enospc}) {
        if (reads && error == Errno::enospc) continue;
        Fault fault{kind.kind, static_cast<unsigned>(named.operation), error, 0, 1};
        fault.torn_bytes = 100;
        calls.push_back(
            {std::string(kind.name) + named.name + (error == Errno::eio ? "Eio" : "Enospc"),
             fault});
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
  });
}

INSTANTIATE_TEST_SUITE_P(Device, EveryCall, testing::ValuesIn(every_call()),
                         [](const auto& one) { return one.param.name; });

}  // namespace
}  // namespace spillway::journal
