// What a stream says of itself: status for operators, gauges for monitors.
#include <algorithm>
#include <utility>

#include "broker/log/log.h"
#include "broker/stream.h"

namespace spillway::broker {

namespace {

double seconds(recovery::Millis duration) {
  return std::chrono::duration<double>(duration).count();
}

double age_seconds(const recovery::Now& at, recovery::WallMs since) {
  return since == 0 ? 0
                    : static_cast<double>(std::max<recovery::WallMs>(0, at.wall - since)) / 1000;
}

template <class T>
LimitStatus<T> limit_status(std::optional<T> limit, T used) {
  if (!limit) return {};
  return {limit, *limit - std::min(*limit, used)};
}

std::optional<double> in_seconds(const std::optional<recovery::Millis>& duration) {
  return duration ? std::optional(seconds(*duration)) : std::nullopt;
}

std::string_view word_for(config::OnLimit on_limit) {
  switch (on_limit) {
    case config::OnLimit::block: return "block";
    case config::OnLimit::drop_oldest: return "drop_oldest";
    case config::OnLimit::halt: break;
  }
  return "halt";
}

std::string_view word_for(config::Acks acks) {
  switch (acks) {
    case config::Acks::none: return "none";
    case config::Acks::quorum: return "quorum";
    case config::Acks::all: break;
  }
  return "all";
}

// Operators know three: what opens is not open yet, what seals is not closed yet.
std::string_view word_for(recovery::Coverage coverage) {
  switch (coverage) {
    case recovery::Coverage::unknown: return "unknown";
    case recovery::Coverage::open: return "open";
    case recovery::Coverage::closing:
    case recovery::Coverage::sealing: return "closing";
    case recovery::Coverage::closed:
    case recovery::Coverage::opening: break;
  }
  return "closed";
}

CauseStatus cause_status(const recovery::HaltCause& cause) {
  return {std::string(recovery::name_of(cause.kind)), cause.sink, cause.text, cause.position,
          cause.since};
}

bool has(const std::vector<recovery::HaltCause>& causes, const recovery::HaltCause& cause) {
  return std::ranges::any_of(causes, [&cause](const recovery::HaltCause& other) {
    return other.kind == cause.kind && other.sink == cause.sink;
  });
}

}  // namespace

HaltStatus halt_status(const std::vector<recovery::HaltCause>& causes) {
  HaltStatus status;
  status.active = !causes.empty();
  std::ranges::transform(causes, std::back_inserter(status.causes), cause_status);
  return status;
}

StreamStatus Stream::status() const {
  const recovery::Now at = now();
  StreamStatus status;
  status.name = name_;
  status.acks = word_for(config_.acks);
  status.coverage = word_for(machine_.coverage());
  if (!started_) {  // the machine knows nothing of its sinks while the journal is read
    for (const auto& slot : slots_) {
      SinkStatus sink;
      sink.name = slot->config.name;
      sink.type = config::type_of(slot->config);
      sink.state = recovery::name_of(recovery::State::journaling);
      status.sinks.push_back(std::move(sink));
    }
    return status;
  }
  status.held = position_of(machine_.head());
  status.safe = position_of(machine_.safe());
  status.taken = position_of(machine_.taken());
  status.window.bytes = machine_.window().bytes();
  status.window.max_bytes = config_.window_bytes;
  if (machine_.durable().open && machine_.journal_end() > machine_.watermark()) {
    status.journal.first =
        position_of(std::max(machine_.durable().first, machine_.watermark() + 1));
    status.journal.end = position_of(machine_.journal_end());
    for (const auto& slot : slots_) {
      status.journal.bytes = std::max(status.journal.bytes, machine_.backlog(slot->id).bytes);
    }
  }
  status.producer.generation = machine_.wanted().generation;
  if (const auto session = machine_.session()) {
    status.producer.connected = true;
    const auto found = sessions_.find(*session);
    if (found != sessions_.end()) status.producer.address = found->second->address();
  }
  status.blocked = machine_.blocked();
  status.halt = halt_status(machine_.causes());
  for (const auto& slot : slots_) status.sinks.push_back(sink_status(*slot, at));
  return status;
}

SinkStatus Stream::sink_status(const Slot& slot, const recovery::Now& at) const {
  const auto& delivery = machine_.delivery(slot.id);
  const recovery::SinkState& state = machine_.wanted().sinks[value_of(slot.id)];
  const auto backlog = machine_.backlog(slot.id);
  const auto outage = machine_.outage(slot.id);
  const auto limits = machine_.limits(slot.id);
  SinkStatus status;
  status.name = slot.config.name;
  status.type = config::type_of(slot.config);
  status.state = recovery::name_of(delivery.state());
  status.connected = delivery.connected();
  status.refusing = delivery.refusing();
  status.parked = state.parked;
  status.cursor = position_of(machine_.durable().sinks[value_of(slot.id)].cursor);
  status.acked = position_of(delivery.acked());
  status.sent = position_of(delivery.sent());
  status.backlog = {backlog.records, backlog.bytes, age_seconds(at, backlog.oldest_received)};
  status.limits.on_limit = word_for(slot.config.on_limit);
  status.limits.max_bytes = limit_status(limits.max_bytes, backlog.bytes);
  status.limits.max_records = limit_status(slot.config.max_records, backlog.records);
  status.limits.max_age_seconds =
      limit_status(in_seconds(limits.max_age), status.backlog.age_seconds);
  status.limits.outage_timeout_seconds = {in_seconds(limits.outage_timeout),
                                          in_seconds(limits.outage_timeout)};
  status.limits.dead_letter_bytes = limit_status(
      std::optional<std::uint64_t>(slot.config.dead_letter_bytes), state.dead_letter_bytes);
  if (outage.on) {
    status.outage = SinkStatus::Outage{outage.since, in_seconds(outage.remaining)};
    if (outage.remaining) {
      status.limits.outage_timeout_seconds.left = std::max(0.0, seconds(*outage.remaining));
    }
  }
  status.last_error = slot.last_error;
  status.attempts = slot.attempts;
  return status;
}

void Stream::sample() {
  if (!started_) return;
  const recovery::Now at = now();
  metrics::StreamSample sample;
  sample.received = position_of(machine_.head());
  if (machine_.durable().open) sample.durable = position_of(machine_.journal_end());
  sample.safe = position_of(machine_.safe());
  sample.window_bytes = machine_.window().bytes();
  const recovery::Coverage coverage = machine_.coverage();
  sample.coverage_open = coverage == recovery::Coverage::open ||
                         coverage == recovery::Coverage::closing ||
                         coverage == recovery::Coverage::sealing;
  sample.blocked = machine_.blocked();
  sample.producer_connected = machine_.session().has_value();
  if (machine_.durable().open) {
    sample.journal_records =
        machine_.journal_end() - std::min(machine_.journal_end(), machine_.watermark());
    for (const auto& slot : slots_) {
      sample.journal_bytes = std::max(sample.journal_bytes, machine_.backlog(slot->id).bytes);
    }
  }
  probe_.sampled(sample);
  double left = machine_.halted() ? 0 : metrics::kNever;
  for (const auto& slot : slots_) {
    sample_sink(*slot, at);
    left = std::min(left, forecast(*slot, at));
  }
  limit_left_ = left;
}

// What waits for a live sink is bounded by the window, and counts for no limit.
double Stream::forecast(Slot& slot, const recovery::Now& at) const {
  const auto backlog = machine_.backlog(slot.id);
  if (machine_.delivery(slot.id).state() == recovery::State::live || backlog.records == 0) {
    slot.backlog_bytes.reset();
    slot.backlog_records.reset();
    return metrics::kNever;
  }
  const double now_seconds = seconds(at.steady.time_since_epoch());
  slot.backlog_bytes.observe(now_seconds, static_cast<double>(backlog.bytes));
  slot.backlog_records.observe(now_seconds, static_cast<double>(backlog.records));
  double left = metrics::kNever;
  if (const auto limit = machine_.limits(slot.id).max_bytes; limit && *limit != 0) {
    left = std::min(left, slot.backlog_bytes.seconds_below(static_cast<double>(*limit)));
  }
  if (const auto limit = slot.config.max_records) {
    left = std::min(left, slot.backlog_records.seconds_below(static_cast<double>(*limit)));
  }
  return left;
}

void Stream::sample_sink(Slot& slot, const recovery::Now& at) {
  const Offset cursor = machine_.durable().sinks[value_of(slot.id)].cursor;
  std::erase_if(slot.dead, [cursor](const DeadRecord& dead) { return dead.last <= cursor; });
  const auto& delivery = machine_.delivery(slot.id);
  const auto backlog = machine_.backlog(slot.id);
  metrics::SinkSample sample;
  sample.cursor = position_of(cursor);
  sample.lag_records = backlog.records;
  sample.lag_bytes = backlog.bytes;
  sample.lag_seconds = age_seconds(at, backlog.oldest_received);
  sample.in_flight_records = delivery.sent() - delivery.acked();
  sample.in_flight_bytes = delivery.in_flight_bytes();
  if (machine_.durable().open) {
    const Offset end = machine_.journal_end();
    sample.journal_records = end - std::min(end, machine_.effective(slot.id));
    if (sample.journal_records > 0) {
      sample.journal_bytes = backlog.bytes;
      sample.journal_oldest_seconds = static_cast<double>(backlog.oldest_received) / 1000;
    }
  }
  if (slot.replaying_since) {
    sample.replay_remaining_records = backlog.records;
    const double elapsed = seconds(at.steady - *slot.replaying_since);
    const auto replayed =
        static_cast<double>(delivery.acked() - std::min(delivery.acked(), slot.replay_from));
    if (elapsed > 0 && replayed > 0) {
      sample.replay_eta_seconds = static_cast<double>(backlog.records) / (replayed / elapsed);
    }
  }
  const auto outage = machine_.outage(slot.id);
  if (outage.on && outage.remaining) {
    sample.outage_remaining_seconds = std::max(0.0, seconds(*outage.remaining));
  } else if (const auto timeout = machine_.limits(slot.id).outage_timeout; !outage.on && timeout) {
    sample.outage_remaining_seconds = seconds(*timeout);
  }
  if (delivery.state() == recovery::State::journaling && !delivery.connected()) {
    if (const auto deadline = delivery.deadline()) {
      sample.backoff_seconds = std::max(0.0, seconds(*deadline - at.steady));
    }
  }
  sample.dead_letter_bytes = machine_.wanted().sinks[value_of(slot.id)].dead_letter_bytes;
  slot.probe.sampled(sample);
}

void Stream::note_outage(Slot& slot, const recovery::Now& at) {
  const auto outage = machine_.outage(slot.id);
  if (outage.on && !slot.outage_since) {
    slot.outage_since = outage.since;
    slot.probe.outage_began(static_cast<double>(outage.since) / 1000);
  } else if (!outage.on && slot.outage_since) {
    slot.probe.outage_ended(age_seconds(at, *slot.outage_since));
    slot.outage_since.reset();
  }
}

// Blocks that became safe since the last look.
void Stream::note_safe() {
  const Offset safe = machine_.safe();
  while (safe_noted_ < safe) {
    const Block* const block = window_.find(safe_noted_ + 1);
    if (block == nullptr) {
      safe_noted_ = safe;  // nothing that this process received
      return;
    }
    const Offset through = std::min(safe, block->last());
    const auto age = std::max<recovery::WallMs>(0, now().wall - block->received_ms);
    probe_.acknowledged(through - safe_noted_, static_cast<double>(age) / 1000);
    safe_noted_ = through;
  }
}

void Stream::note_causes() {
  const std::vector<recovery::HaltCause>& causes = machine_.causes();
  if (causes == causes_noted_) return;
  for (const recovery::HaltCause& cause : causes) {
    if (!has(causes_noted_, cause)) log_halt(cause);
  }
  for (const recovery::HaltCause& cause : causes_noted_) {
    if (has(causes, cause)) continue;
    log::info("cause of a halt is gone", {{"stream", name_},
                                          {"sink", cause.sink},
                                          {"cause", recovery::name_of(cause.kind)},
                                          {"left", causes.size()}});
  }
  causes_noted_ = causes;
  std::vector<metrics::HaltCause> told;
  for (const recovery::HaltCause& cause : causes) {
    told.push_back({recovery::name_of(cause.kind), static_cast<double>(cause.since) / 1000});
  }
  probe_.halted_by(told);
}

// Also what a start finds latched. A cause of the stream's own has no sink.
void Stream::log_halt(const recovery::HaltCause& cause) const {
  log::error("stream halted", {{"stream", name_},
                               {"sink", cause.sink},
                               {"position", cause.position},
                               {"cause", recovery::name_of(cause.kind)},
                               {"text", cause.text}});
}

void Stream::note_blocked() {
  const bool blocked = machine_.blocked();
  if (blocked == std::exchange(blocked_noted_, blocked)) return;
  if (blocked) {
    log::warning("stream blocked", {{"stream", name_},
                                    {"position", position_of(machine_.head())},
                                    {"safe", position_of(machine_.safe())}});
  } else {
    log::info("stream no longer blocked",
              {{"stream", name_}, {"position", position_of(machine_.head())}});
  }
}

}  // namespace spillway::broker
