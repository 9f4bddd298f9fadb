// What a stream starts with: the stored state brought in line with the configuration, or a refusal.
#pragma once

#include <optional>
#include <string_view>

#include "base/position.h"
#include "base/result.h"
#include "recovery/durable_state.h"
#include "recovery/policy.h"

namespace spillway::recovery {

// `stored`: nothing for a new stream. `journal_end`: of the journal, where coverage is open. The
// result has one SinkState for each sink of `policy`, in its order. Refused, with what to do: a
// sink that is no longer configured and has a backlog; a sink of a stored name with another
// destination; a start_at beyond what is there.
Result<DurableState> plan_start(const StreamPolicy& policy, std::optional<DurableState> stored,
                                Offset journal_end);

// What the reason begins with when a sink is parked because its dead letters take all they may.
inline constexpr std::string_view kDeadLettersFull = "dead_letter_bytes is used up";

// True when the stream needs nothing more of a sink: it may be forgotten.
bool drained(const DurableState& state, const SinkState& sink, Offset journal_end);

}  // namespace spillway::recovery
