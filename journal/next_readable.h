// How reading finds its way behind what is damaged, where nothing says how far the damage reaches.
#pragma once

#include "base/position.h"

namespace spillway::journal {

// A damaged part of a table holds 64 KiB of values, which is less than so many records, or else
// skip blocks: within this distance no intact part may be leapt over.
inline constexpr Offset kStepsOfOne = 8192;

// The first offset after `bad` at which `readable(offset)` holds; `end` + 1 when none up to `end`
// is found. `readable` is false for `bad` itself.
template <class Readable>
Offset next_readable(Offset bad, Offset end, const Readable& readable) {
  Offset low = bad;  // not readable
  for (Offset step = 1; low < end && step <= end - low; step *= (low - bad < kStepsOfOne ? 1 : 2)) {
    if (!readable(low + step)) {
      low += step;
      continue;
    }
    Offset high = low + step;
    while (high - low > 1) {
      const Offset middle = low + (high - low) / 2;
      (readable(middle) ? high : low) = middle;
    }
    return high;
  }
  return end == ~Offset{0} ? end : end + 1;
}

}  // namespace spillway::journal
