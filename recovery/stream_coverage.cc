// Coverage: when the journal is opened and closed, and what may leave the window (D2, D3, G9).
#include <algorithm>
#include <array>
#include <utility>

#include "base/invariant.h"
#include "recovery/stream_machine.h"

namespace spillway::recovery {

namespace {

constexpr std::array kCoverage = {
    CoverageTransition{Coverage::unknown, Coverage::open, "started with open coverage"},
    CoverageTransition{Coverage::unknown, Coverage::closed, "the first Hello is durable"},
    CoverageTransition{Coverage::closed, Coverage::opening, "a reason to journal"},
    CoverageTransition{Coverage::opening, Coverage::open, "the opening batch is durable"},
    CoverageTransition{Coverage::open, Coverage::closing, "no reason to journal for 1 s"},
    CoverageTransition{Coverage::closing, Coverage::open, "a reason to journal"},
    CoverageTransition{Coverage::closing, Coverage::sealing, "every sink has acknowledged E"},
    CoverageTransition{Coverage::sealing, Coverage::closed, "closed{E} is durable"},
    CoverageTransition{Coverage::sealing, Coverage::closing, "closed{E} was not written"},
};

}  // namespace

std::span<const CoverageTransition> coverage_transitions() { return kCoverage; }

std::string_view name_of(Coverage coverage) {
  switch (coverage) {
    case Coverage::unknown: return "unknown";
    case Coverage::closed: return "closed";
    case Coverage::opening: return "opening";
    case Coverage::open: return "open";
    case Coverage::closing: return "closing";
    case Coverage::sealing: return "sealing";
  }
  return "unknown";
}

void StreamMachine::enter(Coverage to) {
  const Coverage from = std::exchange(cov_, to);
  INVARIANT(std::ranges::any_of(
      kCoverage, [&](const CoverageTransition& t) { return t.from == from && t.to == to; }));
  quiet_since_.reset();
  const Offset end =
      to == Coverage::closed || to == Coverage::sealing ? closing_end_ : durable_end_;
  out_->push_back(action::CoverageMoved{from, to, open_first_, end});
}

// A sink that is not dropping is not live; or a record waits for spill_after; or the window is
// pressed; or always.
bool StreamMachine::reason_to_journal() const {
  if (stopping_ || policy_.journal == JournalMode::always) return true;
  for (const auto& sink : sinks_) {
    if (!state_of(*sink).dropping && sink->delivery.state() != State::live) return true;
  }
  const Offset taken = min_effective();
  const BlockInfo* oldest = window_.find(taken + 1);
  if (oldest == nullptr) return taken < head_;  // fell behind the window
  return now_.steady >= spill_by(taken, *oldest);
}

// When records that wait are journaled, `oldest` being the block after `taken`: after spill_after,
// or sooner if they press the window and nothing moves until then. Under
// `all` a producer's limit in flight bounds it, so only a sink that stands still while half of the
// window waits for it is spilled for: one that assembles a large record, which the limit would cut
// off. What is acknowledged before it is taken does not count against that limit.
Instant StreamMachine::spill_by(Offset taken, const BlockInfo& oldest) const {
  const Instant late = oldest.arrived + policy_.spill_after;
  const std::uint64_t waiting = running_bytes_ - oldest.running_at(taken);
  if (policy_.acks != Acks::all) {
    return waiting > policy_.window_bytes / 4 ? std::min(late, now_.steady) : late;
  }
  if (waiting <= policy_.window_bytes / 2) return late;
  Instant moved = oldest.arrived;
  for (const auto& sink : sinks_) {
    if (effective(*sink) == taken) moved = std::max(moved, sink->progress_at);
  }
  return std::min(late, moved + policy_.spill_after / kPressedShare);
}

std::optional<Instant> StreamMachine::spill_at() const {
  if (!known_ || (cov_ != Coverage::closed && cov_ != Coverage::closing)) return std::nullopt;
  const Offset taken = min_effective();
  const BlockInfo* oldest = window_.find(taken + 1);
  if (oldest == nullptr) return std::nullopt;
  const Instant at = spill_by(taken, *oldest);
  return at > now_.steady ? std::optional(at) : std::nullopt;
}

void StreamMachine::settle_coverage() {
  if (!known_) return;
  const bool reason = reason_to_journal();
  switch (cov_) {
    case Coverage::unknown:
    case Coverage::opening: return;
    case Coverage::closed:
      if (reason && openable() <= head_) begin_opening();
      return;
    case Coverage::open:
      if (reason || journal_down_) {
        quiet_since_.reset();
        return;
      }
      if (!quiet_since_) quiet_since_ = now_.steady;
      if (now_.steady - *quiet_since_ < kQuietBeforeClosing) return;
      // Between two writes the journal's end is known. What came since stays in the window: waiting
      // for a pause of the producer would keep the disk busy as long as there is none.
      if (!writing_.empty() || appended_ != durable_end_) return;
      closing_end_ = durable_end_;
      enter(Coverage::closing);
      [[fallthrough]];
    case Coverage::closing:
      if (reason) return enter(Coverage::open);  // it goes on at E + 1: the window still has it
      if (min_effective() >= closing_end_ && writing_.empty()) enter(Coverage::sealing);
      return;
    case Coverage::sealing: return;
  }
}

// What has left the window, or lies before a watermark, every sink has had or is to skip, even one
// that is being moved back now.
Offset StreamMachine::openable() const {
  return std::max({min_effective() + 1, window_.first(), watermark_written_ + 1});
}

// `first` is the oldest record that is not acknowledged by every sink.
void StreamMachine::begin_opening() {
  open_first_ = openable();
  appended_ = open_first_ - 1;
  durable_end_ = std::min(durable_end_, appended_);
  enter(Coverage::opening);
}

void StreamMachine::extend_sinks() {
  if (!known_) return;
  const Offset readable = durable_.open ? durable_end_ : 0;
  released_ = sendable();
  for (auto& sink : sinks_) deliver(*sink, delivery::Extended{sendable(), readable});
}

// What may leave the window: closed, what every sink has; otherwise what is durable in the journal,
// or lies before its beginning and every sink has it (G9).
void StreamMachine::evict() {
  if (!known_ || window_.empty()) return;
  const Offset taken = min_effective();
  Offset through = 0;
  if (cov_ == Coverage::closed) {
    through = taken;
  } else {
    const Offset durable_through = durable_.open ? durable_end_ : 0;
    // Sinks that are live read from here: the tail stays as long as there is room.
    while (!window_.empty() && window_.front().last <= durable_through &&
           (window_.bytes() > policy_.window_bytes / 2 || window_.front().last <= taken)) {
      window_.pop();
    }
    if (open_first_ > 0) through = std::min(taken, open_first_ - 1);
  }
  while (!window_.empty() && window_.front().last <= through) window_.pop();
  if (window_.first() > evicted_ + 1) {
    evicted_ = window_.first() - 1;
    out_->push_back(action::Evict{evicted_});
  }
}

}  // namespace spillway::recovery
