// Time as the machines see it: handed in with every event, never read.
#pragma once

#include <chrono>
#include <cstdint>

namespace spillway::recovery {

using Millis = std::chrono::milliseconds;
using Instant = std::chrono::time_point<std::chrono::steady_clock, Millis>;
using WallMs = std::int64_t;  // milliseconds since 1970; may jump either way

struct Now {
  Instant steady{};  // never goes back
  WallMs wall = 0;
};

}  // namespace spillway::recovery
