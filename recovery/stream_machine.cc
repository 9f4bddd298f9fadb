// Life of the machine, its writes and custody (G1, D1, D7).
#include "recovery/stream_machine.h"

#include <algorithm>
#include <utility>

#include "base/invariant.h"

namespace spillway::recovery {

StreamMachine::StreamMachine(StreamPolicy policy) : policy_(std::move(policy)) {
  INVARIANT(!policy_.sinks.empty());
  for (std::size_t i = 0; i < policy_.sinks.size(); ++i) {
    sinks_.push_back(std::make_unique<Sink>(SinkId{static_cast<std::uint32_t>(i)},
                                            policy_.sinks[i], window_, policy_.seed * 31 + i));
  }
}

void StreamMachine::step(Now now, const Event& event, std::vector<Action>& out) {
  INVARIANT(out_ == nullptr);  // no re-entry
  INVARIANT(now.steady >= now_.steady);
  INVARIANT(started_ || std::holds_alternative<event::Started>(event));
  now_ = now;
  out_ = &out;
  if (!stop_done_) {
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
  want_.clean_stop = false;
  for (const Epoch& epoch : want_.epochs) {
    want_.epoch_newest = std::max(want_.epoch_newest, epoch.number);
  }
  trimmed_ = watermark_of(durable_);
  safe_ = std::max(want_.checkpoint, want_.closed_end);
  running_bytes_ = e.end_running_bytes;
  if (want_.open) {
    // Open: all that was acknowledged is in the journal (D3).
    head_ = clean_head_ = appended_ = durable_end_ = e.journal_end;
    safe_ = head_;
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
  if (!e.damage.empty() && !has_cause(CauseKind::journal_damaged)) {
    raise(CauseKind::journal_damaged, {}, e.damage);
  }
  told_halt_ = !latched_.empty();
  told_causes_ = latched_;
  for (auto& sink : sinks_) {
    SinkState& state = state_of(*sink);
    event::Started::Backlog backlog;
    if (value_of(sink->id) < e.backlogs.size()) backlog = e.backlogs[value_of(sink->id)];
    sink->floor = state.cursor;
    sink->drop_durable = state.dropping;
    sink->progress_at = now_.steady;
    sink->progress_acked = state.cursor;
    if (state.outage_since != 0) {
      // Time in which the broker was down counts; a clock that stepped back counts zero.
      const Millis elapsed(std::max<WallMs>(0, now_.wall - state.outage_since));
      sink->outage_began = now_.steady - elapsed;
    }
    if (state.paused) sink->paused_at = now_.steady;
    deliver(*sink, delivery::Started{state.cursor, backlog.running_bytes, state.paused,
                                     !state.parked.empty(), backlog.oldest_received});
    for (const SkipRange& range : state.skips) deliver(*sink, delivery::Skipped{range});
    sink->not_taken = state.skips;
  }
  if (want_.open) become_known();
  for (auto& sink : sinks_) {
    // A limit lowered below the backlog drops nothing before an operator agrees.
    const Backlog waiting = backlog(*sink);
    const bool over = (sink->policy.max_bytes != 0 && waiting.bytes > max_bytes(*sink)) ||
                      waiting.records > sink->policy.max_records;
    sink->drop_held =
        over && sink->policy.on_limit == OnLimit::drop_oldest && !policy_.accept_drop;
  }
}

void StreamMachine::on(const event::Ticked&) {
  for (auto& sink : sinks_) deliver(*sink, delivery::Ticked{});
}

void StreamMachine::on(const event::StopAsked&) {
  if (stopping_) return;
  stopping_ = true;
  for (auto& sink : sinks_) deliver(*sink, delivery::Stopped{});
  if (hello_) reject(hello_->hello.session, RejectCode::shutting_down, true, "the broker stops");
  hello_.reset();
}

void StreamMachine::on(const event::DiskHasRoom&) {
  disk_refused_.reset();
  clear(CauseKind::disk_bound, {});
  clear(CauseKind::min_free_disk, {});
}

// --- writes -----------------------------------------------------------------------------------

void StreamMachine::on(const event::Written& e) {
  if (!writing_ || writing_->id != e.id) return;
  Writing writing = std::move(*writing_);
  writing_.reset();
  switch (e.outcome) {
    case WriteOutcome::ok: return finish_write(std::move(writing));
    case WriteOutcome::failed:
      journal_down_ = true;
      down_since_ = now_.steady;
      failed_ = std::move(writing);
      return;
    case WriteOutcome::disk_bound:
    case WriteOutcome::min_free:
      disk_refused_ = e.outcome;
      disk_retry_at_ = now_.steady + kDiskRetry;
      put_back(std::move(writing));
      return;
  }
}

void StreamMachine::finish_write(Writing writing) {
  durable_ = *writing.state;
  durable_changes_ = writing.changes;
  if (writing.append_last != 0) {
    durable_end_ = writing.append_last;
    disk_refused_.reset();
  }
  for (Loss& loss : writing.losses) out_->push_back(action::Lost{std::move(loss)});
  if (cov_ == Coverage::opening && durable_.open) enter(Coverage::open);
  if (cov_ == Coverage::sealing && !durable_.open) enter(Coverage::closed);
  if (writing.final) {
    stop_done_ = true;
    out_->push_back(action::StopDone{});
    return;
  }
  apply_durable();
}

// Nothing of it is in the store: what it carried goes with the next one.
void StreamMachine::put_back(Writing&& writing) {
  if (writing.append_last != 0) appended_ = writing.append_first - 1;
  losses_.insert(losses_.begin(), std::make_move_iterator(writing.losses.begin()),
                 std::make_move_iterator(writing.losses.end()));
  dead_letters_.insert(dead_letters_.begin(),
                       std::make_move_iterator(writing.dead_letters.begin()),
                       std::make_move_iterator(writing.dead_letters.end()));
}

void StreamMachine::on(const event::JournalDown&) {
  if (journal_down_) return;
  journal_down_ = true;
  down_since_ = now_.steady;
}

void StreamMachine::on(const event::JournalReopened& e) {
  if (writing_) {  // it never reached the store's queue
    failed_ = std::move(writing_);
    writing_.reset();
  }
  journal_down_ = false;
  clear(CauseKind::journal_failing, {});
  if (!e.damage.empty()) raise(CauseKind::journal_damaged, {}, e.damage);
  const std::uint64_t stored = e.state ? e.state->revision : 0;
  const bool landed = failed_ && e.state && stored == failed_->state->revision;
  if (failed_ && !landed) put_back(std::move(*failed_));
  if (!landed && stored < durable_.revision && e.damage.empty()) {
    raise(CauseKind::journal_damaged, {},
          "the journal came back older than what it had confirmed; see journal check");
  }
  if (landed) {
    Writing writing = std::move(*failed_);
    failed_.reset();
    if (writing.append_last != 0) writing.append_last = std::min(writing.append_last, e.end);
    finish_write(std::move(writing));
    if (stop_done_) return;
  }
  failed_.reset();
  if (cov_ == Coverage::sealing && durable_.open) enter(Coverage::closing);
  if (e.state && stored < durable_.revision) durable_ = *e.state;
  const bool covers = cov_ == Coverage::open || cov_ == Coverage::closing;
  if (!durable_.open && !covers) return;
  // The journal's end is what it contains; nothing at or before it is appended again (D7).
  const Offset end = durable_.open ? std::min(e.end, head_) : min_effective();
  const Offset lost_from = end + 1;
  durable_end_ = appended_ = end;
  if (window_.first() > lost_from) {
    const Offset lost_to = window_.first() - 1;
    for (auto& sink : sinks_) {
      const Offset from = std::max(lost_from, effective(*sink) + 1);
      if (from > lost_to) continue;
      deliver(*sink, delivery::Held{false});
      add_skip(*sink, {from, lost_to, LossReason::journal_loss});
      record_loss(make_loss(sink->policy.name, from, lost_to, LossReason::journal_loss, false));
    }
    raise(CauseKind::journal_damaged, {}, "acknowledged records are no longer in the journal");
    durable_end_ = appended_ = lost_to;
  }
  if (cov_ == Coverage::closing && durable_end_ < closing_end_) enter(Coverage::open);
}

// Decides whether there is something to write, and that only one write is under way.
void StreamMachine::flush() {
  if (writing_ || journal_down_ || stop_done_) return;
  if (cov_ == Coverage::unknown && changes_ == durable_changes_) {
    if (stopping_) {  // nothing was taken: what is stored stays true
      stop_done_ = true;
      out_->push_back(action::StopDone{});
    }
    return;
  }
  const bool may_append = !disk_refused_ || now_.steady >= disk_retry_at_;
  if ((cov_ == Coverage::opening || cov_ == Coverage::open) && may_append && appended_ < head_) {
    return start_write(appended_ + 1, append_through(), false);
  }
  if (stopping_ && known_) {
    const bool all_safe = cov_ == Coverage::closed ? min_effective() >= head_
                                                   : cov_ == Coverage::open && durable_end_ == head_;
    if (all_safe) return start_write(0, 0, true);
  }
  if (known_ && !epochs_durable() && settled() >= epoch_base_waiting()) {
    return start_write(0, 0, false);
  }
  if (cov_ == Coverage::sealing || (changes_ > durable_changes_ && cov_ != Coverage::opening) ||
      (changes_ > durable_changes_ && disk_refused_)) {
    return start_write(0, 0, false);
  }
  if (cov_ == Coverage::opening || !known_) return;
  if (now_.steady - wrote_at_ < policy_.checkpoint_interval) return;
  if (progress() != progress_written_) start_write(0, 0, false);
}

// How far the next commit appends: bounded, so that a journal that is nearly full takes what fits.
// The one that opens it has to hold all that was acknowledged (D2).
Offset StreamMachine::append_through() const {
  const auto& blocks = window_.blocks();
  std::uint64_t bytes = 0;
  Offset last = appended_;
  for (auto block = std::ranges::lower_bound(blocks, appended_ + 1, {}, &BlockInfo::last);
       block != blocks.end() && bytes < kAppendBytes; ++block) {
    bytes += block->bytes;
    last = block->last;
  }
  return std::min(head_, std::max(last, safe_));
}

// Through here nothing would be missing if the process died now.
Offset StreamMachine::settled() const {
  const bool journal = cov_ == Coverage::open || cov_ == Coverage::closing;
  return journal && durable_.open ? durable_end_ : min_effective();
}

bool StreamMachine::epochs_durable() const {
  return table_.empty() ||
         (!durable_.epochs.empty() && durable_.epochs.back().number == table_.current());
}

// Where the first epoch begins that is not durable yet.
Offset StreamMachine::epoch_base_waiting() const {
  const std::uint64_t durable = durable_.epochs.empty() ? 0 : durable_.epochs.back().number;
  const auto next = std::ranges::find_if(
      want_.epochs, [&](const Epoch& epoch) { return epoch.number > durable; });
  return next == want_.epochs.end() ? head_ : next->base;
}

// The last record that a sink may get: an epoch, and a range that the whole stream lacks, are durable
// before a sink hears of them.
Offset StreamMachine::sendable() const {
  const Offset said = unsaid_.empty() ? head_ : unsaid_.front().first - 1;
  return epochs_durable() ? said : std::min(said, epoch_base_waiting());
}

// Changes whenever a checkpoint would have something new to say: a sum of what only grows.
Offset StreamMachine::progress() const {
  Offset sum = std::max(safe_, safe_target());
  for (const auto& sink : sinks_) sum += std::min(sink->delivery.acked(), head_);
  return sum;
}

void StreamMachine::start_write(Offset append_first, Offset append_last, bool final) {
  auto state = std::make_shared<DurableState>(want_);
  fill_snapshot(*state, append_last);
  if (known_) {
    // An epoch that begins after what a crash would leave is not there after the crash either (D6).
    const Offset through = append_last != 0 ? append_last : settled();
    const std::uint64_t durable = durable_.epochs.empty() ? 0 : durable_.epochs.back().number;
    std::erase_if(state->epochs, [&](const Epoch& epoch) {
      return epoch.number > durable && epoch.base > through;
    });
  }
  state->revision = ++revision_;
  state->clean_stop = final && was_clean_;
  Writing writing;
  writing.id = next_id_++;
  writing.changes = changes_;
  writing.append_first = append_first;
  writing.append_last = append_last;
  writing.state = state;
  writing.losses = std::exchange(losses_, {});
  writing.dead_letters = std::exchange(dead_letters_, {});
  writing.final = final;
  if (append_last != 0) appended_ = append_last;
  wrote_at_ = now_.steady;
  progress_written_ = progress();
  action::Write write;
  write.id = writing.id;
  write.append_first = append_first;
  write.append_last = append_last;
  write.state = state;
  write.watermark = std::min(watermark_of(*state), head_);  // a cursor may be ahead of the head
  // What every sink has already is appended all the same: coverage has no holes.
  if (append_last != 0) {
    write.watermark = std::min(write.watermark, append_first - 1);
  } else if (cov_ == Coverage::opening) {
    write.watermark = std::min(write.watermark, appended_);
  } else if (state->open) {
    write.watermark = std::min(write.watermark, durable_end_);
  }
  watermark_written_ = std::max(watermark_written_, write.watermark);
  write.losses = writing.losses;
  write.dead_letters = writing.dead_letters;
  write.use_group_reserve = append_last > clean_head_ || group_open_;
  writing_ = std::move(writing);
  out_->push_back(std::move(write));
}

// What the store would hold if `want_` were written now, with an append through `append_last`.
void StreamMachine::fill_snapshot(DurableState& state, Offset append_last) const {
  if (!known_) return;  // what is stored, and what the first Hello resolves
  state.open = cov_ == Coverage::opening ? append_last != 0
                                         : cov_ == Coverage::open || cov_ == Coverage::closing;
  if (state.open) state.first = open_first_;
  if (cov_ == Coverage::sealing) state.closed_end = closing_end_;
  if (cov_ == Coverage::opening && append_last == 0) state.open = durable_.open;
  Offset checkpoint = std::max(safe_, safe_target());
  if (state.open && append_last != 0) checkpoint = std::max(checkpoint, append_last);
  state.checkpoint = std::max(state.checkpoint, checkpoint);
  for (const auto& [offset, mark] : marks_) {
    if (offset > state.checkpoint) break;
    state.mark_offset = offset;
    state.mark = mark;
  }
  for (const auto& sink : sinks_) {
    SinkState& stored = state.sinks[value_of(sink->id)];
    if (sink->restart_change) continue;  // the cursor is being moved by hand
    stored.cursor = std::max(stored.cursor, std::min(sink->delivery.acked(), head_));
    std::erase_if(stored.skips, [&](const SkipRange& r) { return r.last <= stored.cursor; });
  }
}

// Everything that waited for a change to be durable.
void StreamMachine::apply_durable() {
  if (known_) want_.checkpoint = std::max(want_.checkpoint, durable_.checkpoint);
  want_.mark_offset = durable_.mark_offset;
  want_.mark = durable_.mark;
  want_.closed_end = durable_.closed_end;
  while (!unsaid_.empty() && durable_at(unsaid_.front().second)) unsaid_.pop_front();
  while (!marks_.empty() && marks_.front().first <= want_.mark_offset) marks_.pop_front();
  for (auto& sink : sinks_) {
    if (sink->restart_change && !durable_at(*sink->restart_change)) continue;
    // Only what is done with: an epoch that opened since may have taken the cursor back.
    const Offset done =
        std::min(sink->delivery.acked(), durable_.sinks[value_of(sink->id)].cursor);
    std::erase_if(state_of(*sink).skips, [&](const SkipRange& r) { return r.last <= done; });
  }
  for (auto& sink : sinks_) settle_sink(*sink);
  if (known_change_ && durable_at(*known_change_)) become_known();
  if (hello_ && !hello_->prepared && !session_) prepare_hello();
  if (hello_ && hello_->prepared && durable_at(hello_->change) && epochs_durable()) welcome();
}

// How far a sink has come, or is to skip.
Offset StreamMachine::passed(const SinkState& sink) {
  Offset through = sink.cursor;
  for (const SkipRange& skip : sink.skips) {
    if (skip.first <= through + 1) through = std::max(through, skip.last);
  }
  return through;
}

Offset StreamMachine::watermark_of(const DurableState& state) const {
  Offset watermark = state.sinks.empty() ? 0 : ~Offset{0};
  for (std::size_t i = 0; i < state.sinks.size(); ++i) {
    const SinkState& sink = state.sinks[i];
    Offset through = passed(sink);
    if (sink.dropping && through + 1 >= sink.drop_first && (state.open || state.acks == Acks::all)) {
      // An open-ended drop needs nothing that the journal holds.
      through = std::max(through, std::min(clean_head_, durable_end_));
    }
    watermark = std::min(watermark, through);
  }
  // Where the head will be after a crash, at the least.
  if (!state.open) watermark = std::min(watermark, std::max(state.closed_end, state.checkpoint));
  // What lies before the opening of coverage was never in the journal (D2).
  return state.open ? std::max(watermark, state.first - 1) : watermark;
}

void StreamMachine::trim() {
  const Offset watermark = watermark_of(durable_);
  if (watermark <= trimmed_ || journal_down_) return;
  trimmed_ = watermark;
  table_.forget_before(watermark);
  out_->push_back(action::Trim{});
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
    case Acks::all: return min_effective();
    case Acks::quorum: return std::max(quorum_through(), min_effective());
    case Acks::none: return sendable();
  }
  return safe_;
}

void StreamMachine::acknowledge() {
  if (!known_) return;
  if (!blocked_) {
    Offset target = safe_target();
    if (policy_.checkpoint_interval == Millis(0)) {
      // Mark and position are durable before each acknowledgement.
      if (target > durable_.checkpoint && changes_ == durable_changes_ &&
          (cov_ == Coverage::closed)) {
        change();
      }
      target = std::min(target, std::max(durable_.checkpoint, safe_));
    }
    safe_ = std::max(safe_, target);
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
  const bool in_journal =
      durable_.open && (cov_ == Coverage::open || cov_ == Coverage::closing);
  // The journal never goes back before it.
  const Offset watermark = std::max(watermark_written_, std::min(watermark_of(durable_), head_));
  if (!in_journal) return std::max({window_.first(), want_.closed_end + 1, watermark + 1});
  return std::max(watermark + 1, std::min(durable_.first, window_.first()));
}

std::optional<Instant> StreamMachine::deadline() const {
  std::optional<Instant> first;
  const auto consider = [&](std::optional<Instant> at) {
    if (at && (!first || *at < *first)) first = at;
  };
  if (stop_done_ || !started_) return first;
  for (const auto& sink : sinks_) {
    consider(sink->delivery.deadline());
    if (sink->outage_began && sink->policy.outage_timeout) {
      const Instant trips = *sink->outage_began + *sink->policy.outage_timeout + sink->extra_time;
      if (trips > now_.steady) consider(trips);
      if (started_at_ + kNoOutageBefore > now_.steady) consider(started_at_ + kNoOutageBefore);
    }
    if (sink->policy.max_age) {
      if (const WallMs oldest = backlog(*sink).oldest_received; oldest != 0) {
        const Millis left = *sink->policy.max_age + sink->extra_time - Millis(now_.wall - oldest);
        if (left >= Millis(0)) consider(now_.steady + left + Millis(1));
      }
    }
  }
  consider(spill_at());
  // After it, the end of the write under way is what is waited for.
  if (quiet_since_ && !writing_) consider(*quiet_since_ + kQuietBeforeClosing);
  if (known_ && !journal_down_ && !writing_ && policy_.checkpoint_interval > Millis(0) &&
      progress() != progress_written_) {
    consider(std::max(wrote_at_ + policy_.checkpoint_interval, now_.steady + Millis(1)));
  }
  if (disk_refused_ && !journal_down_) consider(std::max(disk_retry_at_, now_.steady + Millis(1)));
  if (hello_ && hello_->cut_at) consider(hello_->cut_at);
  if (latch_wanted_) {
    consider(std::max(*latch_wanted_ + kLatchPatience, now_.steady + kLatchPatience / 4));
    if (!latch_id_) consider(std::max(latch_retry_at_, now_.steady + Millis(1)));
  }
  if (journal_down_ && !has_cause(CauseKind::journal_failing)) {
    consider(down_since_ + policy_.journal_timeout);
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
