#include "tests/simulation/sim_journal.h"

#include <algorithm>

namespace spillway::simulation {

using recovery::BlockInfo;

void Journal::apply(const Commit& commit) {
  remember();
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
    end_ = high_water_ = commit.blocks.back().last;
  }
  require(!state_ || commit.state->revision > state_->revision, "the revision does not rise");
  state_ = commit.state;
  watermark_ = std::max(watermark_, commit.watermark);
  end_ = std::max(end_, watermark_);
  enter(commit.losses, *commit.state);
}

void Journal::remember() {
  pasts_.push_back({state_, end_, watermark_, ledger_});
  if (pasts_.size() > kPasts) pasts_.pop_front();
}

void Journal::enter(const std::vector<recovery::Loss>& losses,
                    const recovery::DurableState& state) {
  for (const recovery::Loss& loss : losses) {
    Entry entry{loss.id,      kEverySink,  loss.first_position, loss.last_position,
                loss.growing, loss.reason, loss.upper_bound};
    for (const auto& [name, sink] : names_) {
      if (name == loss.sink) entry.sink = sink;
    }
    require(loss.sink.empty() || entry.sink != kEverySink, "a ledger entry of an unknown sink");
    require(loss.id != 0 && loss.id < state.next_ledger_id,
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

void Journal::cut_blocks(Offset end) {
  while (!blocks_.empty() && blocks_.back().first > end) blocks_.pop_back();
  end_ = std::max(watermark_, blocks_.empty() ? 0 : blocks_.back().last);
  records_.resize(blocks_.empty() ? 0 : blocks_.back().last + 1 - records_first_);
  // What comes after it now was never there before.
  for (Past& past : pasts_) past.end = std::min(past.end, end_);
}

void Journal::lose_tail(Random& random) {
  holed_ = true;
  if (pasts_.empty() || random.chance(0.2)) {
    if (blocks_.size() > 1) cut_blocks(blocks_[random.below(blocks_.size())].first - 1);
    return;
  }
  pasts_.resize(1 + random.below(pasts_.size()));
  Past past = std::move(pasts_.back());
  pasts_.pop_back();
  state_ = std::move(past.state);
  watermark_ = past.watermark;
  gone_.insert(gone_.end(), ledger_.begin(), ledger_.end());
  ledger_ = std::move(past.ledger);
  cut_blocks(past.end);
}

void Journal::lose_store() {
  Journal fresh;
  fresh.names_ = names_;
  fresh.gone_ = std::move(gone_);
  fresh.gone_.insert(fresh.gone_.end(), ledger_.begin(), ledger_.end());
  *this = std::move(fresh);
}

void Journal::edit(recovery::DurableState state, const std::vector<recovery::Loss>& losses) {
  remember();
  ++state.revision;
  enter(losses, state);
  state_ = std::make_shared<const recovery::DurableState>(std::move(state));
}

void Journal::name_sink(const std::string& name, std::size_t sink) {
  names_.emplace_back(name, static_cast<int>(sink));
}

void Journal::trim() {
  while (!blocks_.empty() && blocks_.front().last <= watermark_) blocks_.pop_front();
}

Journal::Blocks Journal::read(Offset from, Offset through, std::uint64_t max_bytes) const {
  require(state_ && state_->open, "read from a journal whose coverage is closed");
  require(from > watermark_, "read at or below the durable watermark:", from, watermark_);
  require(through <= end_, "read beyond the durable end:", through, end_);
  require(from <= through, "an empty read");
  Blocks result;
  if (blocks_.empty() || blocks_.front().first > from) {
    require(holed_, "read of what was trimmed:", from);
    result.lost.emplace(from, blocks_.empty() ? through : blocks_.front().first - 1);
    return result;
  }
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
  located.ok = true;
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const BlockInfo& block = blocks_[i];
    if (block.last <= watermark_ || block.last < wish.offset_min) continue;
    if (block.running_bytes < wish.bytes_min || !block.ends_clean) continue;
    if (i + 1 < blocks_.size() && blocks_[i + 1].received < wish.received_min) continue;
    located.offset = block.last;
    located.running_bytes = block.running_bytes;
    if (i + 1 < blocks_.size()) located.received = blocks_[i + 1].received;
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
  const auto speaks = [&](const Entry& entry) {
    return (entry.sink == kEverySink || entry.sink == static_cast<int>(sink)) &&
           entry.first <= position && (entry.growing || position <= entry.last);
  };
  return std::ranges::any_of(ledger_, speaks) || std::ranges::any_of(gone_, speaks);
}

std::optional<Position> Journal::ledgered_twice(std::size_t sink, std::uint64_t since) const {
  std::vector<Entry> exact;
  for (const Entry& entry : ledger_) {
    if (entry.sink != static_cast<int>(sink) || entry.growing || entry.upper_bound) continue;
    const bool kept_back = entry.reason == LossReason::limit || entry.reason == LossReason::age ||
                           entry.reason == LossReason::outage ||
                           entry.reason == LossReason::rejected;
    if (kept_back && entry.id >= since && entry.first <= entry.last) exact.push_back(entry);
  }
  std::ranges::sort(exact, {}, &Entry::first);
  for (std::size_t i = 1; i < exact.size(); ++i) {
    if (exact[i].first <= exact[i - 1].last) return exact[i].first;
  }
  return std::nullopt;
}

bool Journal::has_no_end(std::uint64_t entry) const {
  const auto at = std::ranges::find(ledger_, entry, &Entry::id);
  return at != ledger_.end() && at->growing;
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
