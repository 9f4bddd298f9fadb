// What happens between two lives of the broker: sinks that change, an operator who obeys a refusal,
// a store that comes back with less.
#include <algorithm>
#include <utility>

#include "recovery/startup.h"
#include "tests/simulation/world.h"

namespace spillway::simulation {

namespace {

constexpr std::size_t kDestinationsMax = 8;
constexpr std::size_t kActiveMax = 3;

}  // namespace

SinkId World::id_of(std::size_t sink) const {
  const auto at = std::ranges::find(active_, sink);
  require(at != active_.end(), "a sink that is not configured: sink", sink);
  return SinkId{static_cast<std::uint32_t>(at - active_.begin())};
}

// A destination for the policy's next sink.
void World::add_sink() {
  const std::size_t at = active_.size();
  journal_.name_sink(plan_.policy.sinks[at].name, sinks_.size());
  active_.push_back(sinks_.size());
  sinks_.emplace_back(*this, sinks_.size(), plan_.sinks[at]);
  frontier_.push_back(0);
  begins_.emplace_back();
  begun_.push_back(false);
  excused_.emplace_back();
}

void World::change_limits() {
  for (recovery::SinkPolicy& sink : plan_.policy.sinks) {
    if (random_.chance(0.5)) draw_limits(random_, sink);
  }
}

void World::change_sinks() {
  sinks_changed_ = true;
  auto& policies = plan_.policy.sinks;
  const std::string name = std::string(1, static_cast<char>('a' + sinks_.size()));
  switch (random_.below(4)) {
    case 0: {  // one more
      if (active_.size() == kActiveMax || sinks_.size() == kDestinationsMax) return;
      plan_.draw_sink(random_, name);
      recovery::StartAt& start = policies.back().start_at;
      start.kind = static_cast<recovery::StartAt::Kind>(random_.below(3));
      if (!promised_.empty()) {
        const Position at = promised_[random_.below(promised_.size())].at;
        start.epoch = at.epoch;
        start.sequence = at.sequence;
      }
      return add_sink();
    }
    case 1: {  // one less
      if (active_.size() == 1) return;
      const auto at = static_cast<std::ptrdiff_t>(random_.below(active_.size()));
      active_.erase(active_.begin() + at);
      policies.erase(policies.begin() + at);
      plan_.sinks.erase(plan_.sinks.begin() + at);
      return;
    }
    case 2: {  // another name for the same destination, with or without telling the store
      const std::size_t at = random_.below(active_.size());
      if (policies[at].name.size() > 4) return;
      const std::string old = std::exchange(policies[at].name, policies[at].name + "'");
      journal_.name_sink(policies[at].name, active_[at]);
      if (journal_.state() == nullptr || random_.chance(0.3)) {
        return sinks_[active_[at]].come_again();
      }
      recovery::DurableState state = *journal_.state();
      for (recovery::SinkState& sink : state.sinks) {
        if (sink.name == old) sink.name = policies[at].name;
      }
      return journal_.edit(std::move(state), {});
    }
    default:  // the same name for another destination
      policies[random_.below(active_.size())].identity += "!";
      return;
  }
}

// Whether the broker may start; if not, that there is a reason.
bool World::plan_start(const recovery::StreamPolicy& policy, recovery::event::Started& started) {
  const recovery::DurableState* stored = journal_.state();
  auto planned = recovery::plan_start(
      policy, stored == nullptr ? std::nullopt : std::optional(*stored), journal_.end());
  const auto misplaced = misplaced_sink();
  if (!planned) {
    if (tracing()) trace("REFUSED: ", planned.error().message);
    require(stored != nullptr, "a new store was refused");
    const bool waits = std::ranges::any_of(stored->sinks, [&](const recovery::SinkState& sink) {
      return std::ranges::find(policy.sinks, sink.name, &recovery::SinkPolicy::name) ==
                 policy.sinks.end() &&
             recovery::passed(sink) < journal_.end();
    });
    require(misplaced || waits, "a start was refused without a reason");
    return false;
  }
  require(!misplaced, "started with a cursor of another destination");
  started.state = *planned;
  for (std::size_t i = 0; i < active_.size(); ++i) {
    if (planned->sinks[i].unresolved) begun_[active_[i]] = false;
  }
  if (stored == nullptr) return true;
  for (const recovery::SinkState& sink : stored->sinks) {
    if (std::ranges::find(policy.sinks, sink.name, &recovery::SinkPolicy::name) !=
        policy.sinks.end()) {
      continue;
    }
    // Forgotten: under `all` it has everything that was acknowledged.
    for (std::size_t i = 0; acknowledges_for_good() && i < promised_.size(); ++i) {
      require(!journal_.holds(promised_[i]) || recovery::passed(sink) >= journal_.end() ||
                  sink.dropping,
              "a sink was forgotten that still has a backlog at", promised_[i].at);
    }
  }
  return true;
}

// The configured sink that the store knows at another destination.
std::optional<std::size_t> World::misplaced_sink() const {
  if (journal_.state() == nullptr) return std::nullopt;
  for (std::size_t i = 0; i < plan_.policy.sinks.size(); ++i) {
    const auto& policy = plan_.policy.sinks[i];
    for (const recovery::SinkState& sink : journal_.state()->sinks) {
      if (sink.name == policy.name && !sink.identity.empty() && sink.identity != policy.identity) {
        return i;
      }
    }
  }
  return std::nullopt;
}

// An operator does what the refusal says.
void World::obey_refusal() {
  recovery::DurableState state = *journal_.state();
  if (const auto at = misplaced_sink()) {
    auto& policy = plan_.policy.sinks[*at];
    const auto stored = std::ranges::find(state.sinks, policy.name, &recovery::SinkState::name);
    if (sinks_.size() == kDestinationsMax || random_.chance(0.5)) {
      policy.identity = stored->identity;
      return;
    }
    // The cursor is taken over for an empty destination.
    forget_sink(*stored);
    state = *journal_.state();
    const auto again = std::ranges::find(state.sinks, policy.name, &recovery::SinkState::name);
    recovery::SinkState fresh;
    fresh.name = policy.name;
    fresh.identity = policy.identity;
    fresh.cursor = state.open ? journal_.end() : state.closed_end;
    *again = std::move(fresh);
    journal_.edit(std::move(state), {});
    active_[*at] = sinks_.size();
    journal_.name_sink(policy.name, sinks_.size());
    sinks_.emplace_back(*this, sinks_.size(), plan_.sinks[*at]);
    frontier_.push_back(0);
    begins_.emplace_back();
    begun_.push_back(false);
    excused_.emplace_back();
    return;
  }
  const auto gone = std::ranges::find_if(state.sinks, [&](const recovery::SinkState& sink) {
    return !recovery::drained(state, sink, journal_.end()) &&
           std::ranges::find(plan_.policy.sinks, sink.name, &recovery::SinkPolicy::name) ==
               plan_.policy.sinks.end();
  });
  require(gone != state.sinks.end(), "refused for a sink that has no backlog");
  const recovery::SinkState sink = *gone;
  forget_sink(sink);
  state = *journal_.state();
  std::erase_if(state.sinks, [&](const recovery::SinkState& s) { return s.name == sink.name; });
  journal_.edit(std::move(state), {});
}

// What it has not taken goes into the ledger.
void World::forget_sink(const recovery::SinkState& stored) {
  recovery::DurableState state = *journal_.state();
  const Offset first = recovery::passed(stored) + 1;
  if (!state.open || first > journal_.end()) return;
  const recovery::EpochTable table(state.epochs);
  recovery::Loss loss;
  loss.id = state.next_ledger_id++;
  loss.sink = stored.name;
  loss.first = first;
  loss.last = journal_.end();
  loss.first_position = table.position_of(loss.first);
  loss.last_position = table.position_of(loss.last);
  loss.reason = LossReason::reset;
  journal_.edit(std::move(state), {loss});
}

// Where new sinks begin, as soon as the machine knows.
void World::note_begins() {
  if (!machine_ || !machine_->known()) return;
  for (std::size_t i = 0; i < active_.size(); ++i) {
    const std::size_t sink = active_[i];
    if (begun_[sink]) continue;
    begun_[sink] = true;
    const Position cursor = position_of(machine_->wanted().sinks[i].cursor);
    // One that says what it holds is sent nothing before, whatever its name.
    const bool says = sinks_[sink].plan().reports && sinks_[sink].last();
    begins_[sink] = says ? std::max(begins_[sink], cursor) : cursor;
    custody_dirty_ = true;
    excuse_unstored(sink);
    if (tracing()) trace("sink ", sink, " begins after ", begins_[sink]);
  }
}

// Of what came before its beginning, a sink cannot get what is not in the journal.
void World::excuse_unstored(std::size_t sink) {
  for (const Record& record : promised_) {
    if (record.at > begins_[sink] && !journal_.holds(record)) excused_[sink].insert(record.at);
  }
}

// --- a store that comes back with less
// ------------------------------------------------------------

void World::lose_tail() {
  if (tracing()) {
    trace("  the store had revision ", journal_.state()->revision, " end ", journal_.end());
  }
  restore_to_ = std::max(restore_to_, journal_.end());
  const auto before = journal_.state()->revision;
  const Offset end = journal_.end();
  journal_.lose_tail(random_);
  const bool less =
      journal_.state() == nullptr || journal_.state()->revision < before || journal_.end() < end;
  if (!less) return;
  lost_something_ = unreported_ = custody_dirty_ = true;
  if (tracing()) {
    trace("  and has revision ", journal_.state() == nullptr ? 0 : journal_.state()->revision,
          " end ", journal_.end());
  }
  if (!machine_) excuse_uncovered();
}

void World::lose_store() {
  if (tracing()) trace("the store is lost");
  journal_.lose_store();
  lost_something_ = true;
  damaged_ = unreported_ = false;
  excuse_uncovered();
  // It takes an operator some time, and a clock that is right: nobody else remembers the epochs.
  std::uint64_t newest = 0;
  for (const Script::Epoch& epoch : producer_.script().epochs()) {
    newest = std::max(newest, epoch.number);
  }
  for (const Sink& sink : sinks_) {
    if (sink.last()) newest = std::max(newest, sink.last()->epoch);
  }
  wall_floor_ = static_cast<recovery::WallMs>(newest + 2) * 1000;
  wall_ = std::max(wall_, wall_floor_);
}

// What no sink and no store has any more, and the store said so.
void World::excuse_uncovered() {
  for (const std::size_t i : active_) {
    for (const Record& record : promised_) {
      const bool told = record.skip == LossReason::filter
                            ? sinks_[i].took_any(record.at) || journal_.holds(record)
                            : covered(i, record);
      if (!told) excused_[i].insert(record.at);
    }
  }
  restore_to_ = 0;
}

// Whether the machine is busy writing again what the store lost.
bool World::restoring() const {
  if (!machine_ || !lost_something_) return false;
  const bool open = machine_->coverage() == recovery::Coverage::open ||
                    machine_->coverage() == recovery::Coverage::closing;
  return machine_->restoring() || (open && restore_to_ > journal_.end());
}

bool World::damage_is_known() const {
  return std::ranges::any_of(machine_->causes(), [](const recovery::HaltCause& cause) {
    return cause.kind == recovery::CauseKind::journal_damaged;
  });
}

bool World::damage_is_latched() const {
  return std::ranges::any_of(journal_.latch, [](const recovery::HaltCause& cause) {
    return cause.kind == recovery::CauseKind::journal_damaged;
  });
}

Offset World::end_of(Position last) const {
  if (const auto offset = machine_->epochs().offset_of(last)) return *offset;
  for (const recovery::Epoch& epoch : machine_->wanted().epochs) {
    if (epoch.number > last.epoch) return epoch.base;
  }
  return last.epoch > machine_->epochs().current() ? machine_->head() : 0;
}

}  // namespace spillway::simulation
