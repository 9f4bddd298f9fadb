// What is written and when, what a write carries, and what follows when it is durable or failed
// (D1, D7).
#include <algorithm>
#include <iterator>
#include <utility>

#include "base/invariant.h"
#include "recovery/stream_machine.h"

namespace spillway::recovery {

void StreamMachine::on(const event::Written& e) {
  if (writing_.empty() || writing_.front().id != e.id) return;
  switch (e.outcome) {
    case WriteOutcome::ok: {
      Writing writing = std::move(writing_.front());
      writing_.pop_front();
      failing_since_.reset();
      clear(CauseKind::journal_failing, {});
      finish_write(std::move(writing));
      return apply_durable();
    }
    // What one did not do, those behind it do not do either.
    case WriteOutcome::failed:
      journal_down_ = true;
      if (!failing_since_) failing_since_ = now_.steady;
      failed_ = std::exchange(writing_, {});
      return;
    case WriteOutcome::disk_bound:
    case WriteOutcome::min_free:
      disk_refused_ = e.outcome;
      disk_retry_at_ = now_.steady + kDiskRetry;
      disk_dropped_ = false;
      put_back(std::exchange(writing_, {}));
      take_back_dead_letters();
      return;
  }
}

void StreamMachine::finish_write(Writing writing) {
  durable_ = *writing.state;
  durable_changes_ = writing.changes;
  if (writing.append_last != 0) {
    durable_end_ = writing.append_last;
    if (!writing.from_reserve) disk_refused_.reset();
  }
  for (Loss& loss : writing.losses) out_->push_back(action::Lost{std::move(loss)});
  if (writing.filled) hole_first_ = hole_last_ = 0;
  if (cov_ == Coverage::opening && durable_.open) enter(Coverage::open);
  if (cov_ == Coverage::sealing && !durable_.open) enter(Coverage::closed);
  if (writing.final) {
    stop_done_ = true;
    out_->push_back(action::StopDone{});
  }
}

// Nothing of them is in the store: what they carried goes with the next one.
void StreamMachine::put_back(std::deque<Writing> writings) {
  for (; !writings.empty(); writings.pop_back()) {
    Writing& writing = writings.back();
    if (writing.append_last != 0) appended_ = writing.append_first - 1;
    losses_.insert(losses_.begin(), std::make_move_iterator(writing.losses.begin()),
                   std::make_move_iterator(writing.losses.end()));
    dead_letters_.insert(dead_letters_.begin(),
                         std::make_move_iterator(writing.dead_letters.begin()),
                         std::make_move_iterator(writing.dead_letters.end()));
  }
}

// A disk that is full does not take them, and what frees it must not wait for them: their sinks are
// offered the records again.
void StreamMachine::take_back_dead_letters() {
  for (const DeadLetterNote& note : std::exchange(dead_letters_, {})) {
    Sink& sink = sink_of(note.sink);
    SinkState& state = state_of(sink);
    const auto same = [&](const SkipRange& range) {
      return range.first == note.first && range.last == note.last &&
             range.reason == LossReason::rejected;
    };
    remove_skip(state.skips, note.first, note.last);
    std::erase_if(sink.waiting_skips, [&](const WaitingSkip& skip) { return same(skip.range); });
    std::erase_if(sink.not_taken, same);
    // What the journal lost since is skipped all the same.
    for (const WaitingSkip& left : sink.waiting_skips) recovery::add_skip(state.skips, left.range);
    std::erase_if(losses_, [&](const Loss& loss) { return loss.id == note.entry; });
    state.dead_letter_bytes -= note.bytes;
    out_->push_back(action::Note{sink.id,
                                 "the disk has no room for the dead letter of record " +
                                     to_string(table_.position_of(note.first)) +
                                     ": it is offered to the sink again",
                                 true});
    if (sink.waiting_skips.empty()) deliver(sink, delivery::Released{});
  }
}

// Whether an append may be sent while others are under way: so that the journal always has the next
// group at hand, and no disk waits for a message. What needs to know how the last write ended waits
// for it: coverage that closes, a hole to fill, a commit that may be refused by itself.
bool StreamMachine::may_follow() const {
  if (cov_ != Coverage::open || !durable_.open || hole_first_ != 0) return false;
  if (quiet_since_ || disk_refused_) return false;
  return writing_.back().append_last != 0 && writing_.size() < kAppendsUnderWay;
}

// Decides whether there is something to write; two writes are under way only where both append.
void StreamMachine::flush() {
  if (journal_down_ || stop_done_) return;
  if (!writing_.empty()) {
    if (appended_ < head_ && may_follow()) start_write(appended_ + 1, append_through(), false);
    return;
  }
  if (cov_ == Coverage::unknown && changes_ == durable_changes_) {
    if (stopping_) {  // nothing was taken: what is stored stays true
      stop_done_ = true;
      out_->push_back(action::StopDone{});
    }
    return;
  }
  const bool may_append = !disk_refused_ || rest_of_group() || now_.steady >= disk_retry_at_;
  if ((cov_ == Coverage::opening || cov_ == Coverage::open) && may_append && appended_ < head_) {
    return start_write(appended_ + 1, append_through(), false);
  }
  if (stopping_ && known_) {
    const bool all_safe = cov_ == Coverage::closed
                              ? min_effective() >= head_
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
  if (now_.steady < checkpoint_due()) return;
  if (progress() != progress_written_) start_write(0, 0, false);
}

// At a whole multiple of the interval, which is the same moment for all streams: their checkpoints
// are one group then, and one sync.
Instant StreamMachine::checkpoint_due() const {
  const Millis interval = policy_.checkpoint_interval;
  if (interval == Millis(0)) return wrote_at_;
  const Instant latest = wrote_at_ + interval;
  return latest - latest.time_since_epoch() % interval;
}

// Whether the next commit is the rest of a group of which the journal may hold the beginning, and
// no more than that: what is written from the reserve while the disk is refused (G12).
bool StreamMachine::rest_of_group() const {
  if (!disk_refused_) return false;
  const BlockInfo* const next = window_.find(appended_ + 1);
  return next != nullptr && next->first == appended_ + 1 && !next->starts_clean;
}

// How far the next commit appends: bounded, so that a journal that is nearly full takes what fits.
// The one that opens it has to hold all that was acknowledged (D2).
Offset StreamMachine::append_through() const {
  const bool rest_only = rest_of_group();
  const auto& blocks = window_.blocks();
  std::uint64_t bytes = 0;
  Offset last = appended_;
  bool enough = false;
  for (auto block = std::ranges::lower_bound(blocks, appended_ + 1, {}, &BlockInfo::last);
       block != blocks.end() && (!enough || last < safe_); ++block) {
    bytes += block->bytes;
    last = block->last;
    enough = bytes >= kAppendBytes || (rest_only && block->ends_clean);
  }
  return last;
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

// The last record that a sink may get: an epoch, and a range that the whole stream lacks, are
// durable before a sink hears of them.
Offset StreamMachine::sendable() const {
  const Offset said = unsaid_.empty() ? head_ : unsaid_.front().first - 1;
  return std::max(released_, epochs_durable() ? said : std::min(said, epoch_base_waiting()));
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
  writing.from_reserve = append_last != 0 && rest_of_group();
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
    // One that follows must not stand without those before it: a watermark would let it.
    write.watermark = std::min(write.watermark, writing_.empty() ? append_first - 1 : durable_end_);
  } else if (cov_ == Coverage::opening) {
    write.watermark = std::min(write.watermark, appended_);
  } else if (state->open) {
    write.watermark = std::min(write.watermark, durable_end_);
  }
  watermark_written_ = std::max(watermark_written_, write.watermark);
  if (!disk_refused_ || append_last != 0) {
    if (state->open) write.fills = fill_hole(write.watermark);
    writing.filled = true;
  }
  write.use_group_reserve = writing.from_reserve;
  write.losses = writing.losses;
  write.dead_letters = writing.dead_letters;
  writing_.push_back(std::move(writing));
  out_->push_back(std::move(write));
}

// Whether no group is unfinished at an offset, as far as is known.
bool StreamMachine::is_clean(Offset offset) const {
  if (offset == torn_) return false;
  if (offset == clean_head_) return true;
  const BlockInfo* const block = window_.find(offset);
  return block != nullptr && block->last == offset && block->ends_clean;
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
  if (checkpoint > state.checkpoint.at) state.checkpoint = {checkpoint, false};
  if (checkpoint == state.checkpoint.at && is_clean(checkpoint)) state.checkpoint.clean = true;
  for (const auto& [offset, mark] : marks_) {
    if (offset > state.checkpoint.at) break;
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
  if (stop_done_) return;
  if (known_ && durable_.checkpoint.at >= want_.checkpoint.at) {
    want_.checkpoint = durable_.checkpoint;
  }
  if (!mark_cut_ || durable_at(*mark_cut_)) {
    want_.mark_offset = durable_.mark_offset;
    want_.mark = durable_.mark;
  }
  want_.closed_end = durable_.closed_end;
  while (!unsaid_.empty() && durable_at(unsaid_.front().second)) unsaid_.pop_front();
  while (!marks_.empty() && marks_.front().first <= want_.mark_offset) marks_.pop_front();
  for (auto& sink : sinks_) {
    if (sink->restart_change && !durable_at(*sink->restart_change)) continue;
    // Only what is done with: an epoch that opened since may have taken the cursor back.
    const Offset done = std::min(sink->delivery.acked(), durable_.sinks[value_of(sink->id)].cursor);
    std::erase_if(state_of(*sink).skips, [&](const SkipRange& r) { return r.last <= done; });
  }
  for (auto& sink : sinks_) settle_sink(*sink);
  if (known_change_ && durable_at(*known_change_)) become_known();
  if (hello_ && !hello_->prepared && !session_) prepare_hello();
  if (may_welcome()) welcome();
}

Offset StreamMachine::watermark_of(const DurableState& state) const {
  Offset watermark = state.sinks.empty() ? 0 : ~Offset{0};
  for (std::size_t i = 0; i < state.sinks.size(); ++i) {
    const SinkState& sink = state.sinks[i];
    Offset through = passed(sink);
    if (sink.dropping && through + 1 >= sink.drop_first &&
        (state.open || state.acks == Acks::all)) {
      // An open-ended drop needs nothing that the journal holds.
      through = std::max(through, std::min(clean_head_, durable_end_));
    }
    watermark = std::min(watermark, through);
  }
  // Where the head will be after a crash, at the least.
  if (!state.open) watermark = std::min(watermark, std::max(state.closed_end, state.checkpoint.at));
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

}  // namespace spillway::recovery
