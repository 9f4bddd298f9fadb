// The sudden end of the process: what it wrote is there, synced or not.
#include <gtest/gtest.h>

#include "journal/inspect.h"
#include "tests/fault/child.h"
#include "tests/journal/harness.h"

namespace spillway::journal {
namespace {

constexpr std::uint64_t kBlockBytes = 30'000;

Commit next_commit(Offset offset) {
  Commit commit;
  commit.stream = "s";
  commit.append = {make_block(offset, 1, kBlockBytes)};
  commit.state = std::to_string(offset);
  return commit;
}

void expect_intact_from(const std::filesystem::path& dir, Offset acked) {
  const auto journal = open_journal(options_in(dir));
  const Recovered& recovered = find(journal->recovered(), "s");
  EXPECT_FALSE(recovered.damage) << *recovered.damage;
  EXPECT_GE(recovered.end, acked) << "acknowledged records are gone";
  EXPECT_LE(recovered.end, acked + 1);
  // State and blocks are one batch.
  EXPECT_EQ(recovered.state.value_or("0"), std::to_string(recovered.end));
  const ReadResult result = read(*journal, 1);
  EXPECT_FALSE(result.lost);
  ASSERT_EQ(result.blocks.size(), recovered.end);
  for (Offset i = 1; i <= recovered.end; ++i) {
    EXPECT_TRUE(same(*result.blocks[i - 1], *make_block(i, 1, kBlockBytes)));
  }
}

TEST(SigKill, LosesNothingAcknowledgedWheneverItComes) {
  for (const unsigned long round : {1ul, 20ul, 77ul, 150ul, 301ul, 444ul}) {
    const TempDir dir(in_memory());
    Victim victim([&dir](Victim& self) {
      Options options = options_in(dir.path());
      options.max_disk_bytes = kMinDiskBytes;
      const auto journal = open_journal(options);
      for (Offset i = 1; i < 1500; ++i) {
        if (commit(*journal, next_commit(i)) != Outcome::ok) return;
        self.report(i);
      }
    });
    const unsigned long acked = victim.kill_after(round);
    in_child([&] { expect_intact_from(dir.path(), acked); });
  }
}

TEST(SigKill, LeavesTheDirectoryToTheNextBroker) {
  const TempDir dir(in_memory());
  Victim victim([&dir](Victim& self) {
    const auto journal = open_journal(options_in(dir.path()));
    for (Offset i = 1; i < 1500; ++i) {
      commit(*journal, next_commit(i));
      self.report(i);
    }
  });
  victim.kill_after(3);
  in_child([&] {
    const auto inspector = Inspector::open(dir.path());
    ASSERT_TRUE(inspector.has_value());
    EXPECT_FALSE((*inspector)->broker_running());
    EXPECT_TRUE((*inspector)->check().empty());
    EXPECT_NE(open_journal(options_in(dir.path())), nullptr);
  });
}

}  // namespace
}  // namespace spillway::journal
