// Probes: what a part of the broker says of itself, in verbs. Each makes its series when it is
// made.
//
// Operation: counters and latencies are told as they happen, once per block, never per record;
// gauges that follow from state are given together to sampled(), by the owner, at most once a
// second or so.
// Concurrency: any thread, and several at once, for the verbs that tell events. sampled(),
// entered() and halted_by() belong to one thread.
// Lifetime: a probe must not outlive its Metrics.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>

#include "base/loss.h"
#include "base/position.h"
#include "metrics/labels.h"
#include "metrics/metrics.h"

namespace spillway::metrics {

// A limit that is not set, and a time that never comes.
inline constexpr double kNever = std::numeric_limits<double>::infinity();

class Probe {
 public:
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;

 protected:
  Probe() = default;
  ~Probe() = default;
};

struct PositionGauges {
  prometheus::Gauge& epoch;
  prometheus::Gauge& sequence;
  void set(Position position);
};

struct StreamOptions {
  std::string stream;
  std::string acks;  // all | quorum | none
  std::uint64_t window_limit_bytes = 0;
};

struct StreamSample {
  Position received = {};  // the head
  Position durable = {};   // the journal's end; where nothing was journaled, {0, 0}
  Position safe = {};      // acknowledged to the producer
  std::uint64_t window_bytes = 0;
  bool coverage_open = false;
  bool blocked = false;  // a limit with on_limit = "block" holds acknowledgements back
  bool producer_connected = false;
  std::uint64_t journal_bytes = 0;  // each record once, whatever sinks need it
  std::uint64_t journal_records = 0;
};

struct HaltCause {
  std::string_view kind;     // one of kHaltCauses
  double since_seconds = 0;  // since 1970
};

class StreamProbe : public Probe {
 public:
  StreamProbe(Metrics& metrics, const StreamOptions& options);

  void received(std::uint64_t records, std::uint64_t bytes);
  // A block, or what was left of one. Latency: seconds since its receipt.
  void acknowledged(std::uint64_t records, double latency_seconds);
  void duplicates_dropped(std::uint64_t records);
  void gap();              // a range that the producer no longer had
  void order_violation();  // a fork, a step back, a hole that should not be

  // All causes that halt the stream now. Of several of one kind the earliest counts.
  void halted_by(std::span<const HaltCause> causes);

  void corruption_found(Corruption kind);
  void journal_recovered(std::uint64_t records);
  void journal_lost(std::uint64_t records);

  void sampled(const StreamSample& sample);

 private:
  struct Halt {
    prometheus::Gauge* active;
    prometheus::Gauge* since;
    prometheus::Counter* total;
  };

  prometheus::Counter& received_messages_;
  prometheus::Counter& received_bytes_;
  prometheus::Counter& acked_messages_;
  prometheus::Histogram& ack_latency_;
  prometheus::Counter& duplicates_;
  prometheus::Counter& gaps_;
  prometheus::Counter& violations_;
  std::array<prometheus::Counter*, kCorruptions.size()> corruptions_{};
  prometheus::Counter& recovered_;
  prometheus::Counter& lost_;
  std::array<Halt, kHaltCauses.size()> halts_{};
  PositionGauges received_position_;
  PositionGauges durable_position_;
  PositionGauges safe_position_;
  prometheus::Gauge& window_bytes_;
  prometheus::Gauge& coverage_open_;
  prometheus::Gauge& blocked_;
  prometheus::Gauge& producer_connected_;
  prometheus::Gauge& journal_bytes_;
  prometheus::Gauge& journal_messages_;
};

struct SinkOptions {
  std::string stream;
  std::string sink;
  std::string type;
  double limit_bytes = kNever;
  double limit_records = kNever;
  double limit_age_seconds = kNever;
  double outage_timeout_seconds = kNever;
};

struct SinkSample {
  Position cursor = {};
  std::uint64_t lag_records = 0;  // received, not acknowledged
  std::uint64_t lag_bytes = 0;
  double lag_seconds = 0;
  std::uint64_t in_flight_records = 0;  // sent, not acknowledged
  std::uint64_t in_flight_bytes = 0;
  std::uint64_t journal_records = 0;  // of the lag, in the journal
  std::uint64_t journal_bytes = 0;
  double journal_oldest_seconds = 0;  // since 1970; 0: none
  std::uint64_t replay_remaining_records = 0;
  double replay_eta_seconds = 0;
  double outage_remaining_seconds = kNever;
  double backoff_seconds = 0;
  std::uint64_t dead_letter_bytes = 0;
};

class SinkProbe : public Probe {
 public:
  SinkProbe(Metrics& metrics, const SinkOptions& options);

  void entered(SinkState state);
  // Acknowledged blocks. Latency: seconds since the receipt of the last of them.
  void delivered(Mode mode, std::uint64_t records, std::uint64_t bytes, double latency_seconds);

