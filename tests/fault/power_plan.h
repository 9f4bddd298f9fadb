// What the runs that lose power do to a journal: per stream a list of commits that a seed decides,
// and what the journal must hold after each. The program that runs it and the test that checks what
// was left share this.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "journal/journal.h"

namespace spillway::journal {

struct PlanSize {
  std::uint64_t commits = 120;  // of each stream
  std::uint64_t max_block_bytes = 60'000;
  unsigned in_flight = 4;
  unsigned openings = 1;  // the journal is closed in order and opened again between them
};

// By name: "tables" (memtables are written out), "flood" (much in flight), "restarts".
PlanSize plan_size(const std::string& workload);

// A stream after some number of its commits.
struct Expected {
  Offset end = 0;
  Offset watermark = 0;
  std::uint64_t ledger = 0;  // entries, with the ids 1, 2, ...
  std::uint64_t dead_letters = 0;
  std::uint64_t running_bytes = 0;
};

class Plan {
 public:
  Plan(std::string stream, const PlanSize& size, std::uint64_t seed);

  std::uint64_t commits() const { return steps_.size() - 1; }
  const Expected& after(std::uint64_t commits) const { return steps_.at(commits).then; }
  // The commit after so many; its state is its number.
  Commit commit(std::uint64_t number, std::uint64_t generation) const;
  // Latch contents are numbered too; 0: none is written after this commit.
  std::uint64_t latch_after(std::uint64_t commits) const { return steps_.at(commits).latch; }
  bool trims(std::uint64_t number) const { return steps_.at(number).watermark != 0; }
  // The records of these offsets as they were appended, the first being that of a block.
  std::string records(Offset first, Offset last) const;
  static LedgerEntry ledger_entry(std::uint64_t id);

 private:
  struct Step {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> blocks;  // records, bytes
    Offset watermark = 0;
    bool ledger = false;
    bool dead_letter = false;
    std::uint64_t latch = 0;
    Expected then;
  };
  std::vector<BlockPtr> blocks_of(std::uint64_t number) const;

  std::string stream_;
  std::vector<Step> steps_;  // the first is what was there before any commit
};

// The streams of a run, and how it is laid out.
inline constexpr const char* kPlanStreams[] = {"s", "t"};
Options plan_options(const std::filesystem::path& data_dir);
std::string latch_text(std::uint64_t number);

}  // namespace spillway::journal
