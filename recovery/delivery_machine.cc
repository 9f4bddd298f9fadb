#include "recovery/delivery_machine.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/invariant.h"

namespace spillway::recovery {

namespace {

constexpr Millis kReadRetry{200};

constexpr std::array kTransitions = {
    DeliveryTransition{State::journaling, State::live, Cause::positioned_live},
    DeliveryTransition{State::journaling, State::replaying, Cause::positioned_replaying},
    DeliveryTransition{State::replaying, State::live, Cause::caught_up},
    DeliveryTransition{State::live, State::replaying, Cause::fell_behind},
    DeliveryTransition{State::live, State::journaling, Cause::lost},
    DeliveryTransition{State::live, State::journaling, Cause::refused},
    DeliveryTransition{State::live, State::journaling, Cause::protocol},
    DeliveryTransition{State::live, State::journaling, Cause::ack_timeout},
    DeliveryTransition{State::live, State::journaling, Cause::rejected},
    DeliveryTransition{State::live, State::journaling, Cause::moved},
    DeliveryTransition{State::live, State::journaling, Cause::stopped},
    DeliveryTransition{State::replaying, State::journaling, Cause::lost},
    DeliveryTransition{State::replaying, State::journaling, Cause::refused},
    DeliveryTransition{State::replaying, State::journaling, Cause::protocol},
    DeliveryTransition{State::replaying, State::journaling, Cause::ack_timeout},
    DeliveryTransition{State::replaying, State::journaling, Cause::rejected},
    DeliveryTransition{State::replaying, State::journaling, Cause::moved},
    DeliveryTransition{State::replaying, State::journaling, Cause::stopped},
    DeliveryTransition{State::journaling, State::parked, Cause::parked},
    DeliveryTransition{State::journaling, State::paused, Cause::paused},
    DeliveryTransition{State::replaying, State::paused, Cause::paused},
    DeliveryTransition{State::live, State::paused, Cause::paused},
    DeliveryTransition{State::parked, State::paused, Cause::paused},
    DeliveryTransition{State::parked, State::journaling, Cause::resumed},
    DeliveryTransition{State::paused, State::journaling, Cause::resumed},
    DeliveryTransition{State::parked, State::journaling, Cause::moved},
};

Cause cause_of(SinkLoss loss) {
  switch (loss) {
    case SinkLoss::refused: return Cause::refused;
    case SinkLoss::protocol: return Cause::protocol;
    case SinkLoss::connect_failed:
    case SinkLoss::broken: break;
  }
  return Cause::lost;
}

}  // namespace

std::span<const DeliveryTransition> delivery_transitions() { return kTransitions; }

std::string_view name_of(State state) {
  switch (state) {
    case State::journaling: return "journaling";
    case State::replaying: return "replaying";
    case State::live: return "live";
    case State::parked: return "parked";
    case State::paused: return "paused";
  }
  return "unknown";
}

std::string_view name_of(Cause cause) {
  switch (cause) {
    case Cause::started: return "started";
    case Cause::caught_up: return "caught_up";
    case Cause::fell_behind: return "fell_behind";
    case Cause::positioned_live: return "positioned_live";
    case Cause::positioned_replaying: return "positioned_replaying";
    case Cause::lost: return "lost";
    case Cause::refused: return "refused";
    case Cause::protocol: return "protocol";
    case Cause::ack_timeout: return "ack_timeout";
    case Cause::rejected: return "rejected";
    case Cause::moved: return "moved";
    case Cause::paused: return "paused";
    case Cause::parked: return "parked";
    case Cause::resumed: return "resumed";
    case Cause::stopped: return "stopped";
  }
  return "unknown";
}

DeliveryMachine::DeliveryMachine(SinkId id, const SinkPolicy& policy, const WindowIndex& window,
                                 std::uint64_t seed)
    : id_(id), policy_(policy), window_(window), backoff_(policy.reconnect, seed) {}

void DeliveryMachine::step(Instant now, const delivery::Event& event, std::vector<Action>& out) {
  INVARIANT(out_ == nullptr);
  INVARIANT(now >= now_);
  now_ = now;
  out_ = &out;
  std::visit([this](const auto& e) { on(e); }, event);
  check();
  out_ = nullptr;
}

std::optional<Instant> DeliveryMachine::deadline() const {
  std::optional<Instant> first;
  for (const auto& at : {connect_at_, ack_by_, read_at_}) {
    if (at && (!first || *at < *first)) first = at;
  }
  return first;
}

void DeliveryMachine::on(const delivery::Started& e) {
  INVARIANT(attempt_ == Attempt{});
  acked_ = sent_ = e.acked;
  acked_bytes_ = e.running_bytes;
  oldest_received_ = e.oldest_received;
  attempted_ = e.parked;  // there is none before an operator's word
  if (e.parked) return enter(State::parked, Cause::parked);
  if (e.paused) return enter(State::paused, Cause::paused);
  connect();
}

void DeliveryMachine::on(const delivery::Extended& e) {
  INVARIANT(e.head >= head_);
  head_ = e.head;
  readable_ = e.readable;
  pump();
}

void DeliveryMachine::on(const delivery::Connected& e) {
  if (e.attempt != attempt_ || !connecting_) return;
  connecting_ = false;
  connected_ = true;
  attempted_ = true;
}

void DeliveryMachine::on(const delivery::Positioned& e) {
  INVARIANT(connected_ && !positioned_);
  INVARIANT(in_flight_.empty());
  set_acked(std::max(e.acked, acked_));
  sent_ = acked_;
  positioned_ = true;
  const bool live = sent_ + 1 >= window_.first();
  enter(live ? State::live : State::replaying,
        live ? Cause::positioned_live : Cause::positioned_replaying);
  pump();
}

void DeliveryMachine::on(const delivery::Lost& e) {
  if (e.attempt != attempt_ || (!connecting_ && !connected_)) return;
  connecting_ = connected_ = false;  // it has ended by itself: nothing to close
  attempted_ = true;
  refusing_ = e.cause == SinkLoss::refused;
  lose(State::journaling, cause_of(e.cause));
  retry_later();
}

void DeliveryMachine::on(const delivery::Acked& e) {
  if (e.attempt != attempt_ || !positioned_) return;
  if (e.through > sent_) {
    lose(State::journaling, Cause::protocol);
    return retry_later();
  }
  if (e.through <= acked_) return;
  backoff_.reset();
  refusing_ = false;
  set_acked(e.through);
  ack_by_ = sent_ > acked_ ? std::optional(now_ + policy_.ack_timeout) : std::nullopt;
  pump();
}

void DeliveryMachine::on(const delivery::Held& e) {
  if (e.rejected) connecting_ = connected_ = false;
  held_ = true;
  if (state_ == State::paused || state_ == State::parked) return;
  attempted_ = false;  // the sink is not lost before it does not come back
  lose(State::journaling, e.rejected ? Cause::rejected : Cause::moved);
}

void DeliveryMachine::on(const delivery::Released&) {
  held_ = false;
  if (state_ == State::journaling && !connecting_ && !connected_) retry_later();
}

void DeliveryMachine::on(const delivery::Skipped& e) {
  INVARIANT(!positioned_ || e.range.first > sent_);
  add_skip(skips_, e.range);  // one that grows comes again with the same beginning
  held_ = false;
  if (state_ == State::journaling && !connecting_ && !connected_) return connect();
  pump();
}

void DeliveryMachine::on(const delivery::Restarted& e) {
  held_ = false;
  attempted_ = false;  // from there
  if (state_ != State::paused) lose(State::journaling, Cause::moved);
  acked_ = sent_ = e.acked;
  acked_bytes_ = e.running_bytes;
  oldest_received_ = 0;
  skips_.clear();  // the stream machine says again which of them still hold
  backoff_.reset();
  if (state_ == State::journaling) connect();
}

void DeliveryMachine::on(const delivery::Corrected& e) {
  INVARIANT(in_flight_.empty());
  acked_ = sent_ = e.acked;
}

void DeliveryMachine::on(const delivery::Clamped& e) {
  std::erase_if(skips_, [&](const SkipRange& range) { return range.first > e.head; });
  if (!skips_.empty()) skips_.back().last = std::min(skips_.back().last, e.head);
  if (acked_ <= e.head) return;
  INVARIANT(in_flight_.empty());
  acked_ = sent_ = e.head;
}

void DeliveryMachine::on(const delivery::ReadDone& e) {
  if (reading_ != e.id) return;
  reading_.reset();
  if (!e.ok) {
    read_at_ = now_ + kReadRetry;
    return;
  }
  const Offset first = sent_ + 1;
  std::uint64_t bytes = 0;
  for (const BlockInfo& block : e.blocks) {
    const Offset last = std::min(block.last, read_through_);
    if (last <= sent_) continue;
    INVARIANT(block.first <= sent_ + 1);
    if (sent_ == acked_) acked_bytes_ = block.running_at(sent_);
    note_sent(block, sent_ + 1, last);
    bytes += block.bytes;
  }
  if (sent_ >= first) {
    out_->push_back(action::Send{id_, attempt_, first, sent_, Source::journal, e.id});
  }
  if (policy_.replay_rate != kUnlimited) {
    const auto cost = Millis(static_cast<Millis::rep>(bytes * 1000 / policy_.replay_rate));
    rate_free_at_ = std::max(now_, rate_free_at_) + cost;
  }
  pump();
}

void DeliveryMachine::on(const delivery::Parked&) {
  held_ = false;
  attempted_ = true;
  if (state_ != State::parked) lose(State::parked, Cause::parked);
}

void DeliveryMachine::on(const delivery::Paused&) {
  if (state_ != State::paused) lose(State::paused, Cause::paused);
}

void DeliveryMachine::on(const delivery::Resumed&) {
  if (state_ != State::paused && state_ != State::parked) return;
  enter(State::journaling, Cause::resumed);
  backoff_.reset();
  if (!held_) connect();
}

void DeliveryMachine::on(const delivery::Reconnect&) {
  if (state_ != State::journaling || connected_ || held_) return;
  if (connecting_) close_connection();
  backoff_.reset();
  connect();
}

void DeliveryMachine::on(const delivery::Ticked&) {
  if (connect_at_ && now_ >= *connect_at_) {
    connect_at_.reset();
    connect();
  }
  if (ack_by_ && now_ >= *ack_by_) {
    lose(State::journaling, Cause::ack_timeout);
    retry_later();
  }
  if (read_at_ && now_ >= *read_at_) {
    read_at_.reset();
    pump();
  }
}

void DeliveryMachine::on(const delivery::Stopped&) {
  if (state_ == State::live || state_ == State::replaying) {
    lose(State::journaling, Cause::stopped);
  } else {
    close_connection();
  }
  connect_at_.reset();
  stopped_ = true;
}

// Every change of state passes here, and only what the table has.
void DeliveryMachine::enter(State to, Cause cause) {
  const State from = std::exchange(state_, to);
  if (from == to) return;
  INVARIANT(std::ranges::any_of(kTransitions, [&](const DeliveryTransition& t) {
    return t.from == from && t.to == to && t.cause == cause;
  }));
  out_->push_back(action::Moved{id_, from, to, cause});
}

void DeliveryMachine::connect() {
  INVARIANT(state_ == State::journaling && !connecting_ && !connected_);
  connect_at_.reset();
  if (stopped_) return;
  connecting_ = true;
  attempt_ = Attempt{value_of(attempt_) + 1};  // whatever the last one still reports is stale now
  out_->push_back(action::Connect{id_, attempt_});
}

void DeliveryMachine::close_connection() {
  if (connecting_ || connected_) out_->push_back(action::Close{id_, attempt_});
  connecting_ = connected_ = positioned_ = false;
  inside_record_ = false;
  sent_ = acked_;
  in_flight_.clear();
  in_flight_bytes_ = 0;
  reading_.reset();
  ack_by_.reset();
  read_at_.reset();
}

void DeliveryMachine::lose(State to, Cause cause) {
  close_connection();
  connect_at_.reset();
  enter(to, cause);
}

void DeliveryMachine::retry_later() {
  if (!held_ && !stopped_) connect_at_ = now_ + backoff_.next();
}

bool DeliveryMachine::may_send_more() const {
  if (!positioned_ || held_ || reading_) return false;
  return in_flight_bytes_ < policy_.max_in_flight || inside_record_;
}

const SkipRange* DeliveryMachine::skip_at_or_after(Offset offset) const {
  const auto skip = std::ranges::lower_bound(skips_, offset, {}, &SkipRange::last);
  return skip == skips_.end() ? nullptr : &*skip;
}

void DeliveryMachine::pump() {
  while (may_send_more()) {
    const Offset next = sent_ + 1;
    const SkipRange* skip = skip_at_or_after(next);
    if (next > head_) break;
    if (skip != nullptr && skip->first <= next) {
      send_skip(*skip);
      continue;
    }
    const Offset limit = skip == nullptr ? head_ : std::min(head_, skip->first - 1);
    if (next > limit) break;
    if (next < window_.first()) {
      settle_state();
      request_read(limit);
      return;
    }
    settle_state();
    send_from_window(limit);
  }
  settle_state();
}

// Live or replaying is only where the next record is read from.
void DeliveryMachine::settle_state() {
  if (!positioned_ || reading_) return;
  const bool in_window = sent_ + 1 >= window_.first();
  if (state_ == State::live && !in_window) enter(State::replaying, Cause::fell_behind);
  if (state_ == State::replaying && in_window) enter(State::live, Cause::caught_up);
}

void DeliveryMachine::send_from_window(Offset limit) {
  const Offset first = sent_ + 1;
  const auto& blocks = window_.blocks();
  const BlockInfo* found = window_.find(first);
  INVARIANT(found != nullptr);
  auto block = std::ranges::lower_bound(blocks, first, {}, &BlockInfo::last);
  while (block != blocks.end() && sent_ < limit && may_send_more()) {
    note_sent(*block, sent_ + 1, std::min(block->last, limit));
    ++block;
  }
  INVARIANT(sent_ >= first);
  out_->push_back(action::Send{id_, attempt_, first, sent_, Source::memory, 0});
}

void DeliveryMachine::send_skip(const SkipRange& range) {
  const Offset first = sent_ + 1;
  const Offset last =
      std::min(range.last, head_);  // after a crash it may wait for what comes again
  BlockInfo block;
  block.first = first;
  block.last = last;
  block.running_bytes = in_flight_.empty() ? acked_bytes_ : in_flight_.back().running_bytes;
  if (const BlockInfo* info = window_.find(last)) block.running_bytes = info->running_at(last);
  note_sent(block, first, last);
  out_->push_back(action::SendSkip{id_, attempt_, first, last, range.reason});
}

void DeliveryMachine::request_read(Offset limit) {
  if (read_at_ && now_ < *read_at_) return;
  read_at_.reset();
  // Not inside a record: a sink that assembles it is silent until it has the rest.
  if (policy_.replay_rate != kUnlimited && now_ < rate_free_at_ && !inside_record_) {
    read_at_ = rate_free_at_;
    return;
  }
  const Offset from = sent_ + 1;
  read_through_ = std::min(limit, readable_);
  INVARIANT(from <= read_through_);  // what has left the window is in the journal
  reading_ = ++read_id_;
  const std::uint64_t room =
      policy_.max_in_flight - std::min(in_flight_bytes_, policy_.max_in_flight);
  out_->push_back(action::Read{id_, read_id_, from, read_through_,
                               std::clamp<std::uint64_t>(room, 1, kReadBytes)});
}

void DeliveryMachine::note_sent(const BlockInfo& block, Offset first, Offset last) {
  if (sent_ == acked_) {
    ack_by_ = now_ + policy_.ack_timeout;
    oldest_received_ = block.received;
  }
  BlockInfo part = block;
  const std::uint64_t running_before = block.running_at(first - 1);
  part.first = first;
  part.last = last;
  part.running_bytes = block.running_at(last);
  part.bytes = part.running_bytes - std::min(running_before, part.running_bytes);
  in_flight_bytes_ += part.bytes;
  in_flight_.push_back(part);
  inside_record_ = last == block.last && block.inside_record;
  sent_ = last;
}

void DeliveryMachine::set_acked(Offset acked) {
  acked_ = acked;
  while (!in_flight_.empty() && in_flight_.front().last <= acked) {
    acked_bytes_ = in_flight_.front().running_bytes;
    in_flight_bytes_ -= in_flight_.front().bytes;
    in_flight_.pop_front();
  }
  if (!in_flight_.empty()) {
    BlockInfo& front = in_flight_.front();
    acked_bytes_ = front.running_at(acked);
    const std::uint64_t left = front.running_bytes - acked_bytes_;
    in_flight_bytes_ -= front.bytes - std::min(left, front.bytes);
    front.bytes = std::min(left, front.bytes);
    front.first = acked + 1;
  } else if (const BlockInfo* block = window_.find(acked)) {
    acked_bytes_ = block->running_at(acked);
  }
  const BlockInfo* next = window_.find(acked + 1);
  if (next == nullptr && !in_flight_.empty()) next = &in_flight_.front();
  oldest_received_ = next != nullptr ? next->received : 0;
  while (!skips_.empty() && skips_.front().last <= acked_) skips_.pop_front();
}

void DeliveryMachine::check() const {
  INVARIANT(acked_ <= sent_);
  INVARIANT(sent_ <= std::max(head_, acked_));
  INVARIANT(!(connecting_ && connected_));
  INVARIANT(!positioned_ || connected_);
  INVARIANT(!reading_ || (positioned_ && state_ == State::replaying));
  if (state_ == State::live || state_ == State::replaying) INVARIANT(positioned_ && !held_);
  if (state_ == State::journaling) INVARIANT(!positioned_ && sent_ == acked_);
  if (state_ == State::parked || state_ == State::paused) INVARIANT(!connecting_ && !connected_);
  if (sent_ == acked_) INVARIANT(in_flight_bytes_ == 0);
}

}  // namespace spillway::recovery
