// Producers: what a Hello resolves, epochs, gaps, generations (D4, D6).
#include <algorithm>
#include <limits>
#include <utility>

#include "base/invariant.h"
#include "recovery/stream_machine.h"

namespace spillway::recovery {

void StreamMachine::reject(SessionId session, RejectCode code, bool retryable, std::string text) {
  out_->push_back(action::Reject{session, code, retryable, std::move(text)});
}

void StreamMachine::on(const event::HelloCame& e) {
  if (stopping_) {
    return reject(e.session, RejectCode::shutting_down, true, "the broker stops; connect again");
  }
  const std::uint64_t newest = std::max(want_.generation, hello_ ? hello_->generation : 0);
  if (e.generation != 0 && e.generation < newest) {
    return reject(e.session, RejectCode::fenced, false,
                  "generation " + std::to_string(e.generation) +
                      " is over: " + std::to_string(newest) + " publishes to this stream now");
  }
  if (hello_) {
    if (e.generation != 0 && e.generation == hello_->hello.generation) {
      reject(hello_->hello.session, RejectCode::replaced, true,
             "another connection of this producer came after it");
    } else {
      // Two that have no generation yet are two producers, as far as anybody knows.
      reject(hello_->hello.session, RejectCode::fenced, false,
             "another producer came after it, and publishes to this stream now");
    }
  }
  PendingHello pending;
  pending.hello = e;
  pending.generation = e.generation == 0 ? newest + 1 : e.generation;
  hello_ = pending;
  if (session_) {
    // What the older connection handed over stays, so it may finish the record it is sending.
    hello_->cut_at = now_.steady + kHandoverLimit;
    out_->push_back(action::Finish{*session_});
    return;
  }
  prepare_hello();
}

void StreamMachine::on(const event::SessionEnded& e) {
  if (session_ == e.session) session_.reset();
  if (hello_ && hello_->hello.session == e.session) hello_.reset();
  if (hello_ && !hello_->prepared && !session_) {
    hello_->cut_at.reset();
    prepare_hello();
  }
}

void StreamMachine::prepare_hello() {
  INVARIANT(hello_ && !hello_->prepared && !session_);
  if (known_change_) return;  // an earlier one resolves the head just now
  PendingHello& pending = *hello_;
  const event::HelloCame& hello = pending.hello;
  const bool first = !known_;
  if (!has_room(hello)) {
    reject(hello.session, RejectCode::malformed, false,
           "a position or an epoch that no stream can have: they end at " +
               std::to_string(kMaxOffset));
    hello_.reset();
    return;
  }
  for (const auto& named : {hello.acknowledged, hello.oldest}) {
    if (named) want_.epoch_newest = std::max(want_.epoch_newest, named->epoch);
  }
  want_.epoch_newest = std::max(want_.epoch_newest, hello.own_epoch);
  if (hello.wish == event::EpochWish::own && !table_.empty() &&
      hello.own_epoch < table_.current()) {
    reject(hello.session, RejectCode::epoch, false,
           "epoch " + std::to_string(hello.own_epoch) + " is older than " +
               std::to_string(table_.current()) + ", the current one");
    hello_.reset();
    return;
  }
  bool adopted = false;
  auto acknowledged = adopt_acknowledged(hello, adopted);
  // After an orderly stop the checkpoint is the end. Whoever saw more acknowledged knows a newer
  // store than this, which was restored from a backup: what comes after is lost, not delivered.
  const bool exact = durable_.clean_stop && !adopted;
  if (first) resolve_head(hello, exact ? std::nullopt : acknowledged);
  if (wants_new_epoch(hello, adopted)) {
    if (acknowledged && *acknowledged > head_) {  // of an epoch that ends here now
      record_loss(make_loss({}, head_ + 1, *acknowledged, LossReason::journal_loss, false));
      acknowledged = head_;
    }
    const auto seconds = static_cast<std::uint64_t>(std::max<WallMs>(0, now_.wall / 1000));
    open_epoch(std::max(seconds, want_.epoch_newest + 1) + std::exchange(epoch_margin_, 0));
  }
  if (pending.generation != want_.generation) {
    want_.generation = pending.generation;
    change();
  }
  handle_gap(hello, acknowledged);
  if (durable_.clean_stop) change();  // from now on a crash is not a clean stop
  if (first) known_change_ = change();
  pending.prepared = true;
  pending.change = changes_;
  if (may_welcome()) welcome();
}

// Whether the offsets that these positions lead to are ones that a stream can have, whatever of it
// becomes the head, or the beginning of an epoch.
bool StreamMachine::has_room(const event::HelloCame& hello) const {
  Offset top = std::max({head_, want_.closed_end, want_.checkpoint.at, table_.current_base()});
  if (hello.own_epoch > kMaxOffset && !table_.knows(hello.own_epoch)) return false;
  for (const auto& named : {hello.acknowledged, hello.oldest}) {
    if (!named) continue;
    if (const auto offset = table_.offset_of(*named)) {
      if (*offset > kMaxOffset) return false;
      top = std::max(top, *offset);
      continue;
    }
    if (named->epoch > kMaxOffset || top > kMaxOffset || named->sequence > kMaxOffset - top) {
      return false;
    }
    top += named->sequence;
  }
  return true;
}

// The offset of what the producer saw acknowledged. An epoch that this store does not know, and
// that is newer than all it knows, is adopted: the store was lost, or made anew.
std::optional<Offset> StreamMachine::adopt_acknowledged(const event::HelloCame& hello,
                                                        bool& adopted) {
  if (!hello.acknowledged) return std::nullopt;
  const Position& position = *hello.acknowledged;
  if (!table_.knows(position.epoch)) {
    if (!table_.empty() && position.epoch < table_.current()) return std::nullopt;
    const Offset base =
        known_ ? head_ : std::max({want_.closed_end, want_.checkpoint.at, table_.current_base()});
    begin_epoch(position.epoch, base);
    adopted = true;
    if (!known_ && position.sequence > 0) {
      // Nobody can say which of these a store that is lost still had to deliver.
      record_loss(
          make_loss({}, base + 1, base + position.sequence, LossReason::journal_loss, true));
    }
    out_->push_back(action::Note{std::nullopt,
                                 "adopted epoch " + std::to_string(position.epoch) +
                                     " from a producer: this store did not know it",
                                 true});
  }
  return table_.offset_of(position);
}

// Coverage closed, at the first Hello after a start: what the broker has, nobody else can say.
void StreamMachine::resolve_head(const event::HelloCame& hello,
                                 std::optional<Offset> acknowledged) {
  Offset held = std::max({want_.closed_end, want_.checkpoint.at, acknowledged.value_or(0)});
  if (want_.acks != Acks::all && hello.oldest && !table_.empty()) {
    if (const auto oldest = table_.offset_of(*hello.oldest)) {
      Offset lowest = held;
      for (const SinkState& sink : want_.sinks) {
        const bool lets_go = sink.dropping && passed(sink) + 1 >= sink.drop_first;
        if (!lets_go && !sink.unresolved) lowest = std::min(lowest, passed(sink));
      }
      held = std::min(held, std::max({*oldest == 0 ? 0 : *oldest - 1, lowest, want_.closed_end}));
    }
  }
  if (table_.empty() && hello.wish == event::EpochWish::own) {
    // A new store behind a relay begins where the relay does.
    table_.open(hello.own_epoch, 0);
    if (hello.oldest && hello.oldest->epoch == hello.own_epoch && hello.oldest->sequence > 0) {
      held = std::max(held, hello.oldest->sequence - 1);
    }
    change();
  }
  // An epoch that begins beyond it was opened when all before was let go by a sink's drop; one that
  // was reset since takes those all the same.
  const Offset vouched = held;
  held = std::max({held, table_.current_base(), watermark_written_});
  safe_ = std::min(safe_, held);
  acks_after_ = acknowledged.value_or(0);
  resolve_cursors(held, vouched);
  head_ = clean_head_ = held;
  const bool clean = held == want_.checkpoint.at && want_.checkpoint.clean;
  if (!clean && held > table_.current_base()) torn_ = held;
  appended_ = durable_end_ = held;
  window_.clear(held + 1);
  evicted_ = held;
  want_.closed_end = held;
  want_.checkpoint = {held, !torn_};
  if (want_.mark_offset > held) {
    // Whoever goes on from it would leave out what comes again.
    want_.mark_offset = 0;
    want_.mark.clear();
    mark_cut_ = change();
  }
}

// Under `all` every sink has what was acknowledged, which is all through `vouched`.
void StreamMachine::resolve_cursors(Offset held, Offset vouched) {
  for (auto& sink : sinks_) {
    SinkState& state = state_of(*sink);
    Offset reported = 0;
    if (sink->reported) reported = table_.offset_of(*sink->reported).value_or(0);
    const bool inferred = want_.acks == Acks::all || state.unresolved;
    Offset cursor = std::max(state.cursor, std::min(reported, held));
    // What comes again after held is not what such a sink is sure to have taken.
    if (state.cursor > held) sink->not_taken.push_back({held + 1, state.cursor, LossReason::crash});
    // A sink that was done with all through an offset took it, or it is to be skipped there.
    const auto reached = [&state](Offset through) {
      const auto skip = std::ranges::find_if(state.skips, [&](const SkipRange& range) {
        return range.first <= through && through <= range.last;
      });
      return skip == state.skips.end() ? through : skip->first - 1;
    };
    if (state.dropping) {
      // Its open-ended entry covers all that was taken while it lasted.
      const Offset before = std::min(state.drop_first - 1, held);
      if (inferred) cursor = std::max(cursor, reached(std::min(before, vouched)));
      state.cursor = cursor;
      if (state.cursor < before) {
        add_skip(*sink, {state.cursor + 1, before, LossReason::crash});
        record_loss(
            make_loss(sink->policy.name, state.cursor + 1, before, LossReason::crash, true));
      }
      continue;
    }
    if (inferred) cursor = std::max(cursor, reached(state.unresolved ? held : vouched));
    sink->fresh = std::exchange(state.unresolved, false);
    state.cursor = cursor;
    sink->floor = sink->fresh ? 0 : cursor;
    const Offset through = passed(state);
    if (through >= held) continue;
    // Only memory held these, and it is gone: at most these were lost.
    add_skip(*sink, {through + 1, held, LossReason::crash});
    record_loss(make_loss(sink->policy.name, through + 1, held, LossReason::crash, true));
  }
  if (want_.acks == Acks::all || policy_.acks != Acks::all) want_.acks = policy_.acks;
  want_.quorum = policy_.quorum;
}

bool StreamMachine::wants_new_epoch(const event::HelloCame& hello, bool adopted) const {
  if (hello.wish == event::EpochWish::assign) return true;
  if (hello.wish == event::EpochWish::own) return false;
  if (table_.empty()) return true;
  // The store lost the epoch in which the producer goes on.
  if (hello.oldest && hello.oldest->epoch > table_.current()) adopted = true;
  if (adopted) return !hello.resumes;
  // Both have forgotten: other content must never pass for what a sink already holds. Sinks may
  // hold records beyond the head from before the start, until a new epoch leaves those behind.
  return !was_clean_ && !hello.acknowledged && !hello.resumes;
}

// The current epoch ends at the head.
void StreamMachine::open_epoch(std::uint64_t number) {
  // Beyond the head that is known now there may have been more, which nobody can count any more:
  // what an open-ended drop let go, and what was acknowledged while only memory held it.
  const bool forgotten = !known_ && !table_.empty();
  const bool from_memory = forgotten && !was_clean_ && durable_.acks != Acks::all && hello_ &&
                           !hello_->hello.acknowledged;
  for (const auto& sink : sinks_) {
    const SinkState& state = state_of(*sink);
    if (!from_memory && !(forgotten && state.dropping)) continue;
    const LossReason reason = state.dropping ? state.drop_reason : LossReason::crash;
    Loss loss = make_loss(sink->policy.name, head_ + 1, head_ + 1, reason, true);
    loss.last_position.sequence = std::numeric_limits<std::uint64_t>::max();
    loss.text = "of these there may have been some; broker and producer both forgot how many";
    record_loss(std::move(loss));
  }
  was_clean_ = true;
  begin_epoch(number, head_);
  end_group();
}

// What a sink reported beyond the end of the last epoch belongs to no record of the new one.
void StreamMachine::begin_epoch(std::uint64_t number, Offset base) {
  table_.open(number, base);
  want_.epoch_newest = std::max(want_.epoch_newest, number);
  end_gap();  // nobody sends what the last epoch lacks
  const auto clamp = [base](std::vector<SkipRange>& ranges) {
    std::erase_if(ranges, [base](const SkipRange& range) { return range.first > base; });
    for (SkipRange& range : ranges) range.last = std::min(range.last, base);
  };
  for (auto& sink : sinks_) {
    SinkState& state = state_of(*sink);
    state.cursor = std::min(state.cursor, base);
    state.drop_first = std::min(state.drop_first, base + 1);
    sink->floor = std::min(sink->floor, base);
    sink->reset_lost.reset();
    clamp(state.skips);
    clamp(sink->not_taken);
    deliver(*sink, delivery::Clamped{base});
  }
  change();
}

// The producer no longer has what comes after held: pass the range on as a skip, or halt.
void StreamMachine::handle_gap(const event::HelloCame& hello, std::optional<Offset> acknowledged) {
  const bool accepted = accept_gap_;
  std::optional<Offset> oldest;
  if (hello.oldest) {
    if (!table_.knows(hello.oldest->epoch) && hello.oldest->epoch > table_.current() &&
        (hello.wish == event::EpochWish::own || hello.resumes)) {
      open_epoch(hello.oldest->epoch);  // it has nothing of the epochs before it any more
    }
    oldest = table_.offset_of(*hello.oldest);
  }
  if (acknowledged && *acknowledged > head_ && (!oldest || *oldest > head_ + 1)) {
    out_->push_back(
        action::Note{std::nullopt,
                     "the journal lost records that a producer saw acknowledged, through " +
                         to_string(*hello.acknowledged),
                     true});
    if (!oldest) oldest = *acknowledged + 1;
  }
  if (!oldest || *oldest <= head_ + 1) {
    return end_gap();
  }
  gap_through_ = *oldest - 1;
  if (policy_.on_gap == OnGap::record || accepted) return pass_gap();
  raise(CauseKind::gap, {},
        "the producer no longer has the records from " + to_string(table_.position_of(head_ + 1)) +
            " to " + to_string(table_.position_of(*gap_through_)) +
            "; let it send them, or accept the loss with halt clear --accept-loss");
}

void StreamMachine::pass_gap() {
  INVARIANT(gap_through_ && *gap_through_ > head_);
  action::AdmitSkip skip;
  skip.first = head_ + 1;
  skip.position = table_.position_of(head_ + 1);
  skip.count = *gap_through_ - head_;
  skip.reason = LossReason::gap;
  skip.running_bytes = running_bytes_;
  record_loss(make_loss({}, skip.first, *gap_through_, LossReason::gap, false));
  unsaid_.emplace_back(skip.first, changes_);
  end_group();
  take(BlockInfo{}, skip.count);
  out_->push_back(skip);
  end_gap();
}

void StreamMachine::end_gap() {
  gap_through_.reset();
  accept_gap_ = false;  // it was for this one
  clear(CauseKind::gap, {});
}

// Welcome says what is safe: not before what a journal lost is in it again. And it allows so many
// bytes in flight: where a sink's limit blocks, not to one producer after the other.
bool StreamMachine::may_welcome() const {
  if (!hello_ || !hello_->prepared || session_) return false;
  if (!durable_at(hello_->change) || !epochs_durable() || restoring()) return false;
  return !blocked_ || running_bytes_ - safe_running_ < policy_.producer_in_flight();
}

void StreamMachine::welcome() {
  INVARIANT(hello_ && hello_->prepared && known_ && !session_);
  const PendingHello pending = *hello_;
  hello_.reset();
  session_ = pending.hello.session;
  discarding_ = resume_owed_ = false;
  action::Welcome welcome;
  welcome.session = *session_;
  welcome.generation = pending.generation;
  welcome.held = table_.place_of(head_);
  welcome.safe = table_.position_of(safe_);
  const std::string* mark = &want_.mark;
  Offset mark_offset = want_.mark_offset;
  for (const auto& [offset, text] : marks_) {
    if (offset > head_) break;
    mark = &text;
    mark_offset = offset;
  }
  if (mark_offset != 0) {
    welcome.mark = *mark;
    welcome.mark_position = table_.position_of(mark_offset);
  }
  if (told_halt_) welcome.halted = told_causes_;
  told_safe_ = safe_;
  told_taken_ = 0;
  out_->push_back(std::move(welcome));
}

void StreamMachine::become_known() {
  known_change_.reset();
  known_ = true;
  if (cov_ == Coverage::unknown) {
    enter(Coverage::closed);
    reach_safe(window_.empty() ? head_ : window_.first() - 1);
  }
  for (auto& sink : sinks_) {
    const Offset cursor = state_of(*sink).cursor;
    if (sink->delivery.acked() < cursor) deliver(*sink, delivery::Corrected{cursor});
    settle_sink(*sink);
  }
}

}  // namespace spillway::recovery
