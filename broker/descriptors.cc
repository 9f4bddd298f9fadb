#include "broker/descriptors.h"

#include <sys/resource.h>

#include <algorithm>

#include "broker/ingress.h"

namespace spillway::broker {

namespace {

// The journal keeps its tables open. The smallest that it writes are 1/32 of the bound or 64 MiB;
// as many again for those that a flush has just written and a trim has not dropped yet.
constexpr std::uint64_t kTableBytes = std::uint64_t{64} << 20;
constexpr std::uint64_t kMinTables = 32;
constexpr std::uint64_t kPerSink = 4;  // a connection, its successor, data and position
constexpr std::uint64_t kPerStream = 8;

}  // namespace

std::uint64_t raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  const rlim_t wanted = std::min<rlim_t>(limit.rlim_max, kMaxDescriptors);
  if (limit.rlim_cur < wanted) {
    const rlimit raised{wanted, limit.rlim_max};
    if (::setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  }
  return limit.rlim_cur;
}

std::uint64_t descriptors_kept(const config::Config& config) {
  std::uint64_t kept =
      kBaseDescriptors + 2 * std::max(kMinTables, config.journal.max_disk_bytes / kTableBytes);
  for (const config::Stream& stream : config.streams) {
    kept += kPerStream + kPerSink * stream.sinks.size();
  }
  return kept;
}

std::size_t connections_per_listener(const config::Config& config, std::uint64_t limit) {
  const std::uint64_t kept = descriptors_kept(config);
  const std::uint64_t left = limit > kept ? limit - kept : 0;
  const std::uint64_t each = left / std::max<std::size_t>(1, config.ingress.size());
  const std::uint64_t most = each > kMaxRefusals ? each - kMaxRefusals : 0;
  return std::clamp<std::uint64_t>(most, kMinConnections, kMaxConnections);
}

}  // namespace spillway::broker
