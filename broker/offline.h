// What can be done to the stored state of a broker that does not run. Each function opens the
// journal under data_dir exclusively (a running broker is an error that says so), does one durable
// change and closes it. Blocks.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/position.h"
#include "base/result.h"
#include "broker/config/config.h"
#include "broker/status.h"

namespace spillway::broker::offline {

// What keeps `run` from starting with this configuration and this store: a sink or a stream that
// was removed from the configuration with a backlog, a sink with another destination under the same
// name.
struct Obstacle {
  std::string stream;
  std::string sink;  // empty: the stream itself
  std::string text;  // what it is, and the command that takes it out of the way
};
// Reads only, also while a broker runs. A data_dir without a journal has none.
Result<std::vector<Obstacle>> find_obstacles(const config::Config& config);

struct StreamHalt {
  std::string stream;
  HaltStatus halt;
};
// The latches as they are stored, one for each stream of the configuration. Reads only.
Result<std::vector<StreamHalt>> read_halts(const config::Config& config);

// Each returns a sentence that says what was done, with the number of records, if any, that were
// let go and are now in the ledger. Letting records go that the sink has not taken needs
// `accept_drop`.
Result<std::string> forget_sink(const config::Config& config, const std::string& stream,
                                const std::string& sink, bool accept_drop);
Result<std::string> rename_sink(const config::Config& config, const std::string& stream,
                                const std::string& sink, const std::string& new_name);
// The sink is sent everything after `from` as far as records exist; without `from`, as start_at
// says.
Result<std::string> reset_sink(const config::Config& config, const std::string& stream,
                               const std::string& sink, std::optional<Position> from,
                               bool accept_drop);

// Deletes the dead letters of `stream` for good: those of `sink` and at `position`, if these are
// said. A sink that was parked for want of room for them goes on at the next start.
Result<std::string> purge_dead_letters(const config::Config& config, const std::string& stream,
                                       const std::string& sink, std::optional<Position> position);

}  // namespace spillway::broker::offline
