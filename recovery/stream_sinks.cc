// Sinks: what they report, refuse and hold; operators' words about them (D5, D8, G3, G8).
#include <algorithm>
#include <utility>

#include "base/invariant.h"
#include "recovery/startup.h"
#include "recovery/stream_machine.h"

namespace spillway::recovery {

// What the sink acknowledged, and beyond it what policy let pass, as far as that is durable.
Offset StreamMachine::effective(const Sink& sink) const {
  Offset through = passed(sink.delivery.acked(), sink.delivery.skips());
  if (sink.ending_drop) {
    if (sink.ending_drop->first <= through + 1) through = std::max(through, sink.ending_drop->last);
  } else if (sink.drop_durable && state_of(sink).drop_first <= through + 1) {
    through = std::max(through, clean_head_);
  }
  // Being moved by an operator: back at once, but forward only once that is durable.
  if (sink.restart_change) through = std::min(through, sink.restart_at);
  return std::min(through, head_);
}

// What it said when it was parked may be less than what it once acknowledged.
StreamMachine::Standing StreamMachine::standing(const Sink& sink) const {
  const Offset took = std::min(sink.delivery.acked(), head_);
  if (state_of(sink).parked.empty() || !sink.reported) return {took, effective(sink)};
  const Offset holds = std::min(took, table_.offset_of(*sink.reported).value_or(took));
  return {holds, holds};
}

Offset StreamMachine::min_effective() const {
  Offset lowest = head_;
  for (const auto& sink : sinks_) lowest = std::min(lowest, effective(*sink));
  return lowest;
}

void StreamMachine::on(const event::SinkConnected& e) {
  Sink& sink = sink_of(e.sink);
  if (sink.delivery.attempt() != e.attempt || sink.delivery.connected()) return;
  deliver(sink, delivery::Connected{e.attempt});
  if (!sink.delivery.connected()) return;
  sink.reported = e.held;
  sink.report_waits = true;
  if (e.held) want_.epoch_newest = std::max(want_.epoch_newest, e.held->epoch);
}

void StreamMachine::on(const event::SinkLost& e) {
  Sink& sink = sink_of(e.sink);
  if (sink.delivery.attempt() != e.attempt) return;
  sink.report_waits = false;
  deliver(sink, delivery::Lost{e.attempt, e.cause});
}

void StreamMachine::on(const event::SinkAcked& e) {
  Sink& sink = sink_of(e.sink);
  deliver(sink, delivery::Acked{e.attempt, e.through});
  if (sink.delivery.attempt() != e.attempt || !sink.delivery.positioned()) return;
  sink.floor = std::max(sink.floor, std::min(sink.delivery.acked(), head_));
}

void StreamMachine::on(const event::SinkNudged& e) {
  deliver(sink_of(e.sink), delivery::Reconnect{});
}

// The head is known and the sink has said what it holds: where does it go on? (D5)
void StreamMachine::resolve_report(Sink& sink) {
  if (!sink.delivery.connected() || sink.delivery.positioned()) {
    sink.report_waits = false;
    return;
  }
  if (!known_ || sink.restart_change || !sink.waiting_skips.empty()) return;
  SinkState& state = state_of(sink);
  if (state.dropping) {
    // It is back: the drop ends here, in the ledger before anything beyond it is sent (D8).
    if (!sink.ending_drop && sink.drop_durable && clean_head_ != torn_) end_drop(sink);
    return;
  }
  sink.report_waits = false;
  const bool fresh = std::exchange(sink.fresh, false);
  if (!sink.reported) return position(sink, sink.delivery.acked());
  const Position held = *sink.reported;
  const Position next{held.epoch, held.sequence + 1};
  const auto offset = table_.offset_of(held);
  if (!offset) {
    if (held.epoch > table_.current()) {
      return park(sink, "holds " + to_string(held) + ", of an epoch newer than any known here (" +
                            std::to_string(table_.current()) +
                            "): point it at the right destination, or reset it");
    }
    if (held.epoch != 0) {
      out_->push_back(
          action::Note{sink.id,
                       "holds " + to_string(held) +
                           ", of an epoch older than the journal knows: going on from " +
                           to_string(table_.position_of(sink.delivery.acked())),
                       false});
    }
    return position(sink, sink.delivery.acked());
  }
  if (*offset < sink.floor && held.sequence != 0) {
    return park(sink, "is behind: it holds " + to_string(held) + ", but had acknowledged " +
                          to_string(table_.position_of(sink.floor)) +
                          "; was it restored from a backup? sink reset --from " + to_string(next) +
                          " sends again what is still here");
  }
  if (*offset < sink.floor && held.sequence == 0) {
    return park(sink, "holds nothing of epoch " + std::to_string(held.epoch) +
                          ", but had acknowledged " + to_string(table_.position_of(sink.floor)) +
                          "; sink reset --from " + to_string(next) +
                          " sends again what is still here");
  }
  if (fresh && *offset < sink.delivery.acked()) {
    // It holds less than where it was to begin: send what is still here, ledger the rest.
    deliver(sink, delivery::Held{false});
    move_cursor(sink, *offset, *offset, *offset);
    return;
  }
  if (*offset > head_) {
    sink.not_taken.push_back({head_ + 1, *offset, LossReason::crash});  // it may have skipped some
    out_->push_back(action::Note{
        sink.id, "is ahead, at " + to_string(held) + ": what it holds is not sent again", false});
  }
  sink.floor = std::max(sink.floor, *offset);
  position(sink, std::max(*offset, sink.delivery.acked()));
}

void StreamMachine::position(Sink& sink, Offset acked) {
  deliver(sink, delivery::Extended{sendable(), durable_.open ? durable_end_ : 0});
  if (sink.delivery.connected() && !sink.delivery.positioned()) {
    deliver(sink, delivery::Positioned{acked});
  }
}

void StreamMachine::park(Sink& sink, std::string reason) {
  out_->push_back(action::Note{sink.id, "parked: " + reason, true});
  state_of(sink).parked = std::move(reason);
  sink.report_waits = false;
  deliver(sink, delivery::Parked{});
  change();
}

// One record, or all parts of one, refused for good. The sink has taken nothing beyond it.
void StreamMachine::on(const event::SinkRejected& e) {
  Sink& sink = sink_of(e.sink);
  if (sink.delivery.attempt() != e.attempt || !sink.delivery.positioned()) return;
  if (e.first <= sink.delivery.acked() || e.last > sink.delivery.sent() || e.last < e.first) {
    return deliver(sink, delivery::Lost{e.attempt, SinkLoss::protocol});
  }
  deliver(sink, delivery::Held{true});
  sink.reported.reset();  // it has taken more since
  SinkState& state = state_of(sink);
  const std::string what =
      "record " + to_string(table_.position_of(e.first)) + " was refused: " + e.reason;
  if (sink.policy.on_reject == OnReject::park) return park(sink, what);
  if (state.dead_letter_bytes + e.bytes > sink.policy.dead_letter_bytes) {
    return park(sink, std::string(kDeadLettersFull) + "; " + what);
  }
  // Dead letter and cursor are one batch, durable before anything beyond is sent (D8).
  state.dead_letter_bytes += e.bytes;
  Loss loss = make_loss(sink.policy.name, e.first, e.last, LossReason::rejected, false);
  loss.text = e.reason;
  dead_letters_.push_back({sink.id, e.first, e.last, e.reason, now_.wall, e.bytes, loss.id});
  record_loss(std::move(loss));
  add_skip(sink, {e.first, e.last, LossReason::rejected});
}

void StreamMachine::on(const event::ReadDone& e) {
  Sink& sink = sink_of(e.sink);
  const bool damaged = e.ok && e.blocks.empty() && e.lost && sink.delivery.positioned() &&
                       sink.delivery.state() == State::replaying;
  if (!damaged || e.lost->second <= sink.delivery.sent()) {
    return deliver(sink, delivery::ReadDone{e.id, e.ok && !e.blocks.empty(), e.blocks});
  }
  // The journal has a hole: say what is lost, and deliver the intact part (G10, G11).
  if (!sink.delivery.reads(e.id)) return;
  const Offset first = sink.delivery.sent() + 1;
  const Offset last = std::min(e.lost->second, durable_end_);
  deliver(sink, delivery::Held{false});
  record_loss(make_loss(sink.policy.name, first, last, LossReason::corrupt, false));
  add_skip(sink, {first, last, LossReason::corrupt});
}

void StreamMachine::on(const event::SinkCommanded& e) {
  Sink& sink = sink_of(e.sink);
  SinkState& state = state_of(sink);
  switch (e.command) {
    case SinkCommand::pause:
      if (!state.paused) {
        state.paused = true;
        state.paused_since = now_.wall;
        sink.paused_at = now_.steady;
        sink.report_waits = false;
        deliver(sink, delivery::Paused{});
      }
      break;
    case SinkCommand::resume:
      if (sink.paused_at) {
        // The outage clock does not run while an operator pauses a sink.
        if (sink.outage_began) {
          *sink.outage_began += now_.steady - *sink.paused_at;
          state.outage_since = now_.wall - (now_.steady - *sink.outage_began).count();
        }
        sink.progress_at = now_.steady;
        sink.paused_at.reset();
      }
      state.paused = false;
      state.paused_since = 0;
      state.parked.clear();
      deliver(sink, delivery::Resumed{});
      break;
    case SinkCommand::reconnect:
      if (state.paused || !state.parked.empty()) {
        out_->push_back(action::Reply{e.request, false,
                                      std::string("the sink is ") +
                                          (state.paused ? "paused" : "parked: " + state.parked) +
                                          "; `sink resume` lets it go on"});
        return;
      }
      deliver(sink, delivery::Reconnect{});
      out_->push_back(action::Reply{e.request, true, "reconnecting"});
      return;
  }
  sink.answers.push_back({change(), e.request, std::string(name_of(sink.delivery.state()))});
}

std::optional<Offset> StreamMachine::reset_target(const std::optional<Position>& from) const {
  if (!from) return head_;
  const auto offset = table_.offset_of(*from);
  if (!offset) return table_.older_than_all(from->epoch) ? std::optional<Offset>(0) : std::nullopt;
  const bool at_base = from->sequence == 0 || *offset == 0;
  return std::min(at_base ? *offset : *offset - 1, head_);
}

// The cursor goes where the operator says, as far as records exist; the rest is ledgered (D5).
void StreamMachine::on(const event::SinkReset& e) {
  Sink& sink = sink_of(e.sink);
  const auto refuse = [&](std::string text) {
    out_->push_back(action::Reply{e.request, false, std::move(text)});
  };
  if (!known_) return refuse("the head of the stream is not known before a producer connects");
  if (sink.restart_change) return refuse("another reset of this sink is under way");
  const auto target = reset_target(e.from);
  if (!target) {
    return refuse("no epoch " + std::to_string(e.from->epoch) + " is known to this stream");
  }
  SinkState& state = state_of(sink);
  deliver(sink, delivery::Held{false});
  sink.report_waits = false;
  sink.waiting_skips.clear();
  if (state.dropping) {
    end_drop(sink);
    sink.waiting_skips.clear();
  }
  const Standing stands = standing(sink);  // what it dropped, it needs no more
  sink.ending_drop.reset();
  sink.drop_durable = false;
  state.parked.clear();
  const Offset goes_on = move_cursor(sink, *target, stands.took, stands.passed);
  sink.answers.push_back(
      {*sink.restart_change, e.request, "goes on after " + to_string(table_.position_of(goes_on))});
}

// To `target`, as far as records exist. The sink took all through `took`, and needs nothing through
// `passed`. Returns after which record it goes on.
Offset StreamMachine::move_cursor(Sink& sink, Offset target, Offset took, Offset passed) {
  SinkState& state = state_of(sink);
  state.skips.clear();
  // It goes on from a place that it has reached, and what lies between there and the first record
  // to come is told to it as a skip.
  state.cursor = sink.restart_at = std::min(target, took);
  const Offset goes_on = std::max(target, std::min(rewindable() - 1, head_));
  const auto lost = [&](Offset first, Offset last) {
    if (first > last) return;
    record_loss(make_loss(sink.policy.name, first, last, LossReason::reset, false));
  };
  if (const Offset first = std::min(target, passed) + 1; goes_on >= first) {
    // What an earlier reset could not give is on record, and gone for good.
    auto& known = sink.reset_lost;
    if (known && first <= known->second + 1 && goes_on + 1 >= known->first) {
      lost(first, std::min(goes_on, known->first - 1));
      lost(std::max(first, known->second + 1), goes_on);
      known = {std::min(first, known->first), std::max(goes_on, known->second)};
    } else {
      lost(first, goes_on);
      known = {first, goes_on};
    }
  }
  if (goes_on > state.cursor) add_skip(sink, {state.cursor + 1, goes_on, LossReason::reset});
  sink.floor = state.cursor;
  sink.restart_change = change();
  return goes_on;
}

void StreamMachine::add_skip(Sink& sink, SkipRange range) {
  recovery::add_skip(state_of(sink).skips, range);
  if (policy_.acks == Acks::quorum) sink.not_taken.push_back(range);
  sink.waiting_skips.push_back({range, change()});
}

// Connects anew from `at`; what is durable of its skips still holds.
void StreamMachine::restart(Sink& sink, Offset at, std::uint64_t running_bytes) {
  deliver(sink, delivery::Restarted{at, running_bytes});
  for (const SkipRange& range : durable_.sinks[value_of(sink.id)].skips) {
    if (range.last > at) deliver(sink, delivery::Skipped{range});
  }
}

// What waited for this sink's changes to be durable.
void StreamMachine::settle_sink(Sink& sink) {
  const SinkState& state = state_of(sink);
  if (state.dropping && !sink.drop_durable && durable_at(sink.drop_change)) {
    sink.drop_durable = true;
    if (sink.reopen_after_drop) {
      restart(sink, sink.delivery.acked(), sink.delivery.running_acked());
    }
    sink.reopen_after_drop = false;
  }
  if (sink.ending_drop && durable_at(sink.ending_change)) {
    sink.ending_drop.reset();
    sink.drop_durable = false;
  }
  if (sink.restart_change && durable_at(*sink.restart_change)) {
    sink.restart_change.reset();
    const BlockInfo* block = window_.find(sink.restart_at);
    const std::uint64_t running = block != nullptr           ? block->running_at(sink.restart_at)
                                  : sink.restart_at == head_ ? running_bytes_
                                                             : sink.delivery.running_acked();
    sink.progress_acked = std::min(sink.progress_acked, sink.restart_at);  // what comes is progress
    restart(sink, sink.restart_at, running);
  }
  // The machine of a sink that is being moved takes them up when it starts anew.
  while (!sink.waiting_skips.empty() && durable_at(sink.waiting_skips.front().change)) {
    const SkipRange range = sink.waiting_skips.front().range;
    sink.waiting_skips.erase(sink.waiting_skips.begin());
    if (range.last > sink.delivery.acked()) deliver(sink, delivery::Skipped{range});
  }
  std::erase_if(sink.answers, [&](Sink::Answer& answer) {
    if (!durable_at(answer.change)) return false;
    out_->push_back(action::Reply{answer.request, true, std::move(answer.text)});
    return true;
  });
}

}  // namespace spillway::recovery
