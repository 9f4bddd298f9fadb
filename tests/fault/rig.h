// A journal on a file system that fails on request, gone on with after each failure as the broker
// does.
#pragma once

#include <gtest/gtest.h>

#include <memory>

#include "tests/fault/fault_file_system.h"
#include "tests/journal/harness.h"

namespace spillway::journal {

inline constexpr std::uint64_t kBlockBytes = 100'000;

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
    generation = 0;
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

}  // namespace spillway::journal
