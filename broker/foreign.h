// Streams of the store that the configuration does not name: what of them is still needed, and what
// the operator is told.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/position.h"
#include "journal/journal.h"
#include "recovery/durable_state.h"

namespace spillway::broker::offline {

// How many of the newest records, through `end`, at least one sink waits for. Without a state:
// everything after `low`.
std::uint64_t records_waiting(const std::optional<recovery::DurableState>& state, Offset low,
                              Offset end);

// That records of such a stream wait, and the commands that take it out of the way.
std::string foreign_text(const std::string& stream, std::uint64_t waiting);

// Nothing when no record waits.
std::optional<std::string> foreign(const journal::Recovered& stored);

}  // namespace spillway::broker::offline
