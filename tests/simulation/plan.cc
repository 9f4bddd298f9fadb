#include "tests/simulation/plan.h"

#include <algorithm>
#include <optional>

namespace spillway::simulation {

using recovery::Acks;
using recovery::Millis;
using recovery::OnLimit;

namespace {

constexpr std::array<std::string_view, kFaults> kNames = {
    "crash",
    "crash_and_forget",
    "stop_and_start",
    "producer_break",
    "producer_forgets",
    "producer_lost_tail",
    "producer_fenced",
    "producer_overflows",
    "producer_ignores_halt",
    "producer_new_epoch",
    "producer_unpunctual",
    "connect_failed",
    "connect_refused",
    "connect_silent",
    "lost_in_batch",
    "silence",
    "refused",
    "rejected",
    "slow_acks",
    "overclaim",
    "rollback",
    "nudge",
    "stale",
    "write_failed",
    "disk_full",
    "latch_failed",
    "latch_slow",
    "read_failed",
    "corrupt",
    "wall_jump",
    "operator_pause",
    "operator_resume",
    "operator_reconnect",
    "operator_reset",
    "operator_clear",
    "policy_changed",
    "tail_lost",
    "damage_found",
    "store_lost",
    "sinks_changed",
    "limits_changed",
};

// The highest rate that a seed may draw. A chance per step, or per occasion where the fault has
// one.
constexpr std::array<double, kFaults> kRates = {
    0.012, 0.004, 0.004, 0.01, 0.008, 0.2,   0.006, 0.01, 0.5,  0.004, 0.05,  0.4, 0.2, 0.1,
    0.15,  0.05,  0.05,  1.0,  0.4,   0.02,  0.003, 0.01, 0.05, 0.15,  0.006, 0.3, 0.2, 0.2,
    0.004, 0.01,  0.004, 0.01, 0.01,  0.004, 0.01,  0.3,  0.5,  0.2,   0.1,   0.4, 0.4,
};

template <class T, std::size_t N>
T pick(Random& random, const T (&values)[N]) {
  return values[random.below(N)];
}

recovery::SinkPolicy draw_policy(Random& random, std::string name, const SinkPlan& plan) {
  recovery::SinkPolicy sink;
  sink.name = std::move(name);
  sink.identity = "at " + sink.name;
  sink.ack_timeout = Millis(random.between(100, 3000));
  draw_limits(random, sink);
  sink.max_in_flight = random.between(100, 4000);
  if (random.chance(0.2)) sink.replay_rate = random.between(2000, 50000);
  sink.counts_for_quorum = plan.rejects_one_in == 0 && random.chance(0.8);
  sink.start_at.kind =
      random.chance(0.5) ? recovery::StartAt::Kind::latest : recovery::StartAt::Kind::earliest;
  return sink;
}

}  // namespace

std::string_view name_of(Fault fault) { return kNames[static_cast<std::size_t>(fault)]; }

void draw_limits(Random& random, recovery::SinkPolicy& sink) {
  sink.on_limit = pick(random, {OnLimit::halt, OnLimit::block, OnLimit::drop_oldest});
  sink.on_reject = pick(random, {recovery::OnReject::park, recovery::OnReject::dead_letter});
  sink.outage_timeout.reset();
  switch (random.below(8)) {
    case 0: sink.outage_timeout = Millis(0); break;
    case 1: sink.outage_timeout = Millis(random.between(100, 40000)); break;
    case 2: sink.outage_timeout = Millis(random.between(100, 5000)); break;
    default: break;
  }
  sink.max_bytes = recovery::kUnlimited;
  switch (random.below(6)) {
    case 0: sink.max_bytes = random.between(200, 4000); break;
    case 1: sink.max_bytes = random.between(2000, 20000); break;
    case 2:
      if (random.chance(0.5)) {  // on_outage = "drop"
        sink.max_bytes = 0;
        sink.on_limit = OnLimit::drop_oldest;
      }
      break;
    default: break;
  }
  sink.max_records = random.chance(0.2) ? random.between(3, 100) : recovery::kUnlimited;
  sink.max_age.reset();
  if (random.chance(0.15)) sink.max_age = Millis(random.between(500, 20000));
  sink.dead_letter_bytes = pick<std::uint64_t>(random, {0, 300, 1 << 20});
}

Plan::Plan(Random& random) {
  for (std::size_t i = 0; i < kFaults; ++i) {
    if (random.chance(0.45)) continue;
    const double unit = static_cast<double>(random.below(1000) + 1) / 1000.0;
    rates[i] = kRates[i] * unit * unit;
  }
  producer.resumes = random.chance(0.4);
  producer.relay = random.chance(0.2);
  if (producer.relay) producer.resumes = true;  // its own journal: what was sent can be sent again
  producer.groups = random.chance(0.5);
  producer.parts = random.chance(0.4);
  producer.skips = random.chance(0.2);
  producer.bytes_max = random.between(10, 200);
  producer.batch_max = random.between(1, 8);
  producer.retained = random.chance(0.5) ? random.below(60) : 0;
  records = random.between(60, 250);

  const std::size_t count = random.between(1, 3);
  std::uint32_t counting = 0;
  for (std::size_t i = 0; i < count; ++i) {
    draw_sink(random, std::string(1, static_cast<char>('a' + i)));
    counting += policy.sinks.back().counts_for_quorum ? 1 : 0;
  }
  policy.acks = pick(random, {Acks::all, Acks::all, Acks::quorum, Acks::none});
  if (counting == 0 && policy.acks == Acks::quorum) policy.acks = Acks::all;
  if (counting > 0) policy.quorum = static_cast<std::uint32_t>(random.between(1, counting));
  policy.journal =
      random.chance(0.15) ? recovery::JournalMode::always : recovery::JournalMode::on_failure;
  policy.window_bytes = random.between(2000, 20000);
  policy.spill_after = Millis(random.between(20, 400));
  policy.checkpoint_interval = pick(random, {Millis(0), Millis(100), Millis(1000)});
  policy.on_gap = random.chance(0.5) ? recovery::OnGap::halt : recovery::OnGap::record;
  policy.journal_timeout = Millis(random.between(200, 10000));
  policy.seed = random.next();
}

void Plan::draw_sink(Random& random, std::string name) {
  SinkPlan sink;
  sink.reports = random.chance(0.5);
  sink.assembles = producer.parts && random.chance(0.5);
  sink.slow = random.chance(0.2);
  if (rates[static_cast<std::size_t>(Fault::rejected)] > 0 && random.chance(0.4)) {
    sink.rejects_one_in = random.between(5, 80);
  }
  policy.sinks.push_back(draw_policy(random, std::move(name), sink));
  sinks.push_back(sink);
}

std::string Plan::text() const {
  std::string line = "acks " + std::to_string(static_cast<int>(policy.acks)) + " quorum " +
                     std::to_string(policy.quorum) + " always " +
                     std::to_string(policy.journal == recovery::JournalMode::always) + " window " +
                     std::to_string(policy.window_bytes) + " spill_after " +
                     std::to_string(policy.spill_after.count()) + " checkpoint " +
                     std::to_string(policy.checkpoint_interval.count()) + " records " +
                     std::to_string(records) + " resumes " + std::to_string(producer.resumes) +
                     " relay " + std::to_string(producer.relay) + " on_gap " +
                     std::to_string(static_cast<int>(policy.on_gap)) + "\n";
  for (std::size_t i = 0; i < sinks.size(); ++i) {
    const auto& sink = policy.sinks[i];
    line += "  sink " + sink.name + ": reports " + std::to_string(sinks[i].reports) +
            " assembles " + std::to_string(sinks[i].assembles) + " on_limit " +
            std::to_string(static_cast<int>(sink.on_limit)) + " on_reject " +
            std::to_string(static_cast<int>(sink.on_reject)) + " max_bytes " +
            std::to_string(sink.max_bytes) + " max_records " + std::to_string(sink.max_records) +
            " max_age " + (sink.max_age ? std::to_string(sink.max_age->count()) : "-") +
            " outage_timeout " +
            (sink.outage_timeout ? std::to_string(sink.outage_timeout->count()) : "-") +
            " in_flight " + std::to_string(sink.max_in_flight) + "\n";
  }
  return line;
}

}  // namespace spillway::simulation
