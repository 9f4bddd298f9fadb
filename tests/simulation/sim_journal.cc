#include "tests/simulation/sim_journal.h"

#include <algorithm>

namespace spillway::simulation {

using recovery::BlockInfo;

void Journal::apply(const Commit& commit) {
  if (!commit.blocks.empty()) {
    const Offset first = commit.blocks.front().first;
    require(first == std::max(end_, commit.watermark) + 1, "append leaves a gap or repeats: from",
            first, "after", end_, "watermark", commit.watermark);
    require(commit.state->open, "appended to a journal whose coverage is closed");
    if (blocks_.empty() || blocks_.back().last + 1 != first) {  // what was before is given up
      blocks_.clear();
      records_.clear();
      damaged_.clear();
      records_first_ = first;
    }
    blocks_.insert(blocks_.end(), commit.blocks.begin(), commit.blocks.end());
    records_.insert(records_.end(), commit.records.begin(), commit.records.end());
    end_ = commit.blocks.back().last;
  }
  require(!state_ || commit.state->revision > state_->revision, "the revision does not rise");
  state_ = commit.state;
  watermark_ = std::max(watermark_, commit.watermark);
  end_ = std::max(end_, watermark_);
  for (const recovery::Loss& loss : commit.losses) {
    Entry entry{loss.id, kEverySink, loss.first_position, loss.last_position, loss.last == 0};
    for (std::size_t i = 0; i < sinks_.size(); ++i) {
      if (sinks_[i] == loss.sink) entry.sink = static_cast<int>(i);
    }
    require(loss.sink.empty() || entry.sink != kEverySink, "a ledger entry of an unknown sink");
    require(loss.id != 0 && loss.id < commit.state->next_ledger_id,
            "a ledger id that the stored state may use again:", loss.id);
    if (!entry.growing && loss.last < loss.first) entry.last = {0, 0};  // nothing after all
    const auto at = std::ranges::lower_bound(ledger_, entry.id, {}, &Entry::id);
    if (at != ledger_.end() && at->id == entry.id) {
      require(at->sink == entry.sink, "a ledger entry changed its sink:", entry.id);
      // An epoch that opens over records which are gone gives their offsets other positions.
      require(entry.first <= at->first || entry.first.epoch != at->first.epoch,
              "a ledger entry lost its beginning:", entry.id);
      *at = entry;
    } else {
      ledger_.insert(at, entry);
    }
  }
}

void Journal::trim() {
  while (!blocks_.empty() && blocks_.front().last <= watermark_) blocks_.pop_front();
}

Journal::Blocks Journal::read(Offset from, Offset through, std::uint64_t max_bytes) const {
  require(state_ && state_->open, "read from a journal whose coverage is closed");
  require(from > watermark_, "read at or below the durable watermark:", from, watermark_);
  require(through <= end_, "read beyond the durable end:", through, end_);
  require(from <= through, "an empty read");
  require(!blocks_.empty() && blocks_.front().first <= from, "read of what was trimmed:", from);
  Blocks result;
  auto block = std::ranges::lower_bound(blocks_, from, {}, &BlockInfo::last);
  std::uint64_t bytes = 0;
  for (; block != blocks_.end() && block->first <= through; ++block) {
    if (std::ranges::find(damaged_, block->first) != damaged_.end()) {
      result.lost.emplace(std::max(from, block->first), block->last);
      break;
    }
    if (bytes >= max_bytes && !result.blocks.empty()) break;
    result.blocks.push_back(*block);
    bytes += block->bytes;
  }
  return result;
}

recovery::event::Located Journal::locate(const recovery::action::Locate& wish) const {
  recovery::event::Located located;
  located.sink = wish.sink;
  located.id = wish.id;
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const BlockInfo& block = blocks_[i];
    if (block.last <= watermark_ || block.last < wish.offset_min) continue;
    if (block.running_bytes < wish.bytes_min || !block.ends_clean) continue;
    if (i + 1 < blocks_.size() && blocks_[i + 1].received < wish.received_min) continue;
    located.offset = block.last;
    located.running_bytes = block.running_bytes;
    return located;
  }
  return located;
}

void Journal::damage(std::uint64_t which) {
  if (blocks_.empty()) return;
  const BlockInfo& block = blocks_[which % blocks_.size()];
  if (std::ranges::find(damaged_, block.first) == damaged_.end()) damaged_.push_back(block.first);
}

bool Journal::holds(const Record& record) const {
  if (!state_ || !state_->open) return false;
  for (const recovery::Epoch& epoch : state_->epochs) {
    if (epoch.number != record.at.epoch) continue;
    const Offset offset = epoch.base + record.at.sequence;
    if (!holds(offset)) return false;
    const Record& here = this->record(offset);
    return here.at == record.at && here.content == record.content;
  }
  return false;
}

bool Journal::ledgered(std::size_t sink, Position position) const {
  return std::ranges::any_of(ledger_, [&](const Entry& entry) {
    return (entry.sink == kEverySink || entry.sink == static_cast<int>(sink)) &&
           entry.first <= position && (entry.growing || position <= entry.last);
  });
}

std::uint64_t Journal::running_at(Offset offset) const {
  const auto block = std::ranges::lower_bound(blocks_, offset, {}, &BlockInfo::last);
  if (block != blocks_.end()) return block->running_at(offset);
  return blocks_.empty() ? 0 : blocks_.back().running_bytes;
}

recovery::WallMs Journal::received_after(Offset offset) const {
  const auto block = std::ranges::lower_bound(blocks_, offset + 1, {}, &BlockInfo::last);
  return block == blocks_.end() ? 0 : block->received;
}

}  // namespace spillway::simulation