  void retried();  // another attempt to connect, not the first of the process
  void connected();
  void connect_failed(Failure why);
  // An established connection ended, with so many records sent and not acknowledged.
  void disconnected(Failure why, std::uint64_t unacknowledged);
  void closed();  // by us: paused, parked, stopped

  void outage_began(double wall_seconds);
  void outage_ended(double duration_seconds);
  void replay_ended(ReplayResult result, double duration_seconds);

  // Records that did not reach the sink. `rejected` are those it refused for good.
  void let_go(LossReason reason, std::uint64_t records);
  // Records that the sink held already.
  void duplicates_dropped(std::uint64_t records);
  void order_violation();

  void sampled(const SinkSample& sample);

 private:
  struct ByMode {
    prometheus::Counter* messages;
    prometheus::Counter* bytes;
    prometheus::Histogram* latency;
  };

  std::array<prometheus::Gauge*, kSinkStates.size()> states_{};
  prometheus::Gauge& up_;
  prometheus::Gauge& refusing_;
  std::array<ByMode, kModes.size()> delivered_{};
  prometheus::Counter& retries_;
  prometheus::Counter& connects_;
  prometheus::Counter& disconnects_;
  std::array<prometheus::Counter*, kFailures.size()> failures_{};
  std::array<prometheus::Counter*, kFailures.size()> send_failures_{};
  prometheus::Counter& refused_for_good_;
  prometheus::Gauge& backoff_;
  prometheus::Counter& outages_;
  prometheus::Histogram& outage_duration_;
  prometheus::Gauge& outage_started_;
  prometheus::Gauge& outage_remaining_;
  std::array<prometheus::Counter*, kReplayResults.size()> replays_{};
  prometheus::Histogram& replay_duration_;
  prometheus::Gauge& replay_remaining_;
  prometheus::Gauge& replay_eta_;
  std::array<prometheus::Counter*, kLossReasons + 1> let_go_{};  // by LossReason
  prometheus::Gauge& dead_letter_bytes_;
  prometheus::Counter& duplicates_;
  prometheus::Counter& violations_;
  PositionGauges cursor_;
  prometheus::Gauge& lag_messages_;
  prometheus::Gauge& lag_bytes_;
  prometheus::Gauge& lag_seconds_;
  prometheus::Gauge& in_flight_messages_;
  prometheus::Gauge& in_flight_bytes_;
  prometheus::Gauge& journal_bytes_;
  prometheus::Gauge& journal_messages_;
  prometheus::Gauge& journal_oldest_;
};

// Totals count from the start of the process and never fall.
struct JournalSample {
  std::uint64_t disk_bytes = 0;
  std::uint64_t disk_limit_bytes = 0;
  std::uint64_t free_bytes = 0;
  std::uint64_t orphaned_bytes = 0;
  double exhaustion_seconds = kNever;  // see Forecast
  bool failing = false;
  std::uint64_t appends = 0;
  std::uint64_t append_bytes = 0;
  std::uint64_t commits = 0;
  std::uint64_t commit_errors = 0;
  std::uint64_t reopens = 0;
  std::uint64_t wal_bytes = 0;
  std::uint64_t sst_bytes = 0;
  std::uint64_t memtable_bytes = 0;
  std::uint64_t pending_compaction_bytes = 0;
  std::uint64_t block_cache_bytes = 0;
  std::uint64_t estimate_live_data_bytes = 0;
  double stall_seconds = 0;
};

class JournalProbe : public Probe {
 public:
  explicit JournalProbe(Metrics& metrics);

  // One batch was written and synced. From any thread.
  void committed(double seconds, std::uint64_t records);
  void sampled(const JournalSample& sample);

 private:
  prometheus::Histogram& fsync_duration_;
  prometheus::Histogram& commit_batch_;
  prometheus::Gauge& disk_usage_;
  prometheus::Gauge& disk_limit_;
  prometheus::Gauge& available_;
  prometheus::Gauge& orphaned_;
  prometheus::Gauge& exhaustion_;
  prometheus::Gauge& failing_;
  prometheus::Counter& appends_;
  prometheus::Counter& append_bytes_;
  prometheus::Counter& fsyncs_;
  prometheus::Counter& commit_errors_;
  prometheus::Counter& reopens_;
  prometheus::Gauge& wal_;
  prometheus::Gauge& sst_;
  prometheus::Gauge& memtable_;
  prometheus::Gauge& pending_compaction_;
  prometheus::Gauge& block_cache_;
  prometheus::Gauge& live_data_;
  prometheus::Counter& stall_seconds_;
};

// The listeners together: connections before and after they have said which stream they are for.
class IngressProbe : public Probe {
 public:
  explicit IngressProbe(Metrics& metrics);

  void connected();
  void disconnected();
  void rejected(std::string_view code);  // one of kRejectCodes

 private:
  prometheus::Gauge& connections_;
  prometheus::Counter& connections_total_;
  std::array<prometheus::Counter*, kRejectCodes.size()> rejects_{};
};

}  // namespace spillway::metrics
