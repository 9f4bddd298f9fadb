// Backoff: pauses between attempts, growing to a ceiling, with jitter from an injected seed.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "recovery/policy.h"

namespace spillway::recovery {

class Backoff {
 public:
  Backoff(const BackoffPolicy& policy, std::uint64_t seed) : policy_(policy), random_(seed | 1) {}

  Millis next() {
    const double ceiling = static_cast<double>(policy_.max.count());
    double pause = static_cast<double>(policy_.initial.count()) *
                   std::pow(policy_.multiplier, static_cast<double>(std::min(failures_, 64)));
    pause = std::min(pause, ceiling);
    ++failures_;
    random_ = random_ * 6364136223846793005ULL + 1442695040888963407ULL;
    const double unit = static_cast<double>(random_ >> 11) / 9007199254740992.0;  // [0, 1)
    pause *= 1.0 + policy_.jitter * (2.0 * unit - 1.0);
    return Millis(static_cast<Millis::rep>(std::max(1.0, pause)));
  }

  void reset() { failures_ = 0; }
  int failures() const { return failures_; }

 private:
  BackoffPolicy policy_;
  std::uint64_t random_;
  int failures_ = 0;
};

}  // namespace spillway::recovery
