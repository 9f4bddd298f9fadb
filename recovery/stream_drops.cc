// Drops and the ledger: whatever a sink does not get is written down before anything beyond is sent
// (D8, G10).
#include <algorithm>
#include <utility>

#include "base/invariant.h"
#include "recovery/stream_machine.h"

namespace spillway::recovery {

Loss StreamMachine::make_loss(std::string sink, Offset first, Offset last, LossReason reason,
                              bool upper_bound) {
  Loss loss;
  loss.id = want_.next_ledger_id++;
  loss.sink = std::move(sink);
  loss.first = first;
  loss.last = last;
  loss.fresh = last < first ? 0 : last - first + 1;
  loss.first_position = table_.position_of(first);
  loss.last_position = table_.position_of(last);
  loss.reason = reason;
  loss.time = now_.wall;
  loss.upper_bound = upper_bound;
  return loss;
}

// What is in the dead letters, or lost otherwise, beyond what the sink has acknowledged is inside.
bool StreamMachine::names_skipped(const Sink& sink, const Loss& loss) const {
  return std::ranges::any_of(state_of(sink).skips, [&loss](const SkipRange& skip) {
    return skip.first <= loss.last && skip.last >= loss.first;
  });
}

void StreamMachine::record_loss(Loss loss) {
  losses_.push_back(std::move(loss));
  change();
}

// Everything from the oldest undelivered record on is let go, until the sink is live again: one
// open-ended entry, however long it lasts.
void StreamMachine::begin_drop(Sink& sink, LossReason reason) {
  SinkState& state = state_of(sink);
  INVARIANT(!state.dropping);
  sink.reopen_after_drop = sink.delivery.positioned();
  if (sink.reopen_after_drop) deliver(sink, delivery::Held{false});
  const Offset first = effective(sink) + 1;
  Loss loss = make_loss(sink.policy.name, first, 0, reason, false);
  loss.growing = true;
  state.dropping = true;
  state.drop_first = first;
  state.drop_reason = reason;
  state.drop_entry = loss.id;
  sink.drop_durable = false;
  record_loss(std::move(loss));
  sink.drop_change = changes_;
}

// The sink is back: what was let go becomes a range with an end, at a whole record and group.
void StreamMachine::end_drop(Sink& sink) {
  SinkState& state = state_of(sink);
  INVARIANT(state.dropping);
  const Offset last = std::max(clean_head_, state.drop_first - 1);
  Loss loss = make_loss(sink.policy.name, state.drop_first, last, state.drop_reason, false);
  loss.id = state.drop_entry;
  loss.upper_bound = names_skipped(sink, loss);
  state.dropping = false;
  const SkipRange range{state.drop_first, last, state.drop_reason};
  if (last >= state.drop_first) {
    // None of it waits any more.
    if (const BlockInfo* block = window_.find(last)) {
      sink.located = {last, block->running_at(last), 0};
    } else if (last == head_) {
      sink.located = {last, running_bytes_, 0};
    }
    record_loss(std::move(loss));
    add_skip(sink, range);
  } else {
    loss.last = loss.first - 1;  // nothing was dropped after all
    record_loss(std::move(loss));
  }
  sink.ending_drop = range;
  sink.ending_change = changes_;
}

// Lets the oldest go until seven eighths of the limit are left, so that this does not happen again
// at the next record.
void StreamMachine::drop_oldest(Sink& sink, LossReason reason) {
  if (sink.locating || !sink.waiting_skips.empty() || sink.restart_change) return;
  if (journal_down_ || now_.steady < sink.locate_at) return;
  const Backlog waiting = backlog(sink);
  const Offset passed = effective(sink);
  Cut cut{reason, passed + 1, 0, 0};
  if (const std::uint64_t limit = max_bytes(sink); waiting.bytes > limit) {
    cut.bytes_min = running_bytes_ - (limit - limit / 8);
  }
  if (const std::uint64_t limit = sink.policy.max_records; waiting.records > limit) {
    cut.offset_min = std::max(cut.offset_min, head_ - (limit - limit / 8));
  }
  if (reason == LossReason::age && sink.policy.max_age) {
    const auto young = clock_.no_older_than(*sink.policy.max_age + sink.extra_time);
    cut.offset_min = std::max(cut.offset_min, young.offset_min);
    cut.received_min = young.received_min;
  }
  if (reason == LossReason::limit && cut.bytes_min == 0 && cut.offset_min == passed + 1) {
    // The disk bound: what frees files is about an eighth of what this sink keeps there.
    const std::uint64_t kept = running_bytes_ - waiting.bytes;
    cut.bytes_min =
        kept + std::max<std::uint64_t>((running_bytes_ - std::min(kept, running_bytes_)) / 8, 1);
  }
  if (cut.offset_min >= window_.first()) return drop_in_window(sink, cut);
  sink.locating = next_id_++;
  sink.cut = cut;
  out_->push_back(
      action::Locate{sink.id, *sink.locating, cut.offset_min, cut.bytes_min, cut.received_min});
}

void StreamMachine::drop_in_window(Sink& sink, const Cut& cut) {
  const auto& blocks = window_.blocks();
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const BlockInfo& block = blocks[i];
    if (block.last < cut.offset_min || block.running_bytes < cut.bytes_min) continue;
    if (!block.ends_clean) continue;
    if (i + 1 < blocks.size() && blocks[i + 1].received < cut.received_min) continue;
    const WallMs next = i + 1 < blocks.size() ? blocks[i + 1].received : 0;
    sink.located = {block.last, block.running_bytes, next};
    return drop_through(sink, block.last, cut.reason);
  }
  if (clean_head_ != torn_) drop_through(sink, clean_head_, cut.reason);
}

void StreamMachine::on(const event::Located& e) {
  Sink& sink = sink_of(e.sink);
  if (sink.locating != e.id) return;
  sink.locating.reset();
  if (!e.ok) {  // not "no such place": the journal is being reopened, or cannot be read just now
    sink.locate_at = now_.steady + kLocateRetry;
    return;
  }
  if (state_of(sink).dropping || sink.restart_change) return;
  if (!sink.waiting_skips.empty()) return;  // let go meanwhile: asked anew, from behind that
  // It caught up meanwhile: what waits is in flight to it, and counts for no limit.
  if (sink.delivery.state() == State::live) return;
  // Nothing in the journal reaches so far: what is left to drop is in the window.
  if (e.offset == 0) return drop_in_window(sink, sink.cut);
  // Where the sink is beyond it already, less waits than was thought.
  const BlockInfo* next = window_.find(e.offset + 1);
  sink.located = {e.offset, e.running_bytes, next != nullptr ? next->received : e.received};
  if (e.offset > effective(sink)) {
    drop_through(sink, std::min(e.offset, head_), sink.cut.reason);
  }
}

void StreamMachine::drop_through(Sink& sink, Offset last, LossReason reason) {
  const Offset first = effective(sink) + 1;
  if (last < first) return;
  if (sink.delivery.positioned()) deliver(sink, delivery::Held{false});
  Loss loss = make_loss(sink.policy.name, first, last, reason, false);
  loss.upper_bound = names_skipped(sink, loss);
  // A drop that goes on from where the last one ended is the same entry, grown.
  const auto& before = sink.last_drop;
  if (before && before->last + 1 == first && before->reason == reason) {
    loss.id = before->id;
    loss.first = before->first;
    loss.first_position = before->first_position;
    loss.upper_bound = loss.upper_bound || before->upper_bound;
  }
  sink.last_drop = loss;
  record_loss(std::move(loss));
  add_skip(sink, {first, last, reason});
}

}  // namespace spillway::recovery
