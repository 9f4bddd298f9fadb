#include "broker/log/limiter.h"

#include <utility>

namespace spillway::log {

std::optional<std::uint64_t> Limiter::admit(const std::string& kind, Time now) {
  const std::lock_guard lock(mutex_);
  if (counts_.size() >= kMaxKinds) counts_.clear();
  const auto [found, fresh] = counts_.try_emplace(kind);
  Count& count = found->second;
  if (fresh || now - count.since >= kLinesWindow) {
    count.since = now;
    count.lines = 0;
  }
  if (count.lines == kMaxLines) {
    ++count.held_back;
    return std::nullopt;
  }
  ++count.lines;
  return std::exchange(count.held_back, 0);
}

void Limiter::clear() {
  const std::lock_guard lock(mutex_);
  counts_.clear();
}

}  // namespace spillway::log
