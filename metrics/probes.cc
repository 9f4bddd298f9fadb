#include "metrics/probes.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>

#include <algorithm>
#include <iterator>

#include "base/invariant.h"

namespace spillway::metrics {
namespace {

double number(std::uint64_t value) { return static_cast<double>(value); }

// Brings a counter to a total that another part keeps.
void raise_to(prometheus::Counter& counter, double total) {
  counter.Increment(std::max(0.0, total - counter.Value()));
}

template <std::size_t N>
std::size_t index_in(const std::array<std::string_view, N>& names, std::string_view name) {
  const auto found = std::find(names.begin(), names.end(), name);
  INVARIANT(found != names.end());
  return static_cast<std::size_t>(std::distance(names.begin(), found));
}

// The same labels and one more.
Labels with(Labels labels, const std::string& key, std::string_view value) {
  labels[key] = value;
  return labels;
}

Labels of(const StreamOptions& options) { return {{"stream", options.stream}}; }
Labels of(const SinkOptions& options) {
  return {{"stream", options.stream}, {"sink", options.sink}};
}

PositionGauges position(Metrics& metrics, const std::string& prefix, const Labels& labels) {
  return {metrics.gauge(prefix + "_epoch", labels), metrics.gauge(prefix + "_sequence", labels)};
}

}  // namespace

void PositionGauges::set(Position position) {
  epoch.Set(number(position.epoch));
  sequence.Set(number(position.sequence));
}

StreamProbe::StreamProbe(Metrics& metrics, const StreamOptions& options)
    : received_messages_(metrics.counter("spillway_received_messages_total", of(options))),
      received_bytes_(metrics.counter("spillway_received_bytes_total", of(options))),
      acked_messages_(metrics.counter("spillway_acked_messages_total",
                                      with(of(options), "policy", options.acks))),
      ack_latency_(metrics.histogram("spillway_ack_latency_seconds",
                                     with(of(options), "policy", options.acks))),
      duplicates_(metrics.counter("spillway_duplicates_dropped_total", of(options))),
      gaps_(metrics.counter("spillway_sequence_gaps_total", of(options))),
      violations_(metrics.counter("spillway_order_violations_total", of(options))),
      recovered_(metrics.counter("spillway_journal_recovered_messages_total", of(options))),
      lost_(metrics.counter("spillway_journal_lost_messages_total", of(options))),
      received_position_(position(metrics, "spillway_last_received", of(options))),
      durable_position_(position(metrics, "spillway_durable", of(options))),
      safe_position_(position(metrics, "spillway_safe", of(options))),
      window_bytes_(metrics.gauge("spillway_window_bytes", of(options))),
      coverage_open_(metrics.gauge("spillway_coverage_open", of(options))),
      blocked_(metrics.gauge("spillway_stream_blocked", of(options))),
      producer_connected_(metrics.gauge("spillway_producer_connected", of(options))),
      journal_bytes_(metrics.gauge("spillway_journal_held_bytes", of(options))),
      journal_messages_(metrics.gauge("spillway_journal_held_messages", of(options))) {
  const Labels labels = of(options);
  metrics.gauge("spillway_window_limit_bytes", labels).Set(number(options.window_limit_bytes));
  for (std::size_t i = 0; i < kCorruptions.size(); ++i) {
    corruptions_[i] = &metrics.counter("spillway_journal_corruption_events_total",
                                       with(labels, "kind", kCorruptions[i]));
  }
  for (std::size_t i = 0; i < kHaltCauses.size(); ++i) {
    const Labels cause = with(labels, "cause", kHaltCauses[i]);
    halts_[i] = {&metrics.gauge("spillway_halt_active", cause),
                 &metrics.gauge("spillway_halt_timestamp_seconds", cause),
                 &metrics.counter("spillway_halts_total", cause)};
  }
}

void StreamProbe::received(std::uint64_t records, std::uint64_t bytes) {
  received_messages_.Increment(number(records));
  received_bytes_.Increment(number(bytes));
}

void StreamProbe::acknowledged(std::uint64_t records, double latency_seconds) {
  acked_messages_.Increment(number(records));
  ack_latency_.Observe(latency_seconds);
}

void StreamProbe::duplicates_dropped(std::uint64_t records) {
  duplicates_.Increment(number(records));
}

void StreamProbe::gap() { gaps_.Increment(); }
void StreamProbe::order_violation() { violations_.Increment(); }

void StreamProbe::halted_by(std::span<const HaltCause> causes) {
  std::array<double, kHaltCauses.size()> since;
  since.fill(kNever);
  for (const HaltCause& cause : causes) {
    double& earliest = since[index_in(kHaltCauses, cause.kind)];
    earliest = std::min(earliest, cause.since_seconds);
  }
  for (std::size_t i = 0; i < halts_.size(); ++i) {
    const bool active = since[i] != kNever;
    if (active && halts_[i].active->Value() == 0) halts_[i].total->Increment();
    halts_[i].active->Set(active ? 1 : 0);
    halts_[i].since->Set(active ? since[i] : 0);
  }
}

void StreamProbe::corruption_found(Corruption kind) { corruptions_[index_of(kind)]->Increment(); }
void StreamProbe::journal_recovered(std::uint64_t records) {
  recovered_.Increment(number(records));
}
void StreamProbe::journal_lost(std::uint64_t records) { lost_.Increment(number(records)); }

void StreamProbe::sampled(const StreamSample& sample) {
  received_position_.set(sample.received);
  durable_position_.set(sample.durable);
  safe_position_.set(sample.safe);
  window_bytes_.Set(number(sample.window_bytes));
  coverage_open_.Set(sample.coverage_open ? 1 : 0);
  blocked_.Set(sample.blocked ? 1 : 0);
  producer_connected_.Set(sample.producer_connected ? 1 : 0);
  journal_bytes_.Set(number(sample.journal_bytes));
  journal_messages_.Set(number(sample.journal_records));
}

SinkProbe::SinkProbe(Metrics& metrics, const SinkOptions& options)
    : up_(metrics.gauge("spillway_sink_up", of(options))),
      refusing_(metrics.gauge("spillway_sink_refusing", of(options))),
      retries_(metrics.counter("spillway_sink_retries_total", of(options))),
      connects_(metrics.counter("spillway_sink_connects_total", of(options))),
      disconnects_(metrics.counter("spillway_sink_disconnects_total", of(options))),
      refused_for_good_(metrics.counter(
          "spillway_sink_send_failures_total",
          with(with(of(options), "reason", name_of(LossReason::rejected)), "retriable", "false"))),
      backoff_(metrics.gauge("spillway_sink_backoff_seconds", of(options))),
      outages_(metrics.counter("spillway_outages_total", of(options))),
      outage_duration_(metrics.histogram("spillway_outage_duration_seconds", of(options))),
      outage_started_(metrics.gauge("spillway_outage_started_timestamp_seconds", of(options))),
      outage_remaining_(metrics.gauge("spillway_outage_remaining_seconds", of(options))),
      replay_duration_(metrics.histogram("spillway_replay_duration_seconds", of(options))),
      replay_remaining_(metrics.gauge("spillway_replay_remaining_messages", of(options))),
      replay_eta_(metrics.gauge("spillway_replay_eta_seconds", of(options))),
      dead_letter_bytes_(metrics.gauge("spillway_dead_letter_size_bytes", of(options))),
      duplicates_(metrics.counter("spillway_duplicates_dropped_total", of(options))),
      violations_(metrics.counter("spillway_order_violations_total", of(options))),
      cursor_(position(metrics, "spillway_sink_cursor", of(options))),
      lag_messages_(metrics.gauge("spillway_sink_lag_messages", of(options))),
      lag_bytes_(metrics.gauge("spillway_sink_lag_bytes", of(options))),
      lag_seconds_(metrics.gauge("spillway_sink_lag_seconds", of(options))),
      in_flight_messages_(metrics.gauge("spillway_sink_in_flight_messages", of(options))),
      in_flight_bytes_(metrics.gauge("spillway_sink_in_flight_bytes", of(options))),
      journal_bytes_(metrics.gauge("spillway_journal_size_bytes", of(options))),
      journal_messages_(metrics.gauge("spillway_journal_size_messages", of(options))),
      journal_oldest_(metrics.gauge("spillway_journal_oldest_timestamp_seconds", of(options))) {
  const Labels labels = of(options);
  metrics.gauge("spillway_sink_info", with(labels, "sink_type", options.type)).Set(1);
  metrics.gauge("spillway_journal_limit_bytes", labels).Set(options.limit_bytes);
  metrics.gauge("spillway_journal_limit_messages", labels).Set(options.limit_records);
  metrics.gauge("spillway_journal_limit_age_seconds", labels).Set(options.limit_age_seconds);
  metrics.gauge("spillway_outage_timeout_seconds", labels).Set(options.outage_timeout_seconds);
  outage_remaining_.Set(options.outage_timeout_seconds);
  for (std::size_t i = 0; i < kSinkStates.size(); ++i) {
    states_[i] = &metrics.gauge("spillway_sink_state", with(labels, "state", kSinkStates[i]));
  }
  for (std::size_t i = 0; i < kModes.size(); ++i) {
    const Labels mode = with(labels, "mode", kModes[i]);
    delivered_[i] = {&metrics.counter("spillway_sink_delivered_messages_total", mode),
                     &metrics.counter("spillway_sink_delivered_bytes_total", mode),
                     &metrics.histogram("spillway_sink_delivery_latency_seconds", mode)};
  }
  for (std::size_t i = 0; i < kFailures.size(); ++i) {
    const Labels reason = with(labels, "reason", kFailures[i]);
    failures_[i] = &metrics.counter("spillway_sink_connection_failures_total", reason);
    send_failures_[i] =
        &metrics.counter("spillway_sink_send_failures_total", with(reason, "retriable", "true"));
  }
  for (std::size_t i = 0; i < kReplayResults.size(); ++i) {
    replays_[i] =
        &metrics.counter("spillway_replays_total", with(labels, "result", kReplayResults[i]));
  }
  for (std::size_t i = 1; i < let_go_.size(); ++i) {
    const auto reason = static_cast<LossReason>(i);
    let_go_[i] =
        &metrics.counter(reason == LossReason::rejected ? "spillway_dead_letter_messages_total"
                                                        : "spillway_dropped_messages_total",
                         with(labels, "reason", name_of(reason)));
  }
}

void SinkProbe::entered(SinkState state) {
  for (std::size_t i = 0; i < states_.size(); ++i) states_[i]->Set(i == index_of(state) ? 1 : 0);
}

void SinkProbe::delivered(Mode mode, std::uint64_t records, std::uint64_t bytes,
                          double latency_seconds) {
  const ByMode& counters = delivered_[index_of(mode)];
  counters.messages->Increment(number(records));
  counters.bytes->Increment(number(bytes));
  counters.latency->Observe(latency_seconds);
}

void SinkProbe::retried() { retries_.Increment(); }

void SinkProbe::connected() {
  connects_.Increment();
  up_.Set(1);
  refusing_.Set(0);
}

void SinkProbe::connect_failed(Failure why) {
  failures_[index_of(why)]->Increment();
  up_.Set(0);
  refusing_.Set(why == Failure::refused ? 1 : 0);
}

void SinkProbe::disconnected(Failure why, std::uint64_t unacknowledged) {
  disconnects_.Increment();
  send_failures_[index_of(why)]->Increment(number(unacknowledged));
  connect_failed(why);
}

void SinkProbe::closed() {
  up_.Set(0);
  refusing_.Set(0);
}

void SinkProbe::outage_began(double wall_seconds) {
  outages_.Increment();
  outage_started_.Set(wall_seconds);
}

void SinkProbe::outage_ended(double duration_seconds) {
  outage_duration_.Observe(duration_seconds);
  outage_started_.Set(0);
}

void SinkProbe::replay_ended(ReplayResult result, double duration_seconds) {
  replays_[index_of(result)]->Increment();
  if (result == ReplayResult::completed) replay_duration_.Observe(duration_seconds);
}

void SinkProbe::let_go(LossReason reason, std::uint64_t records) {
  const auto index = static_cast<std::size_t>(reason);
  INVARIANT(index > 0 && index < let_go_.size());
  let_go_[index]->Increment(number(records));
  if (reason == LossReason::rejected) refused_for_good_.Increment(number(records));
}

void SinkProbe::duplicates_dropped(std::uint64_t records) {
  duplicates_.Increment(number(records));
}

void SinkProbe::order_violation() { violations_.Increment(); }

void SinkProbe::sampled(const SinkSample& sample) {
  cursor_.set(sample.cursor);
  lag_messages_.Set(number(sample.lag_records));
  lag_bytes_.Set(number(sample.lag_bytes));
  lag_seconds_.Set(sample.lag_seconds);
  in_flight_messages_.Set(number(sample.in_flight_records));
  in_flight_bytes_.Set(number(sample.in_flight_bytes));
  journal_bytes_.Set(number(sample.journal_bytes));
  journal_messages_.Set(number(sample.journal_records));
  journal_oldest_.Set(sample.journal_oldest_seconds);
  replay_remaining_.Set(number(sample.replay_remaining_records));
  replay_eta_.Set(sample.replay_eta_seconds);
  outage_remaining_.Set(sample.outage_remaining_seconds);
  backoff_.Set(sample.backoff_seconds);
  dead_letter_bytes_.Set(number(sample.dead_letter_bytes));
}

JournalProbe::JournalProbe(Metrics& metrics)
    : fsync_duration_(metrics.histogram("spillway_journal_fsync_duration_seconds")),
      commit_batch_(metrics.histogram("spillway_journal_commit_batch_messages")),
      disk_usage_(metrics.gauge("spillway_journal_disk_usage_bytes")),
      disk_limit_(metrics.gauge("spillway_journal_disk_limit_bytes")),
      available_(metrics.gauge("spillway_journal_dir_available_bytes")),
      orphaned_(metrics.gauge("spillway_orphaned_journal_bytes")),
      exhaustion_(metrics.gauge("spillway_journal_exhaustion_seconds")),
      failing_(metrics.gauge("spillway_journal_failing")),
      appends_(metrics.counter("spillway_journal_appends_total")),
      append_bytes_(metrics.counter("spillway_journal_append_bytes_total")),
      fsyncs_(metrics.counter("spillway_journal_fsyncs_total")),
      commit_errors_(metrics.counter("spillway_journal_commit_errors_total")),
      reopens_(metrics.counter("spillway_journal_reopens_total")),
      wal_(metrics.gauge("spillway_rocksdb_wal_bytes")),
      sst_(metrics.gauge("spillway_rocksdb_sst_bytes")),
      memtable_(metrics.gauge("spillway_rocksdb_memtable_bytes")),
      pending_compaction_(metrics.gauge("spillway_rocksdb_pending_compaction_bytes")),
      block_cache_(metrics.gauge("spillway_rocksdb_block_cache_bytes")),
      live_data_(metrics.gauge("spillway_rocksdb_estimate_live_data_bytes")),
      stall_seconds_(metrics.counter("spillway_rocksdb_write_stall_seconds_total")) {
  exhaustion_.Set(kNever);
}

void JournalProbe::committed(double seconds, std::uint64_t records) {
  fsync_duration_.Observe(seconds);
  commit_batch_.Observe(number(records));
}

void JournalProbe::sampled(const JournalSample& sample) {
  disk_usage_.Set(number(sample.disk_bytes));
  disk_limit_.Set(number(sample.disk_limit_bytes));
  available_.Set(number(sample.free_bytes));
  orphaned_.Set(number(sample.orphaned_bytes));
  exhaustion_.Set(sample.exhaustion_seconds);
  failing_.Set(sample.failing ? 1 : 0);
  raise_to(appends_, number(sample.appends));
  raise_to(append_bytes_, number(sample.append_bytes));
  raise_to(fsyncs_, number(sample.commits));
  raise_to(commit_errors_, number(sample.commit_errors));
  raise_to(reopens_, number(sample.reopens));
  wal_.Set(number(sample.wal_bytes));
  sst_.Set(number(sample.sst_bytes));
  memtable_.Set(number(sample.memtable_bytes));
  pending_compaction_.Set(number(sample.pending_compaction_bytes));
  block_cache_.Set(number(sample.block_cache_bytes));
  live_data_.Set(number(sample.estimate_live_data_bytes));
  raise_to(stall_seconds_, sample.stall_seconds);
}

IngressProbe::IngressProbe(Metrics& metrics)
    : connections_(metrics.gauge("spillway_ingress_connections")),
      connections_total_(metrics.counter("spillway_ingress_connections_total")) {
  for (std::size_t i = 0; i < kRejectCodes.size(); ++i) {
    rejects_[i] = &metrics.counter("spillway_ingress_rejects_total",
                                   {{"code", std::string(kRejectCodes[i])}});
  }
}

void IngressProbe::connected() {
  connections_.Increment();
  connections_total_.Increment();
}

void IngressProbe::disconnected() { connections_.Decrement(); }

void IngressProbe::rejected(std::string_view code) {
  rejects_[index_in(kRejectCodes, code)]->Increment();
}

}  // namespace spillway::metrics
