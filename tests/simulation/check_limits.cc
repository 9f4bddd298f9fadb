// Limits say what they count (G7): none trips for time that did not go by, for time in which an
// operator paused the sink, for what a drop has let go already, or for what a stop leaves.
#include <algorithm>
#include <utility>

#include "recovery/clock_steps.h"
#include "tests/simulation/world.h"

namespace spillway::simulation {

using recovery::CauseKind;
using recovery::Millis;

// What waits counts only where the head is known.
bool World::over_records(std::size_t i) const {
  const SinkId id{static_cast<std::uint32_t>(i)};
  return machine_->coverage() == recovery::Coverage::open &&
         machine_->effective(id) < machine_->head() &&
         machine_->head() - machine_->effective(id) > plan_.policy.sinks[i].max_records;
}

void World::jump(recovery::WallMs by) {
  const recovery::WallMs before = wall_;
  wall_ = std::max(wall_ + by, wall_floor_);
  jumped_ += wall_ - before;
}

// A clock that is set ahead makes an outage longer only for a broker that did not see it. It sees
// what several steps between two looks amount to.
void World::settle_jumps() {
  const Millis ahead(std::max<recovery::WallMs>(0, std::exchange(jumped_, 0)));
  if (ahead < recovery::ClockSteps::kSmallest)
    excused_time_ += ahead;
  else
    unseen_time_ += ahead;
}

void World::watch_next_life() {
  first_entry_ = journal_.state() == nullptr ? 0 : journal_.state()->next_ledger_id;
  settle_jumps();
  // What the last life saw it may not have written down.
  excused_time_ += std::exchange(unseen_time_, Millis(0));
  started_at_ = now_;
  refused_in_life_ = false;
  causes_.clear();
  asked_watches_.clear();
  watches_ = stored_watches_;  // what the broker may know of it
  watches_.resize(sinks_.size());
}

void World::watch_started() {
  jumps_.resize(active_.size());
  over_at_start_.assign(active_.size(), false);
  for (std::size_t i = 0; i < active_.size(); ++i) {
    Watch& watch = watches_[active_[i]];
    const SinkId id{static_cast<std::uint32_t>(i)};
    watch.acked = machine_->delivery(id).acked();
    jumps_[i] = {};
    if (lost_something_) watch.progress_at = {};
    over_at_start_[i] = !accept_drop_ && over_records(i);
    if (!machine_->wanted().sinks[i].paused) watch.paused_at.reset();
  }
  causes_ = machine_->causes();
}

// Where a sink is now without having acknowledged it to this process, and not by a drop: as its
// report says, or a reset. What waits for it then is known when the first of it is read.
void World::watch_jumps(const recovery::Event& event, const std::vector<Offset>& before) {
  if (std::holds_alternative<recovery::event::SinkAcked>(event)) return;
  for (std::size_t i = 0; i < active_.size(); ++i) {
    const Offset now = machine_->effective(SinkId{static_cast<std::uint32_t>(i)});
    if (now == before[i]) continue;
    if (now < before[i]) {  // a reset: how much waits behind it the first read tells
      jumps_[i] = {0, now, false};
      continue;
    }
    const bool dropped = std::ranges::any_of(
        machine_->durable().sinks[i].skips, [&](const recovery::SkipRange& skip) {
          return skip.last == now && skip.reason != LossReason::reset;
        });
    if (!dropped) jumps_[i] = {before[i], now, false};
  }
}

void World::watch_limits() {
  watches_.resize(sinks_.size());
  for (std::size_t i = 0; i < active_.size(); ++i) {
    Watch& watch = watches_[active_[i]];
    const SinkId id{static_cast<std::uint32_t>(i)};
    const Offset acked = machine_->delivery(id).acked();
    watch.acked = std::min(watch.acked, acked);  // what comes after a reset is progress as well
    if (acked > watch.acked) {
      watch = {acked, now_, excused_time_, watch.paused_at, Millis(0), std::nullopt, Millis(0)};
      if (watch.paused_at) watch.paused_at = now_;
    }
    const Offset passed = machine_->effective(id);
    if (passed >= machine_->head()) {
      watch.waits_since.reset();
    } else {
      const Record* const oldest = known(passed + 1);
      const recovery::Instant taken = oldest != nullptr ? oldest->taken : recovery::Instant{};
      if (!watch.waits_since || taken < *watch.waits_since) {  // a reset goes back
        watch.waits_since = taken;
        watch.waits_excused = oldest != nullptr ? oldest->excused : Millis(0);
      }
    }
    over_at_start_[i] = over_at_start_[i] && over_records(i);
    const bool paused = machine_->wanted().sinks[i].paused;
    if (paused && !watch.paused_at) watch.paused_at = now_;
    if (!paused && watch.paused_at) {
      watch.paused += now_ - *watch.paused_at;
      watch.paused_at.reset();
    }
  }
  for (const recovery::HaltCause& cause : machine_->causes()) {
    const bool known = std::ranges::any_of(causes_, [&](const recovery::HaltCause& c) {
      return c.kind == cause.kind && c.sink == cause.sink;
    });
    const bool latched = std::ranges::any_of(journal_.latch, [&](const recovery::HaltCause& c) {
      return c.kind == cause.kind && c.sink == cause.sink;
    });
    if (known || latched) continue;
    const bool outage = cause.kind == CauseKind::outage_timeout;
    if (!outage && cause.kind != CauseKind::max_age) continue;
    require(!stopping_, "a stop was taken for an outage of sink", cause.sink);
    for (std::size_t i = 0; i < active_.size(); ++i) {
      if (plan_.policy.sinks[i].name != cause.sink) continue;
      outage ? check_outage(i) : check_age(i);
    }
  }
  causes_ = machine_->causes();
}

// At most so long has its oldest undelivered record waited, as far as the broker may believe.
Millis World::longest_wait(std::size_t i) const {
  const SinkId id{static_cast<std::uint32_t>(i)};
  const Record* const oldest = known(machine_->effective(id) + 1);
  if (oldest == nullptr || oldest->taken == recovery::Instant{}) return Millis::max();
  return now_ - oldest->taken + excused_time_ - oldest->excused;
}

void World::check_age(std::size_t i) const {
  require(longest_wait(i) >= *plan_.policy.sinks[i].max_age, "max_age tripped too early, sink", i);
}

void World::check_outage(std::size_t i) const {
  const Watch& watch = watches_[active_[i]];
  const Millis timeout = *plan_.policy.sinks[i].outage_timeout;
  const Millis since = now_ - watch.progress_at + excused_time_ - watch.excused;
  require(since - watch.paused >= timeout, "outage_timeout tripped too early, sink", i, "after",
          (since - watch.paused).count());
  // What waited first may have been let go since, by an operator: the outage is the same.
  require(watch.waits_since &&
              now_ - *watch.waits_since + excused_time_ - watch.waits_excused >= timeout,
          "outage_timeout tripped before anything waited so long, sink", i);
  require(timeout == Millis(0) || now_ - started_at_ >= recovery::kNoOutageBefore,
          "outage_timeout tripped right after a start, sink", i);
}

// A place to cut is looked for only while a limit is exceeded by what still waits; or, once, by
// what waited before the sink said that it holds more, of which nothing has been read yet.
void World::check_cut(const recovery::action::Locate& locate) {
  const std::size_t i = value_of(locate.sink);
  const recovery::SinkPolicy& policy = plan_.policy.sinks[i];
  if (refused_in_life_ || lost_something_) return;  // the disk asks for it; what waits is not known
  Offset passed = machine_->effective(locate.sink);
  if (Jump& jump = jumps_[i]; jump.to == passed && !std::exchange(jump.asked, true)) {
    passed = jump.from;
  }
  std::uint64_t bytes = 0;
  for (Offset o = passed + 1; o <= machine_->head(); ++o) {
    const Record* const record = known(o);
    if (record == nullptr) return;
    bytes += record->info.bytes;
  }
  // Inside a block bytes are spread evenly over its records; and what a sink took of a skip or
  // before a report is counted until it acknowledges what was read after that.
  const std::uint64_t block = plan_.producer.batch_max * plan_.producer.bytes_max;
  const bool over = bytes + block + policy.max_in_flight > policy.max_bytes ||
                    machine_->head() - passed > policy.max_records ||
                    (policy.max_age && longest_wait(i) >= *policy.max_age);
  require(over, "more is let go than a limit asks for, sink", i, "bytes", bytes, "limit",
          policy.max_bytes);
}

}  // namespace spillway::simulation
