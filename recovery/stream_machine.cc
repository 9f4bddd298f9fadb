// Life of the machine, and custody (G1).
#include "recovery/stream_machine.h"

#include <algorithm>
#include <utility>

#include "base/invariant.h"

namespace spillway::recovery {

StreamMachine::StreamMachine(StreamPolicy policy) : policy_(std::move(policy)) {
  INVARIANT(!policy_.sinks.empty());
  for (std::size_t i = 0; i < policy_.sinks.size(); ++i) {
    sinks_.push_back(std::make_unique<Sink>(SinkId{static_cast<std::uint32_t>(i)}, policy_.sinks[i],
                                            window_, policy_.seed * 31 + i));
  }
}

void StreamMachine::step(Now now, const Event& event, std::vector<Action>& out) {
  INVARIANT(out_ == nullptr);  // no re-entry
  INVARIANT(now.steady >= now_.steady);
  INVARIANT(started_ || std::holds_alternative<event::Started>(event));
  now_ = now;
  out_ = &out;
  if (!stop_done_) {
    follow_clock();
    std::visit([this](const auto& e) { on(e); }, event);
    settle();
  }
  check();
  out_ = nullptr;
}

void StreamMachine::on(const event::Started& e) {
  INVARIANT(!started_);
  started_ = true;
  started_at_ = wrote_at_ = now_.steady;
  if (e.state) want_ = *e.state;
  durable_ = want_;
  INVARIANT(want_.sinks.size() == sinks_.size());
  was_clean_ = want_.clean_stop || !e.state || want_.epochs.empty();
  revision_ = want_.revision;
  watermark_written_ = e.watermark;
  for (const Epoch& epoch : want_.epochs) {
    want_.epoch_newest = std::max(want_.epoch_newest, epoch.number);
  }
  trimmed_ = watermark_of(durable_);
  safe_ = std::max(want_.checkpoint.at, want_.closed_end);
  running_bytes_ = safe_running_ = e.end_running_bytes;
  if (want_.open) {
    // Open: all that was acknowledged is in the journal (D3).
    head_ = clean_head_ = appended_ = durable_end_ = e.journal_end;
    safe_ = head_;
    if (!e.end_clean && head_ > table_.current_base()) torn_ = head_;
    open_first_ = want_.first;
    enter(Coverage::open);
    want_.acks = policy_.acks;
    want_.quorum = policy_.quorum;
  }
  window_.clear(head_ + 1);
  evicted_ = head_;
  causes_ = latched_ = e.latched;
  // What the disk and the store refuse now they will say again.
  for (const CauseKind kind :
       {CauseKind::journal_failing, CauseKind::disk_bound, CauseKind::min_free_disk}) {
    clear(kind, {});
  }
  // Nor does a sink that was forgotten, or has another name now, hold anybody up.
  std::erase_if(causes_, [&](const HaltCause& cause) {
    return !cause.sink.empty() &&
           std::ranges::find(policy_.sinks, cause.sink, &SinkPolicy::name) == policy_.sinks.end();
  });
  if (!e.damage.empty() && !has_cause(CauseKind::journal_damaged)) {
    raise(CauseKind::journal_damaged, {}, e.damage);
  }
  compare_start(want_.open ? e.journal_end : std::max(want_.closed_end, want_.checkpoint.at),
                e.high_water);
  if (has_cause(CauseKind::journal_damaged)) {
    // Epochs may have been given out that are not on record any more, after a loss before this one
    // too: keep away from their numbers.
    was_clean_ = false;
    epoch_margin_ = kMaxEpochs + policy_.seed % kEpochSpread;
  }
  told_halt_ = !latched_.empty();
  told_causes_ = latched_;
  for (auto& sink : sinks_) {
    SinkState& state = state_of(*sink);
    if (want_.open && state.unresolved) {
      state.cursor = goes_on_after(want_, state, e.watermark, head_);
    }
    event::Started::Backlog backlog;
    if (value_of(sink->id) < e.backlogs.size()) backlog = e.backlogs[value_of(sink->id)];
    sink->seen = {passed(state), backlog.running_bytes, backlog.oldest_received};
    sink->floor = state.cursor;
    sink->drop_durable = state.dropping;
    sink->progress_at = now_.steady;
    sink->progress_acked = state.cursor;
    if (state.outage_since != 0) {
      // Time in which the broker was down counts; a pause does not, and a clock that stepped back
      // counts zero.
      const WallMs until = state.paused ? state.paused_since : now_.wall;
      const Millis elapsed(std::max<WallMs>(0, until - state.outage_since));
      sink->outage_began = now_.steady - elapsed;
    }
    if (state.paused) sink->paused_at = now_.steady;
    deliver(*sink, delivery::Started{state.cursor, backlog.running_bytes, state.paused,
                                     !state.parked.empty(), backlog.oldest_received});
    for (const SkipRange& range : state.skips) deliver(*sink, delivery::Skipped{range});
    if (want_.open && state.unresolved) {
      // New: where it begins is durable before it is sent anything, and what it reports wins.
      state.unresolved = false;
      sink->fresh = true;
      sink->floor = 0;
      deliver(*sink, delivery::Held{false});
      sink->restart_at = state.cursor;
      sink->restart_change = change();
    }
    sink->not_taken = state.skips;
    if (want_.open && state.cursor > head_) {
      sink->not_taken.push_back({head_ + 1, state.cursor, LossReason::crash});
    }
  }
  if (want_.open) become_known();
  for (auto& sink : sinks_) {
    // A limit lowered below the backlog drops nothing before an operator agrees.
    const Backlog waiting = backlog(*sink);
    const bool over = (sink->policy.max_bytes != 0 && waiting.bytes > max_bytes(*sink)) ||
                      waiting.records > sink->policy.max_records;
    sink->drop_held = over && sink->policy.on_limit == OnLimit::drop_oldest && !policy_.accept_drop;
  }
}

void StreamMachine::on(const event::Ticked&) {
  for (auto& sink : sinks_) deliver(*sink, delivery::Ticked{});
}

void StreamMachine::on(const event::StopAsked& e) {
  if (stopping_) return;
  stopping_ = true;
  for (auto& sink : sinks_) deliver(*sink, delivery::Stopped{});
  if (hello_) reject(hello_->hello.session, RejectCode::shutting_down, true, "the broker stops");
  hello_.reset();
  if (e.writable) return;
  stop_done_ = true;
  out_->push_back(action::StopDone{});
}

void StreamMachine::on(const event::DiskHasRoom&) {
  disk_refused_.reset();
  clear(CauseKind::disk_bound, {});
  clear(CauseKind::min_free_disk, {});
}

// --- custody ----------------------------------------------------------------------------------

void StreamMachine::settle() {
  if (stop_done_) return;
  if (hello_ && hello_->cut_at && now_.steady >= *hello_->cut_at) {
    if (session_) out_->push_back(action::Cut{*session_});
    session_.reset();
    hello_->cut_at.reset();
    prepare_hello();
  }
  for (auto& sink : sinks_) {
    if (sink->report_waits) resolve_report(*sink);
    std::erase_if(sink->not_taken, [this](const SkipRange& range) { return range.last <= safe_; });
  }
  extend_sinks();
  settle_limits();
  settle_coverage();
  acknowledge();
  if (may_welcome()) welcome();
  if (known_ && want_.acks != policy_.acks && safe_ >= acks_after_) {
    want_.acks = policy_.acks;  // nothing that a producer saw acknowledged rests on the weaker one
    change();
  }
  flush();
  evict();
  trim();
  settle_latch();
}

Offset StreamMachine::quorum_through() const {
  std::vector<Offset> acked;
  for (const auto& sink : sinks_) {
    if (!sink->policy.counts_for_quorum) continue;
    Offset took = std::min(sink->delivery.acked(), head_);
    for (const SkipRange& range : sink->not_taken) {  // drops do not count
      if (range.last > safe_) took = std::min(took, range.first - 1);
    }
    acked.push_back(took);
  }
  if (acked.size() < policy_.quorum) return 0;
  std::ranges::sort(acked, std::greater{});
  return acked[policy_.quorum - 1];
}

// How far the policy calls records safe, whatever was said before.
Offset StreamMachine::safe_target() const {
  switch (cov_) {
    case Coverage::unknown:
    case Coverage::opening: return safe_;
    case Coverage::open: return std::min(durable_end_, head_);
    case Coverage::closing:
    case Coverage::sealing: return closing_end_;
    case Coverage::closed: break;
  }
  switch (policy_.acks) {
    case Acks::all: return std::min(min_effective(), sendable());
    case Acks::quorum: return std::min(std::max(quorum_through(), min_effective()), sendable());
    case Acks::none: return sendable();
  }
  return safe_;
}

void StreamMachine::reach_safe(Offset through) {
  if (through <= safe_) return;
  safe_ = through;
  safe_running_ = running_at_safe();
}

void StreamMachine::acknowledge() {
  if (!known_ || restoring()) return;
  if (!blocked_) {
    Offset target = safe_target();
    if (policy_.checkpoint_interval == Millis(0)) {
      // Mark and position are durable before each acknowledgement.
      if (target > durable_.checkpoint.at && changes_ == durable_changes_ &&
          (cov_ == Coverage::closed)) {
        change();
      }
      target = std::min(target, std::max(durable_.checkpoint.at, safe_));
    }
    reach_safe(target);
  }
  const Offset taken = min_effective();
  if (session_ && (safe_ > told_safe_ || taken > told_taken_)) {
    out_->push_back(
        action::Acknowledge{table_.position_of(safe_), table_.position_of(std::min(taken, safe_))});
    told_safe_ = safe_;
    told_taken_ = taken;
  }
}

Offset StreamMachine::oldest_available() const {
  if (durable_.open) return std::min(watermark_of(durable_) + 1, window_.first());
  return window_.first();
}

Offset StreamMachine::rewindable() const {
  const bool in_journal = durable_.open && (cov_ == Coverage::open || cov_ == Coverage::closing);
  // The journal never goes back before it.
  const Offset watermark = std::max(watermark_written_, std::min(watermark_of(durable_), head_));
  if (!in_journal) {
    // What the opening batch leaves out would be nowhere after a crash.
    const Offset first = cov_ == Coverage::opening ? open_first_ : 0;
    return std::max({window_.first(), want_.closed_end + 1, watermark + 1, first});
  }
  return std::max({watermark + 1, durable_.first, hole_last_ + 1});
}

std::optional<Instant> StreamMachine::deadline() const {
  std::optional<Instant> first;
  const auto consider = [&](std::optional<Instant> at) {
    if (at && (!first || *at < *first)) first = at;
  };
  if (stop_done_ || !started_) return first;
  for (const auto& sink : sinks_) {
    consider(sink->delivery.deadline());
    if (sink->locate_at > now_.steady) consider(sink->locate_at);
    if (sink->outage_began && sink->policy.outage_timeout) {
      const Instant trips = *sink->outage_began + *sink->policy.outage_timeout + sink->extra_time;
      if (trips > now_.steady) consider(trips);
      if (started_at_ + kNoOutageBefore > now_.steady) consider(started_at_ + kNoOutageBefore);
    }
    if (sink->policy.max_age) {
      if (const Backlog waiting = backlog(*sink); waiting.oldest_received != 0) {
        const Millis left = *sink->policy.max_age + sink->extra_time - age_of(waiting);
        if (left >= Millis(0)) consider(now_.steady + left + Millis(1));
      }
    }
  }
  consider(spill_at());
  // After it, the end of the write under way is what is waited for.
  if (quiet_since_ && writing_.empty()) consider(*quiet_since_ + kQuietBeforeClosing);
  const bool may_write = known_ && !journal_down_ && writing_.empty();
  if (may_write && cov_ != Coverage::opening && policy_.checkpoint_interval > Millis(0) &&
      progress() != progress_written_) {
    consider(std::max(checkpoint_due(), now_.steady + Millis(1)));
  }
  const bool appends = cov_ == Coverage::opening || cov_ == Coverage::open;
  if (may_write && appends && disk_refused_ && appended_ < head_) {
    consider(std::max(disk_retry_at_, now_.steady + Millis(1)));
  }
  if (hello_ && hello_->cut_at) consider(hello_->cut_at);
  if (latch_wanted_) {
    consider(std::max(*latch_wanted_ + kLatchPatience, now_.steady + kLatchPatience / 4));
    if (!latch_id_) consider(std::max(latch_retry_at_, now_.steady + Millis(1)));
  }
  if (journal_down_ && !has_cause(CauseKind::journal_failing)) {
    consider(*failing_since_ + policy_.journal_timeout);
  }
  return first;
}

void StreamMachine::check() const {
  INVARIANT(table_.empty() || table_.current_base() <= head_ || !known_);
  INVARIANT(safe_ <= head_ || !known_);
  INVARIANT(clean_head_ <= head_);
  if (cov_ == Coverage::open || cov_ == Coverage::opening) INVARIANT(durable_end_ <= head_);
  if (known_) INVARIANT(window_.empty() || window_.blocks().back().last == head_);
}

}  // namespace spillway::recovery
