#include "recovery/startup.h"

#include <algorithm>

#include "recovery/epochs.h"

namespace spillway::recovery {

namespace {

// Where a sink that the store does not know begins, when the head is known. What is no longer there
// the machine leaves out.
Offset start_of(const StartAt& start, DurableState& state, Offset journal_end) {
  switch (start.kind) {
    case StartAt::Kind::latest: return journal_end;
    case StartAt::Kind::earliest: return std::min(state.first - 1, journal_end);
    case StartAt::Kind::position: break;
  }
  const EpochTable table(state.epochs);
  const auto wanted = table.offset_of({start.epoch, start.sequence});
  return std::min(wanted && *wanted > 0 ? *wanted - 1 : 0, journal_end);
}

}  // namespace

bool drained(const DurableState& state, const SinkState& sink, Offset journal_end) {
  if (sink.dropping) return true;
  // Closed: every sink took all through the end; what came later, only the first Hello can tell.
  return !state.open || passed(sink) >= journal_end;
}

Result<DurableState> plan_start(const StreamPolicy& policy, std::optional<DurableState> stored,
                                Offset journal_end) {
  const bool fresh = !stored;
  DurableState state = stored ? *std::move(stored) : DurableState{};
  if (fresh) {
    state.acks = policy.acks;
    state.quorum = policy.quorum;
    // Blocks without a state that speaks of them: damage. What comes now must not take their place.
    state.closed_end = state.checkpoint.at = journal_end;
  }
  std::vector<SinkState> sinks;
  for (const SinkPolicy& configured : policy.sinks) {
    const auto known = std::ranges::find(state.sinks, configured.name, &SinkState::name);
    if (known != state.sinks.end()) {
      if (!known->identity.empty() && known->identity != configured.identity) {
        return Error{
            "sink \"" + configured.name + "\" was " + known->identity + " and is now " +
            configured.identity +
            ": its cursor belongs to the old destination. Take it over with `spillway sink "
            "reset`, or give the new destination a name of its own"};
      }
      sinks.push_back(*known);
      sinks.back().identity = configured.identity;
      continue;
    }
    SinkState sink;
    sink.name = configured.name;
    sink.identity = configured.identity;
    sink.unresolved = true;
    if (state.open) sink.cursor = start_of(configured.start_at, state, journal_end);
    if (!state.open) sink.cursor = state.closed_end;
    sinks.push_back(std::move(sink));
  }
  for (const SinkState& sink : state.sinks) {
    const bool configured =
        std::ranges::any_of(policy.sinks, [&](const SinkPolicy& p) { return p.name == sink.name; });
    if (configured || drained(state, sink, journal_end)) continue;
    return Error{
        "sink \"" + sink.name + "\" is no longer configured, but " +
        std::to_string(journal_end - passed(sink)) +
        " records still wait for it: configure it again, or give them up with `spillway sink "
        "forget`, or hand them to another name with `spillway sink rename`"};
  }
  state.sinks = std::move(sinks);
  return state;
}

}  // namespace spillway::recovery
