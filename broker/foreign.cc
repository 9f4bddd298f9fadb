#include "broker/foreign.h"

#include <algorithm>
#include <utility>

#include "broker/state_codec.h"
#include "recovery/startup.h"

namespace spillway::broker::offline {

std::uint64_t records_waiting(const std::optional<recovery::DurableState>& state, Offset low,
                              Offset end) {
  if (!state) return end - std::min(low, end);
  std::uint64_t waiting = 0;
  for (const recovery::SinkState& sink : state->sinks) {
    if (recovery::drained(*state, sink, end)) continue;
    waiting = std::max(waiting, end - recovery::passed(sink));
  }
  return waiting;
}

std::string foreign_text(const std::string& stream, std::uint64_t waiting) {
  return "is not a stream of the configuration, and " + std::to_string(waiting) +
         (waiting == 1 ? " record of it waits" : " records of it wait") +
         " for its sinks: configure it again, or run the broker that this data_dir belongs to; or "
         "write them to a file with `spillway journal export --stream " +
         stream + " --output FILE`, and let go of it with `spillway journal repair " +
         "--forget-stream " + stream + "`";
}

std::optional<std::string> foreign(const journal::Recovered& stored) {
  std::optional<recovery::DurableState> state;
  if (stored.state) {
    // One that cannot be read says nothing about who has what.
    if (auto decoded = decode_state(*stored.state)) state = std::move(*decoded);
  }
  const std::uint64_t waiting = records_waiting(state, stored.watermark, stored.end);
  if (waiting == 0) return std::nullopt;
  return foreign_text(stored.stream, waiting);
}

}  // namespace spillway::broker::offline
