#include "broker/stream.h"

namespace spillway::broker {

namespace {

recovery::Acks acks_of(config::Acks acks) {
  switch (acks) {
    case config::Acks::none: return recovery::Acks::none;
    case config::Acks::quorum: return recovery::Acks::quorum;
    case config::Acks::all: break;
  }
  return recovery::Acks::all;
}

recovery::OnLimit on_limit_of(config::OnLimit on_limit) {
  switch (on_limit) {
    case config::OnLimit::block: return recovery::OnLimit::block;
    case config::OnLimit::drop_oldest: return recovery::OnLimit::drop_oldest;
    case config::OnLimit::halt: break;
  }
  return recovery::OnLimit::halt;
}

recovery::StartAt start_at_of(const config::StartAt& start_at) {
  using Kind = recovery::StartAt::Kind;
  switch (start_at.kind) {
    case config::StartAt::Kind::earliest: return {Kind::earliest, 0, 0};
    case config::StartAt::Kind::position:
      return {Kind::position, start_at.position.epoch, start_at.position.sequence};
    case config::StartAt::Kind::latest: break;
  }
  return {};
}

recovery::SinkPolicy policy_of(const config::Sink& sink) {
  recovery::SinkPolicy policy;
  policy.name = sink.name;
  policy.identity = config::sink_identity(sink);
  policy.on_limit = on_limit_of(sink.on_limit);
  policy.on_reject = sink.on_reject == config::OnReject::park ? recovery::OnReject::park
                                                              : recovery::OnReject::dead_letter;
  policy.ack_timeout = sink.ack_timeout;
  policy.outage_timeout = sink.outage_timeout;
  policy.max_bytes = sink.max_bytes.value_or(recovery::kUnlimited);
  policy.max_records = sink.max_records.value_or(recovery::kUnlimited);
  policy.max_age = sink.max_age;
  policy.dead_letter_bytes = sink.dead_letter_bytes;
  policy.start_at = start_at_of(sink.start_at);
  policy.reconnect = {sink.reconnect.initial, sink.reconnect.max, sink.reconnect.multiplier,
                      sink.reconnect.jitter};
  policy.max_in_flight = sink.replay.max_in_flight;
  policy.replay_rate = sink.replay.rate_limit.value_or(recovery::kUnlimited);
  return policy;
}

}  // namespace

recovery::StreamPolicy policy_of(const config::Stream& stream, const config::Journal& journal,
                                 std::uint64_t seed) {
  recovery::StreamPolicy policy;
  policy.acks = acks_of(stream.acks);
  policy.quorum = stream.quorum;
  policy.journal = stream.journal == config::JournalMode::always
                       ? recovery::JournalMode::always
                       : recovery::JournalMode::on_failure;
  policy.window_bytes = stream.window_bytes;
  policy.spill_after = stream.spill_after;
  policy.checkpoint_interval = stream.checkpoint_interval;
  policy.on_gap =
      stream.on_gap == config::OnGap::halt ? recovery::OnGap::halt : recovery::OnGap::record;
  policy.journal_timeout = journal.journal_timeout;
  policy.seed = seed;
  for (const config::Sink& sink : stream.sinks) policy.sinks.push_back(policy_of(sink));
  return policy;
}

}  // namespace spillway::broker
