// The guarantees, against what is durable and what sinks really took.
#include <algorithm>

#include "tests/simulation/world.h"

namespace spillway::simulation {

void World::check_step() {
  if (machine_) {
    const recovery::WindowIndex& index = machine_->window();
    require(index.bytes() == window_bytes_,
            "the window index and the window differ:", index.bytes(), window_bytes_);
    const double ratio =
        static_cast<double>(window_bytes_) / static_cast<double>(plan_.policy.window_bytes);
    counts_.window_ratio = std::max(counts_.window_ratio, ratio);
    // The frame that reached the limit in flight; and, where what waits may be acknowledged, the
    // one that made it a quarter of the window.
    const std::uint64_t frames = plan_.policy.acks == recovery::Acks::all ? 1 : 2;
    require(window_bytes_ <= plan_.policy.window_bytes + frames * max_block_bytes_,
            "the window is larger than its bound and its frames:", window_bytes_);
  }
  note_begins();
  check_custody();
}

// G1 as if the process died now: for every sink, what was promised was taken by it, or is durable
// in the journal, or in the ledger.
void World::check_custody() {
  if (!custody_dirty_) return;
  custody_dirty_ = false;
  if (restoring()) {
    custody_dirty_ = true;  // what the store lost is on its way there again
    return;
  }
  restore_to_ = 0;
  for (const std::size_t i : active_) {
    if (!begun_[i]) continue;
    std::size_t& frontier = frontier_[i];
    while (frontier < promised_.size() && done_with(i, promised_[frontier])) ++frontier;
    if (!acknowledges_for_good()) continue;
    if (frontier == promised_.size()) continue;
    const bool run = journal_.holds(promised_[frontier]) && journal_.holds(promised_.back());
    if (run) continue;  // one contiguous range
    for (std::size_t k = frontier; k < promised_.size(); ++k) {
      require(covered(i, promised_[k]), "custody: acknowledged, but nowhere for sink", i, "at",
              promised_[k].at);
    }
  }
}

bool World::done_with(std::size_t sink, const Record& record) const {
  if (record.skip == LossReason::filter || !begun_[sink] || record.at <= begins_[sink]) return true;
  if (!excused_[sink].empty() && excused_[sink].contains(record.at)) return true;
  // What no producer has any more a sink may have taken before.
  const bool took = record.skip ? sinks_[sink].took_any(record.at) : sinks_[sink].took(record);
  return took || journal_.ledgered(sink, record.at);
}

bool World::covered(std::size_t sink, const Record& record) const {
  return done_with(sink, record) || journal_.holds(record);
}

// Where less than every sink is asked for, a crash takes back what only memory held.
void World::forget_promises() {
  const auto gone = [&](const Record& record) {
    const Offset offset = offset_of(record.at);
    return offset == 0 || offset > machine_->head() || position_of(offset) != record.at;
  };
  while (!promised_.empty() && gone(promised_.back())) promised_.pop_back();
  for (std::size_t& frontier : frontier_) frontier = std::min(frontier, promised_.size());
}

// The record at an offset, also where this process did not see it come.
const Record* World::known(Offset offset) const {
  if (offset >= records_first_ && offset < records_first_ + records_.size()) return &record(offset);
  const Position at = position_of(offset);
  // What was passed on as a skip is one, whatever the producer once had there.
  const auto safe = std::ranges::lower_bound(promised_, at, {}, &Record::at);
  if (safe != promised_.end() && safe->at == at) return &*safe;
  return producer_.script().known(at);
}

// D8: a drop ends at a whole group, also where a crash cut one in two.
void World::check_drop(const recovery::Loss& loss) const {
  const bool by_policy = loss.reason == LossReason::limit || loss.reason == LossReason::age ||
                         loss.reason == LossReason::outage;
  if (!by_policy || loss.last < loss.first || lost_something_) return;
  if (moved_.contains(loss.sink)) return;  // an operator's word ends a drop anywhere
  const Record* const last = known(loss.last);
  const Record* const next = known(loss.last + 1);
  if (last == nullptr || next == nullptr || last->at.epoch != next->at.epoch) return;
  require(!last->info.open || last->skip || !next->info.continues,
          "a drop ends inside a group, after", last->at);
}

// G12, G6: beyond the bound goes the rest of one group, and what is in a block with its end.
void World::check_reserve(const Journal::Commit& commit, Offset append_first) const {
  require(record(append_first).info.continues,
          "nothing continues a group, and is written from its reserve:", record(append_first).at);
  if (!journal_.state() || !journal_.state()->open) return;  // D2: all that was acknowledged
  for (std::size_t i = 0; i + 1 < commit.blocks.size(); ++i) {
    const Offset last = commit.blocks[i].last;
    if (last < append_first || last < machine_->safe()) continue;
    require(record(last).info.open && record(last + 1).info.continues,
            "written from the reserve of a group that ended before:", record(last + 1).at);
  }
}

// The mark in Welcome is what the producer goes on after: it belongs to a record that is held.
void World::check_mark(const recovery::action::Welcome& welcome) const {
  const auto newest = std::ranges::find_if(records_.rbegin(), records_.rend(),
                                           [](const Record& record) { return record.mark; });
  // Under quorum and none a first Hello may lower held below the mark that is stored. That one is
  // forgotten, and it was the only one.
  if (newest != records_.rend() && !lost_something_ && acknowledges_for_good()) {
    require(!welcome.mark.empty() && welcome.mark_position >= newest->at,
            "Welcome has an older mark than that of", newest->at);
  }
  if (welcome.mark.empty()) return;
  require(welcome.mark_position <= welcome.held,
          "Welcome has a mark beyond held:", welcome.mark_position, "held", welcome.held);
  require(lost_something_ || welcome.mark == to_string(welcome.mark_position),
          "Welcome has a mark under another position:", welcome.mark_position, welcome.mark);
}

// Everything through `safe` is acknowledged to the producer from now on.
void World::promise(Position safe) {
  const Offset through = offset_of(safe);
  std::vector<Record> added;
  for (Offset o = through; o > 0; --o) {
    const Position at = position_of(o);
    if (!promised_.empty() && at <= promised_.back().at) break;
    if (o >= records_first_ && o < records_first_ + records_.size()) {
      added.push_back(record(o));
    } else if (const Record* known = producer_.script().known(at)) {
      added.push_back(*known);
    }
  }
  if (added.empty()) return;
  std::ranges::reverse(added);
  if (plan_.policy.acks == recovery::Acks::quorum) check_quorum(added);
  promised_.insert(promised_.end(), added.begin(), added.end());
  custody_dirty_ = true;
}

// After a crash a record can come again that was safe; it must be the same.
void World::check_same(const Record& record) const {
  const auto before = std::ranges::lower_bound(promised_, record.at, {}, &Record::at);
  if (before == promised_.end() || before->at != record.at) return;
  require(before->content == record.content || before->skip || record.skip,
          "other content for a record that was safe:", record.at);
}

// G1 under quorum: so many sinks that count took it, or it is durable.
void World::check_quorum(const std::vector<Record>& records) const {
  for (const Record& record : records) {
    if (record.skip || journal_.holds(record)) continue;
    std::uint32_t took = 0;
    bool everywhere = true;
    for (std::size_t i = 0; i < active_.size(); ++i) {
      const bool has = sinks_[active_[i]].took(record);
      took += has && plan_.policy.sinks[i].counts_for_quorum ? 1 : 0;
      everywhere = everywhere && done_with(active_[i], record);
    }
    require(took >= plan_.policy.quorum || everywhere,
            "acknowledged without its quorum:", record.at);
  }
}

void World::check_taken(Position taken) {
  check_custody();
  if (restoring()) return;
  for (const std::size_t i : active_) {
    if (!begun_[i] || frontier_[i] == promised_.size()) continue;
    const Position next = promised_[frontier_[i]].at;
    require(next > taken, "said to be taken by every sink, but not by", i, "at", next, "through",
            taken);
  }
}

// An orderly stop leaves nothing that only memory holds.
void World::check_stopped() {
  for (const Record& record : records_) {
    for (const std::size_t i : active_) {
      require(covered(i, record), "lost in an orderly stop:", record.at, "sink", i);
    }
  }
}

// G10: whatever was acknowledged is at each sink, or in the ledger.
void World::check_end() {
  require(
      lost_something_ || (!promised_.empty() && producer_.acknowledged() == promised_.back().at),
      "the producer heard something else than was said");
  for (const Record& record : promised_) {
    // The end of an epoch that broker and producer forgot together: nobody can tell how far it
    // went.
    if (position_of(offset_of(record.at)) != record.at) continue;
    for (const std::size_t i : active_) {
      if (record.skip == LossReason::filter || record.at <= begins_[i]) continue;
      if (excused_[i].contains(record.at)) continue;
      const bool holds = record.skip ? sinks_[i].took_any(record.at) : sinks_[i].holds(record);
      require(holds || journal_.ledgered(i, record.at),
              "neither delivered nor in the ledger:", record.at, "sink", i);
    }
  }
  for (const recovery::SinkState& sink : machine_->durable().sinks) {
    require(lost_something_ || !journal_.has_no_end(sink.drop_entry),
            "a drop is over, and its entry is not: sink", sink.name);
  }
  require(requests_.empty(), "an operator was never answered");
  for (const std::size_t i : active_) {
    if (lost_something_ || sinks_changed_ || ever_moved_.contains(i)) continue;
    const auto twice = journal_.ledgered_twice(i, first_entry_);
    require(!twice, "twice in the ledger:", twice.value_or(Position{}), "sink", i);
  }
}

}  // namespace spillway::simulation
