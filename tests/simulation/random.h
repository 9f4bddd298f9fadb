// Random: the one source of chance of a run. The same seed gives the same run with every compiler.
#pragma once

#include <cstdint>

#include "recovery/time.h"

namespace spillway::simulation {

// A bijection that scatters its input: contents of records are made of it.
constexpr std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(mix(seed)) {}

  std::uint64_t next() { return mix(state_ += 0x9e3779b97f4a7c15ULL); }
  std::uint64_t below(std::uint64_t n) { return next() % n; }
  std::uint64_t between(std::uint64_t low, std::uint64_t high) {
    return low + below(high - low + 1);
  }
  bool chance(double p) { return static_cast<double>(next() >> 11) < p * 9007199254740992.0; }
  // A delay with a long tail: mostly a few milliseconds, now and then seconds.
  recovery::Millis delay() {
    const std::uint64_t kind = below(64);
    if (kind < 40) return recovery::Millis(below(4));
    if (kind < 60) return recovery::Millis(below(40));
    if (kind < 63) return recovery::Millis(below(500));
    return recovery::Millis(below(4000));
  }

 private:
  std::uint64_t state_;
};

}  // namespace spillway::simulation
