// Journal: what is durable of a stream: blocks, state, ledger, latch. Its failures are the world's.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "recovery/action.h"
#include "recovery/event.h"
#include "tests/simulation/random.h"
#include "tests/simulation/record.h"

namespace spillway::simulation {

class Journal {
 public:
  struct Commit {
    std::uint64_t id = 0;
    std::shared_ptr<const recovery::DurableState> state;
    Offset watermark = 0;
    std::deque<recovery::BlockInfo> blocks;  // contiguous
    std::vector<Record> records;             // of the blocks
    std::vector<recovery::Loss> losses;
    std::vector<recovery::DeadLetterNote> dead_letters;
    bool use_group_reserve = false;
    std::uint64_t generation = 0;
    bool refused = false;  // since one before it was
  };
  struct Blocks {
    std::vector<recovery::BlockInfo> blocks;
    std::optional<std::pair<Offset, Offset>> lost;
  };

  void apply(const Commit& commit);
  // Really deletes what is at or below the durable watermark.
  void trim();
  // Blocks from the one with `from` on. Reading what is not there fails the run.
  Blocks read(Offset from, Offset through, std::uint64_t max_bytes) const;
  recovery::event::Located locate(const recovery::action::Locate& wish) const;
  void damage(std::uint64_t which);

  // Comes back as it was some commits ago, or, where no state is lost, without its last blocks.
  void lose_tail(Random& random);
  // Made anew.
  void lose_store();
  // A change that an operator makes while no broker runs.
  void edit(recovery::DurableState state, const std::vector<recovery::Loss>& losses);
  // The sink of the world that a name in the ledger stands for from now on.
  void name_sink(const std::string& name, std::size_t sink);

  const recovery::DurableState* state() const { return state_.get(); }
  Offset end() const { return end_; }
  bool end_clean() const {
    return !blocks_.empty() && blocks_.back().last == end_ && blocks_.back().ends_clean;
  }
  Offset watermark() const { return watermark_; }
  // An independent mark of how far blocks were durable.
  Offset high_water() const { return high_water_; }
  const std::deque<recovery::BlockInfo>& blocks() const { return blocks_; }
  const Record& record(Offset offset) const { return records_[offset - records_first_]; }
  bool holds(Offset offset) const {
    return state_ && state_->open && offset > watermark_ && offset >= state_->first &&
           offset <= end_ && !blocks_.empty() && offset >= blocks_.front().first;
  }
  // Whether this very record is durable here and no reader is past it.
  bool holds(const Record& record) const;
  // Whether the ledger says that `sink` does not get the record at `position`.
  bool ledgered(std::size_t sink, Position position) const;
  // A record of which two entries say that a drop or a refusal kept it from `sink`, and neither is
  // an upper bound. Of entries from `since` on: what a crash took back comes again, and may be
  // dropped again.
  std::optional<Position> ledgered_twice(std::size_t sink, std::uint64_t since) const;
  // Whether the entry of this number is of a drop that goes on.
  bool has_no_end(std::uint64_t entry) const;
  std::uint64_t running_at(Offset offset) const;
  recovery::WallMs received_after(Offset offset) const;

  std::vector<recovery::HaltCause> latch;

 private:
  struct Entry {
    std::uint64_t id;
    int sink;  // -1: every sink
    Position first;
    Position last;
    bool growing;
    LossReason reason;
    bool upper_bound;
  };
  static constexpr int kEverySink = -1;
  struct Past {
    std::shared_ptr<const recovery::DurableState> state;
    Offset end = 0;
    Offset watermark = 0;
    std::vector<Entry> ledger;
  };
  static constexpr std::size_t kPasts = 6;

  void remember();
  void enter(const std::vector<recovery::Loss>& losses, const recovery::DurableState& state);
  void cut_blocks(Offset end);

  std::vector<std::pair<std::string, int>> names_;  // the newest last
  std::shared_ptr<const recovery::DurableState> state_;
  Offset end_ = 0;
  Offset watermark_ = 0;
  Offset high_water_ = 0;
  std::deque<Past> pasts_;  // the oldest first
  bool holed_ = false;      // blocks may be missing anywhere: a loss said so
  std::deque<recovery::BlockInfo> blocks_;
  std::vector<Record> records_;
  Offset records_first_ = 1;
  std::vector<Offset> damaged_;  // firsts of blocks
  std::vector<Entry> ledger_;    // ascending ids
  std::vector<Entry> gone_;      // of a ledger that was lost, or of a store before this one
};

}  // namespace spillway::simulation
