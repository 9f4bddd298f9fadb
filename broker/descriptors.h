// File descriptors: as many as the process may have, and shared out so that connections from
// outside never take those that the journal and the sinks need.
#pragma once

#include <cstddef>
#include <cstdint>

#include "broker/config/config.h"

namespace spillway::broker {

// For what does not grow with the configuration: files of the process and of RocksDB, reactors, the
// admin server's connections.
inline constexpr std::uint64_t kBaseDescriptors = 192;
inline constexpr std::uint64_t kMaxDescriptors = 65'536;  // that we ask for

// Raises the limit of the process as far as it may. Gives the limit that holds.
std::uint64_t raise_descriptor_limit();

// What journal, sinks and admin may need at most.
std::uint64_t descriptors_kept(const config::Config& config);

// How many connections each listener may take: kMaxConnections, or what `limit` leaves, but never
// fewer than kMinConnections.
std::size_t connections_per_listener(const config::Config& config, std::uint64_t limit);

}  // namespace spillway::broker
