// Limits, the outage clock and the latch (G7).
#include <algorithm>
#include <utility>

#include "base/invariant.h"
#include "recovery/stream_machine.h"

namespace spillway::recovery {

namespace {

// Where a limit that tripped is clear again: an eighth below it, so that it does not trip at once.
std::uint64_t clear_below(std::uint64_t limit) {
  return limit - std::min(limit, std::max<std::uint64_t>(limit / 8, 1));
}

// What an operator can do about a cause.
std::string_view way_out(CauseKind kind) {
  switch (kind) {
    case CauseKind::max_bytes: return "bring the sink back, or give it more with --extend SIZE";
    case CauseKind::max_records: return "bring the sink back, or raise max_records and start again";
    case CauseKind::max_age:
    case CauseKind::outage_timeout:
      return "bring the sink back, or give it more with --extend TIME";
    case CauseKind::disk_bound: return "bring the sinks back, or raise max_disk_bytes";
    case CauseKind::min_free_disk: return "make room on the file system";
    case CauseKind::journal_failing: return "the log says what fails";
    case CauseKind::journal_damaged:
    case CauseKind::gap: return "accept the loss with --accept-loss";
  }
  return "remove the cause";
}

}  // namespace

StreamMachine::Backlog StreamMachine::backlog(const Sink& sink) const {
  Backlog waiting;
  if (!known_) return waiting;
  const Place place = place_of(sink);
  if (place.through >= head_) return waiting;
  waiting.records = head_ - place.through;
  waiting.bytes = running_bytes_ - std::min(running_bytes_, place.running_bytes);
  waiting.oldest_received = place.received;
  return waiting;
}

Millis StreamMachine::age_of(const Backlog& waiting) const {
  return clock_.age(head_ - waiting.records + 1, waiting.oldest_received);
}

// What was dropped does not wait any more, wherever the rest of it is.
StreamMachine::Place StreamMachine::place_of(const Sink& sink) const {
  const Offset passed = effective(sink);
  if (const BlockInfo* block = window_.find(passed + 1)) {
    return {passed, block->running_at(passed), block->received};
  }
  if (sink.seen.through == passed && sink.seen.received != 0) return sink.seen;
  if (sink.located.through == passed && sink.located.received != 0) return sink.located;
  // It said that it holds more, or was moved: the first read will tell.
  Place guess{passed, sink.delivery.running_acked(), 0};
  if (sink.delivery.acked() == passed) guess.received = sink.delivery.oldest_received();
  for (const Place& known : {sink.seen, sink.located}) {
    if (known.through > passed) continue;
    guess.running_bytes = std::max(guess.running_bytes, known.running_bytes);
  }
  return guess;
}

// The wall clock was set: an outage is no longer or shorter for it, after a restart neither.
void StreamMachine::follow_clock() {
  const Millis by = clock_.observe(now_, head_);
  if (by == Millis(0)) return;
  for (auto& sink : sinks_) {
    SinkState& state = state_of(*sink);
    if (state.outage_since == 0) continue;
    state.outage_since += by.count();
    if (state.paused) state.paused_since += by.count();
    change();
  }
}

std::uint64_t StreamMachine::max_bytes(const Sink& sink) const {
  const std::uint64_t limit = sink.policy.max_bytes;
  return limit > kUnlimited - sink.extra_bytes ? kUnlimited : limit + sink.extra_bytes;
}

// A limit of 0 is a wish to halt, or to let go, at the first loss: what a start finds is no loss
// before an attempt has failed, nor while it is replayed, which is held against the window.
bool StreamMachine::lost_something(const Sink& sink) {
  return sink.delivery.attempted() && sink.delivery.state() != State::replaying &&
         !sink.restart_change;
}

std::uint64_t StreamMachine::byte_limit(const Sink& sink) const {
  const std::uint64_t limit = max_bytes(sink);
  return limit == 0 && !lost_something(sink) ? policy_.window_bytes : limit;
}

// Where the policy no longer asks for the open-ended drop that a start has found.
void StreamMachine::end_unwanted_drop(Sink& sink) {
  const SinkState& state = state_of(sink);
  const SinkPolicy& policy = sink.policy;
  if (!state.dropping || !sink.drop_durable || sink.ending_drop || sink.restart_change) return;
  if (clean_head_ == torn_) return;  // not before the group's end is known
  const bool by_outage = state.drop_reason == LossReason::outage && policy.outage_timeout;
  if (policy.on_limit == OnLimit::drop_oldest && (by_outage || max_bytes(sink) == 0)) return;
  end_drop(sink);
}

StreamMachine::Limits StreamMachine::limits(SinkId id) const {
  const Sink& sink = *sinks_[value_of(id)];
  Limits result{std::nullopt, sink.policy.max_age, sink.policy.outage_timeout};
  if (const std::uint64_t bytes = max_bytes(sink); bytes != kUnlimited) result.max_bytes = bytes;
  if (result.max_age) *result.max_age += sink.extra_time;
  if (result.outage_timeout) *result.outage_timeout += sink.extra_time;
  return result;
}

std::optional<Millis> StreamMachine::outage_elapsed(const Sink& sink) const {
  if (!sink.outage_began) return std::nullopt;
  const Instant until = sink.paused_at ? *sink.paused_at : now_.steady;
  return until - *sink.outage_began;
}

StreamMachine::Outage StreamMachine::outage(SinkId id) const {
  const Sink& sink = *sinks_[value_of(id)];
  Outage result;
  const auto elapsed = outage_elapsed(sink);
  if (!elapsed) return result;
  result.on = true;
  result.since = state_of(sink).outage_since;
  if (sink.policy.outage_timeout) {
    result.remaining =
        std::max(Millis(0), *sink.policy.outage_timeout + sink.extra_time - *elapsed);
  }
  return result;
}

// The time in which a sink is not live, has an undelivered record and is not paused, counted from
// its last progress or from when that record came.
void StreamMachine::track_outage(Sink& sink) {
  SinkState& state = state_of(sink);
  if (sink.delivery.state() != State::live) sink.seen = place_of(sink);
  if (sink.delivery.acked() > sink.progress_acked) {
    sink.progress_acked = sink.delivery.acked();
    sink.progress_at = now_.steady;
    if (sink.outage_began) {
      sink.outage_began = now_.steady;
      state.outage_since = now_.wall;
    }
  }
  const bool undelivered = effective(sink) < head_ || state.dropping;
  const bool on = sink.delivery.state() != State::live && undelivered;
  if (on && !sink.outage_began && !sink.paused_at) {
    const Backlog waiting = backlog(sink);
    const bool known = waiting.oldest_received != 0;
    const Instant since =
        std::max(sink.progress_at, now_.steady - (known ? age_of(waiting) : Millis(0)));
    sink.outage_began = since;
    state.outage_since = now_.wall - (now_.steady - since).count();
    change();  // its start is durable
  } else if (!on && sink.outage_began) {
    sink.outage_began.reset();
    state.outage_since = 0;
    change();
  }
}

bool StreamMachine::under_limit(const Sink& sink, CauseKind kind) const {
  const Backlog waiting = backlog(sink);
  const bool drained = waiting.records == 0;
  // What was refused has to fit then, or it halts again at once, and so on for ever.
  const bool live = sink.delivery.state() == State::live;
  switch (kind) {
    case CauseKind::max_bytes:
      return (drained || waiting.bytes <= clear_below(max_bytes(sink))) &&
             (live || waiting.bytes + sink.refused_bytes <= max_bytes(sink));
    case CauseKind::max_records:
      return (drained || waiting.records <= clear_below(sink.policy.max_records)) &&
             (live || waiting.records < sink.policy.max_records);
    case CauseKind::max_age:
      // An age that is not known is not below any limit: the next read tells.
      return drained || !sink.policy.max_age ||
             (waiting.oldest_received != 0 &&
              age_of(waiting) <= *sink.policy.max_age + sink.extra_time);
    case CauseKind::outage_timeout: {
      const auto elapsed = outage_elapsed(sink);
      return drained || !elapsed || !sink.policy.outage_timeout ||
             *elapsed < *sink.policy.outage_timeout + sink.extra_time;
    }
    default: return true;
  }
}

// Holds one sink against its limits. They count what waits for a sink that is not live: what is in
// flight to a live one is bounded by the window.
void StreamMachine::judge(Sink& sink) {
  SinkState& state = state_of(sink);
  const SinkPolicy& policy = sink.policy;
  sink.blocking = false;
  for (const CauseKind kind : {CauseKind::max_bytes, CauseKind::max_records, CauseKind::max_age,
                               CauseKind::outage_timeout}) {
    if (!has_cause(kind, policy.name) || !under_limit(sink, kind)) continue;
    clear(kind, policy.name);
    if (kind == CauseKind::max_bytes) sink.refused_bytes = 0;
  }
  if (sink.restart_change) return;  // where it goes on is not durable yet
  end_unwanted_drop(sink);
  if (sink.delivery.state() == State::live || state.dropping || sink.ending_drop) return;
  const Backlog waiting = backlog(sink);
  if (waiting.records == 0) return;
  const bool tried = lost_something(sink);
  const bool over_bytes = waiting.bytes > byte_limit(sink) || (tried && max_bytes(sink) == 0);
  const bool over_records = waiting.records > policy.max_records;
  const bool over_age = policy.max_age && waiting.oldest_received != 0 &&
                        age_of(waiting) > *policy.max_age + sink.extra_time;
  const auto elapsed = sink.paused_at ? std::nullopt : outage_elapsed(sink);
  // Never before one attempt and 30 s after a start.
  const bool settled =
      policy.outage_timeout == Millis(0) ? tried : now_.steady - started_at_ >= kNoOutageBefore;
  const bool over_time = policy.outage_timeout && elapsed && sink.delivery.attempted() && settled &&
                         *elapsed >= *policy.outage_timeout + sink.extra_time;
  if (!over_bytes && !over_records && !over_age && !over_time) {
    sink.drop_held = false;
    return;
  }
  const OnLimit act = sink.drop_held ? OnLimit::halt : policy.on_limit;
  switch (act) {
    case OnLimit::block: sink.blocking = true; return;
    case OnLimit::drop_oldest:
      // What is being let go already is in the ledger by another entry.
      if (!sink.waiting_skips.empty()) return;
      if (over_time || max_bytes(sink) == 0) {
        return begin_drop(sink, over_time ? LossReason::outage : LossReason::limit);
      }
      return drop_oldest(
          sink, over_age && !over_bytes && !over_records ? LossReason::age : LossReason::limit);
    case OnLimit::halt: break;
  }
  // Sizes halt at admission, where the record that would be too much stands; here only what an
  // earlier configuration let grow beyond them.
  if (over_age) {
    raise(CauseKind::max_age, policy.name, "max_age of sink " + policy.name);
  }
  if (over_time) {
    raise(CauseKind::outage_timeout, policy.name,
          "outage_timeout of sink " + policy.name +
              ": bring it back, or give it more time with "
              "halt clear --extend");
  }
}

void StreamMachine::judge_disk() {
  if (!disk_refused_ || !known_) return;
  const bool waiting = cov_ == Coverage::opening || (cov_ == Coverage::open && appended_ < head_);
  if (!waiting) return;
  // Only sinks that hold the watermark back drop, and only what frees files: nothing does while one
  // that does not drop needs the same.
  const Offset watermark = watermark_of(durable_);
  Sink* dropping = nullptr;
  bool drops = false;
  bool stays = false;
  bool blocks = false;
  for (auto& sink : sinks_) {
    if (effective(*sink) > watermark || sink->delivery.state() == State::live) continue;
    const bool keeps = durable_.open && effective(*sink) < durable_end_;
    if (!keeps || sink->policy.on_limit != OnLimit::drop_oldest || sink->drop_held) {
      stays = true;
      blocks = blocks || sink->policy.on_limit == OnLimit::block;
      continue;
    }
    drops = true;
    if (!dropping && !state_of(*sink).dropping) dropping = sink.get();
  }
  if (drops && !stays) {
    // Once for each refusal: what it frees shows at the next try.
    if (dropping && !std::exchange(disk_dropped_, true)) {
      drop_oldest(*dropping, LossReason::limit);
    }
    return;
  }
  if (blocks) {
    blocked_ = true;  // what is not durable is not acknowledged: the producer waits
    return;
  }
  if (*disk_refused_ == WriteOutcome::disk_bound) {
    raise(CauseKind::disk_bound, {}, "max_disk_bytes is used up");
  } else {
    raise(CauseKind::min_free_disk, {}, "the file system has less than min_free_disk left");
  }
}

void StreamMachine::judge_journal() {
  if (!journal_down_ || now_.steady - *failing_since_ < policy_.journal_timeout) return;
  raise(CauseKind::journal_failing, {}, "the journal cannot be written; see the log for its error");
}

void StreamMachine::settle_limits() {
  blocked_ = false;
  judge_journal();
  if (!known_) return;
  for (auto& sink : sinks_) {
    if (stopping_) break;  // what a stop leaves undelivered is nobody's outage: it is journaled
    track_outage(*sink);
    judge(*sink);
    blocked_ = blocked_ || sink->blocking;
  }
  judge_disk();
}

// --- the latch ----------------------------------------------------------------------------------

bool StreamMachine::has_cause(CauseKind kind, std::string_view sink) const {
  return std::ranges::any_of(causes_,
                             [&](const HaltCause& c) { return c.kind == kind && c.sink == sink; });
}

void StreamMachine::raise(CauseKind kind, std::string sink, std::string text) {
  if (has_cause(kind, sink)) return;
  causes_.push_back({kind, std::move(sink), table_.position_of(head_), now_.wall, std::move(text)});
}

void StreamMachine::clear(CauseKind kind, std::string_view sink) {
  std::erase_if(causes_, [&](const HaltCause& c) { return c.kind == kind && c.sink == sink; });
}

// Durable before the producer hears of it, but a disk that takes no write is not waited for (G7).
void StreamMachine::settle_latch() {
  if (latched_ == causes_) {
    latch_wanted_.reset();
  } else if (!latch_wanted_) {
    latch_wanted_ = now_.steady;
  }
  if (latch_wanted_ && !latch_id_ && now_.steady >= latch_retry_at_) {
    latch_id_ = next_id_++;
    latching_ = causes_;
    out_->push_back(action::WriteLatch{*latch_id_, causes_});
  }
  const bool waited = latch_wanted_ && now_.steady - *latch_wanted_ >= kLatchPatience;
  if (!causes_.empty()) {
    const bool written = !latch_id_ && latched_ == causes_;
    if ((written || waited) && (!told_halt_ || told_causes_ != causes_)) {
      told_halt_ = true;
      told_causes_ = causes_;
      out_->push_back(action::Halt{causes_});
    }
    return;
  }
  if (!told_halt_ && !resume_owed_) return;
  if (!latched_.empty() && !waited) return;
  if (resume_after_ && !durable_at(*resume_after_)) return;
  resume_after_.reset();
  told_halt_ = resume_owed_ = false;
  told_causes_.clear();
  out_->push_back(action::Resume{table_.place_of(head_)});
}

void StreamMachine::on(const event::LatchWritten& e) {
  if (latch_id_ != e.id) return;
  latch_id_.reset();
  if (e.ok) {
    latched_ = std::move(latching_);
    latch_wanted_.reset();  // the disk takes writes: what changed meanwhile has its own patience
  } else {
    latch_retry_at_ = now_.steady + kLatchPatience;
  }
}

void StreamMachine::on(const event::HaltCleared& e) {
  if (e.accept_loss) {
    // Until it is in the journal again, what was lost takes the room of what would come.
    if (!restoring()) clear(CauseKind::journal_damaged, {});
    if (gap_through_) {
      pass_gap();
      resume_after_ = changes_;
    } else if (has_cause(CauseKind::gap)) {
      accept_gap_ = true;  // the producer that has it is not here: at its next Hello
      clear(CauseKind::gap, {});
    }
  }
  for (auto& sink : sinks_) extend(*sink, e);
  if (causes_.empty()) {
    out_->push_back(action::Reply{e.request, true, "no cause is left"});
    return;
  }
  std::string text;
  for (const HaltCause& cause : causes_) {
    text += text.empty() ? "still halted: " : "; ";
    text += std::string(name_of(cause.kind));
    if (!cause.sink.empty()) text += " (sink " + cause.sink + ")";
    text += ": " + cause.text + "; ";
    text += cause.kind == CauseKind::journal_damaged && restoring()
                ? "what this process still has of it is being written again: wait for that"
                : way_out(cause.kind);
  }
  out_->push_back(action::Reply{e.request, false, std::move(text)});
}

// An extension is for the limits that have tripped, and where none has for all, ahead of time. One
// that is too small to end the halt is not kept.
void StreamMachine::extend(Sink& sink, const event::HaltCleared& e) {
  const auto tripped = [this](std::string_view of) {
    return has_cause(CauseKind::outage_timeout, of) || has_cause(CauseKind::max_age, of);
  };
  const bool ahead = std::ranges::none_of(causes_, [](const HaltCause& cause) {
    return cause.kind == CauseKind::outage_timeout || cause.kind == CauseKind::max_age ||
           cause.kind == CauseKind::max_bytes || cause.kind == CauseKind::max_records;
  });
  const std::string& name = sink.policy.name;
  const Millis time = sink.extra_time;
  const std::uint64_t bytes = sink.extra_bytes;
  if (e.extend_time && (ahead || tripped(name))) sink.extra_time += *e.extend_time;
  if (e.extend_bytes && (ahead || has_cause(CauseKind::max_bytes, name))) {
    sink.extra_bytes += *e.extend_bytes;
  }
  if (known_) judge(sink);
  if (tripped(name)) sink.extra_time = time;
  if (has_cause(CauseKind::max_bytes, name)) sink.extra_bytes = bytes;
}

}  // namespace spillway::recovery
