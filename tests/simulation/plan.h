// Plan: what a seed decides before its run begins: the policy, and which faults come how often.
// Each fault is off in many seeds (swarm testing): rare combinations need the others to keep away.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "recovery/policy.h"
#include "tests/simulation/random.h"

namespace spillway::simulation {

enum class Fault : std::uint8_t {
  crash,               // of the broker: only what is durable stays
  crash_and_forget,    // broker and producer at once, and the producer's memory with it
  stop_and_start,      // orderly
  producer_break,      // its connection is lost
  producer_forgets,    // a restart without memory
  producer_lost_tail,  // it no longer has what comes after held
  producer_fenced,     // a second one comes while the first is in mid-record
  producer_overflows,  // more in flight than it may
  producer_ignores_halt,
  producer_new_epoch,
  producer_unpunctual,  // a long silence
  connect_failed,
  connect_refused,
  connect_silent,
  lost_in_batch,  // the sink takes a part; its acknowledgement may be lost
  silence,        // takes, and says nothing
  refused,        // connected, and says no for now
  rejected,       // refuses a record for good
  slow_acks,
  overclaim,  // acknowledges what was not sent
  rollback,   // the sink is restored from a backup
  nudge,
  stale,  // a completion of something that is over
  write_failed,
  disk_full,
  latch_failed,
  latch_slow,
  read_failed,
  corrupt,  // a block in the journal is damaged
  wall_jump,
  operator_pause,
  operator_resume,
  operator_reconnect,
  operator_reset,
  operator_clear,
  policy_changed,  // another `acks` after a restart
  tail_lost,       // the store comes back without the last commits that it had confirmed
  damage_found,    // it says that something does not add up
  store_lost,      // made anew: producers and sinks know more than it
  sinks_changed,   // one comes, goes, is renamed or pointed elsewhere between two lives
  limits_changed,  // other limits, and other ways to act on them, after a restart
};
inline constexpr std::size_t kFaults = 41;
std::string_view name_of(Fault fault);

struct ProducerPlan {
  bool resumes = false;  // its records are a function of their position
  bool relay = false;    // it names its own epochs
  bool groups = false;
  bool parts = false;
  bool skips = false;  // it sends ranges as skip
  std::uint64_t bytes_max = 100;
  std::uint64_t batch_max = 8;
  std::uint64_t retained = 0;  // acknowledged records that it can still send again
};

struct SinkPlan {
  bool reports = false;    // says at connect what it holds
  bool assembles = false;  // takes the parts of a record only as a whole
  bool slow = false;
  std::uint64_t rejects_one_in = 0;  // records refused for good; 0: none
};

// The limits of a sink, and what it does at them.
void draw_limits(Random& random, recovery::SinkPolicy& sink);

struct Plan {
  explicit Plan(Random& random);
  // One more sink, with a name of its own.
  void draw_sink(Random& random, std::string name);

  recovery::StreamPolicy policy;
  ProducerPlan producer;
  std::vector<SinkPlan> sinks;
  std::array<double, kFaults> rates{};
  std::uint64_t records = 0;  // how many the producer has to say
  std::string text() const;   // one line for the trace
};

}  // namespace spillway::simulation
