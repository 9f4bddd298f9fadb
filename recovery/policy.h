// What an operator configured, as the machines need it.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "recovery/time.h"

namespace spillway::recovery {

inline constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();

// When a record is acknowledged to the producer (G1). Stored: numbers are never reused.
enum class Acks : std::uint8_t { none = 1, quorum = 2, all = 3 };
enum class JournalMode { on_failure, always };
enum class OnGap { halt, record };
enum class OnLimit { halt, block, drop_oldest };
enum class OnReject { park, dead_letter };

struct BackoffPolicy {
  Millis initial{100};
  Millis max{1000};
  double multiplier = 2.0;
  double jitter = 0.2;  // +- this share of the pause
};

// Where a sink that the store does not know yet begins.
struct StartAt {
  enum class Kind { latest, earliest, position } kind = Kind::latest;
  std::uint64_t epoch = 0;
  std::uint64_t sequence = 0;  // the first record wanted, for Kind::position
};

struct SinkPolicy {
  std::string name;
  std::string identity;  // of its destination: another one under the same name needs a reset
  OnLimit on_limit = OnLimit::halt;
  OnReject on_reject = OnReject::park;
  Millis ack_timeout{5000};
  std::optional<Millis> outage_timeout = std::chrono::hours(24);  // nothing: unlimited
  std::uint64_t max_bytes = std::uint64_t{4} << 30;
  std::uint64_t max_records = kUnlimited;
  std::optional<Millis> max_age;
  std::uint64_t dead_letter_bytes = std::uint64_t{64} << 20;
  StartAt start_at;
  BackoffPolicy reconnect;
  std::uint64_t max_in_flight = std::uint64_t{8} << 20;  // bytes sent and not acknowledged
  std::uint64_t replay_rate = kUnlimited;                // bytes a second
  bool counts_for_quorum = true;                         // false with a filter
};

struct StreamPolicy {
  Acks acks = Acks::all;
  std::uint32_t quorum = 0;  // sinks, for Acks::quorum
  JournalMode journal = JournalMode::on_failure;
  std::uint64_t window_bytes = std::uint64_t{64} << 20;
  Millis spill_after{200};
  Millis checkpoint_interval{1000};  // 0: mark and position durable before each acknowledgement
  OnGap on_gap = OnGap::halt;
  Millis journal_timeout{30000};
  bool accept_drop = false;  // an operator agreed that a lowered limit drops what is over it
  std::uint64_t seed = 1;    // of the jitter
  std::vector<SinkPolicy> sinks;

  // Bytes a producer may have unacknowledged: three quarters of the window, so that a sink which
  // assembles a large record is spilled for, not waited for.
  std::uint64_t producer_in_flight() const { return window_bytes / 4 * 3; }
};

}  // namespace spillway::recovery
