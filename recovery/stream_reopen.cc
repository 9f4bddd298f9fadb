// What a journal holds when it is opened, or open again after a failure, beside what it had
// confirmed (D7, G10, G11).
#include <algorithm>
#include <iterator>
#include <utility>

#include "recovery/stream_machine.h"

namespace spillway::recovery {

// At a start: `end` is how far the store says that records are safe, `high_water` how far they once
// were.
void StreamMachine::compare_start(Offset end, Offset high_water) {
  const Offset confirmed = std::max(high_water, want_.open ? want_.checkpoint.at : 0);
  if (confirmed <= end) return;
  if (!has_cause(CauseKind::journal_damaged)) {
    raise(CauseKind::journal_damaged, {}, "records that were durable are gone; see journal check");
  }
  const bool told =
      std::ranges::find(latched_, CauseKind::journal_damaged, &HaltCause::kind) != latched_.end();
  if (!told && !table_.empty()) {
    record_loss(make_loss({}, end + 1, confirmed, LossReason::journal_loss, true));
  }
  if (!want_.open) return;
  // Nothing may speak of what comes after the end: those numbers are given out anew.
  want_.checkpoint = {end, false};
  if (want_.mark_offset > end) {
    want_.mark_offset = 0;
    want_.mark.clear();
  }
  if (want_.epochs.empty() || want_.epochs.back().base <= end) return;
  std::vector<Epoch> found = want_.epochs;
  const EpochTable before(found);
  for (Epoch& epoch : want_.epochs) epoch.base = std::min(epoch.base, end);
  // What a sink has beyond the end it has under the same position.
  const auto move = [&](Offset& offset) {
    if (offset > end) offset = table_.offset_of(before.position_of(offset)).value_or(end);
  };
  for (SinkState& sink : want_.sinks) {
    move(sink.cursor);
    move(sink.drop_first);
    std::erase_if(sink.skips, [end](const SkipRange& skip) { return skip.first > end; });
    for (SkipRange& skip : sink.skips) skip.last = std::min(skip.last, end);
  }
}

void StreamMachine::on(const event::JournalDown&) {
  if (journal_down_) return;
  journal_down_ = true;
  if (!failing_since_) failing_since_ = now_.steady;
}

void StreamMachine::on(const event::JournalReopened& e) {
  // What never reached the queue, or has not come back from it, failed too.
  std::ranges::move(std::exchange(writing_, {}), std::back_inserter(failed_));
  journal_down_ = false;
  change();  // only a write shows that it can be written again
  if (!e.damage.empty()) raise(CauseKind::journal_damaged, {}, e.damage);
  const std::uint64_t stored = e.state ? e.state->revision : 0;
  // They take effect in their order: the revision that is stored says how many did.
  auto failed = std::exchange(failed_, {});
  const auto last = std::ranges::find(
      failed, stored, [](const Writing& writing) { return writing.state->revision; });
  const bool landed = last != failed.end();
  for (auto left = landed ? last - failed.begin() + 1 : 0; left > 0; --left) {
    Writing writing = std::move(failed.front());
    failed.pop_front();
    writing.final = writing.final && (!writing.state->open || e.end >= durable_end_);
    finish_write(std::move(writing));
    if (stop_done_) return;
  }
  put_back(std::move(failed));
  if (cov_ == Coverage::sealing && durable_.open) enter(Coverage::closing);
  const bool older = !landed && stored < durable_.revision;
  if (older || (durable_.open && e.end < durable_end_)) restore(e, older);
  // Only now: what is missing is known.
  if (landed) apply_durable();
}

// The store came back with less than it had confirmed. What this process still knows is written
// again, before anything is acknowledged; what only the store knew is lost, and that is said.
void StreamMachine::restore(const event::JournalReopened& e, bool older) {
  raise(CauseKind::journal_damaged, {},
        "the journal came back with less than it had confirmed; see journal check");
  restoring_ = change();
  for (auto& sink : sinks_) sink->reset_lost.reset();  // the ledger may be older too
  restore_to_ = std::max(restore_to_, durable_end_);
  if (older) durable_ = aligned(e.state);
  if (cov_ != Coverage::open && cov_ != Coverage::closing) {
    durable_.open = false;  // of a coverage that is over
    return;
  }
  const Offset end = durable_.open ? std::min(e.end, head_) : min_effective();
  durable_end_ = appended_ = end;
  hole_first_ = hole_last_ = 0;
  if (window_.first() > end + 1) {
    hole_first_ = end + 1;
    hole_last_ = durable_end_ = appended_ = window_.first() - 1;
    bool taken = false;
    for (auto& sink : sinks_) {
      const Offset from = std::max(hole_first_, effective(*sink) + 1);
      taken |= from > hole_first_;
      if (from > hole_last_) continue;
      deliver(*sink, delivery::Held{false});
      add_skip(*sink, {from, hole_last_, LossReason::journal_loss});
      record_loss(make_loss(sink->policy.name, from, hole_last_, LossReason::journal_loss, false));
    }
    // Who has some of it may be rewound to before it later, and will not get it again.
    if (taken) {
      record_loss(make_loss({}, hole_first_, hole_last_, LossReason::journal_loss, true));
    }
  }
  if (cov_ == Coverage::closing && durable_end_ < closing_end_) enter(Coverage::open);
}

// The state alone may be written again while the disk refuses what belongs to it.
bool StreamMachine::restoring() const {
  if (!restoring_) return false;
  const bool covered = cov_ == Coverage::open || cov_ == Coverage::closing;
  return !durable_at(*restoring_) || (covered && durable_end_ < restore_to_);
}

// An older state, which may be of before the sinks changed, with those of now.
DurableState StreamMachine::aligned(const std::optional<DurableState>& found) const {
  DurableState state = found.value_or(DurableState{});
  std::vector<SinkState> sinks;
  for (const SinkState& sink : want_.sinks) {
    const auto known = std::ranges::find(state.sinks, sink.name, &SinkState::name);
    sinks.push_back(known != state.sinks.end() ? *known : SinkState{});
    sinks.back().name = sink.name;
  }
  state.sinks = std::move(sinks);
  return state;
}

// Blocks without records where the journal has lost some: it holds one run, and what comes before
// the hole is still read. One for each epoch.
std::vector<action::AdmitSkip> StreamMachine::fill_hole(Offset watermark) const {
  std::vector<action::AdmitSkip> fills;
  Offset first = hole_first_ == 0 ? 1 : std::max(hole_first_, watermark + 1);
  while (first <= hole_last_) {
    action::AdmitSkip fill;
    fill.first = first;
    fill.position = table_.position_of(first);
    Offset last = hole_last_;
    for (const Epoch& epoch : want_.epochs) {
      if (epoch.base >= first) last = std::min(last, epoch.base);
    }
    fill.count = last - first + 1;
    fill.reason = LossReason::journal_loss;
    fill.running_bytes =
        window_.empty() ? running_bytes_ : window_.front().running_bytes - window_.front().bytes;
    fills.push_back(fill);
    first = last + 1;
  }
  return fills;
}

}  // namespace spillway::recovery
