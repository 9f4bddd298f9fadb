// ClockSteps: tells a step of the wall clock from time that went by, so that neither the age of a
// record nor the length of an outage changes because somebody set the clock.
#pragma once

#include <deque>
#include <optional>

#include "base/position.h"
#include "recovery/time.h"

namespace spillway::recovery {

// Knows the steps of this process. One that happened while no broker ran looks like time, and time
// in which the machine slept looks like a step. Not thread-safe.
class ClockSteps {
 public:
  // Less is taken for time: two clocks are not read in the same instant.
  static constexpr Millis kSmallest{2000};

  // To be called with every reading, and the last record that was received until then. Returns by
  // how much the wall clock was set since the last one.
  Millis observe(Now now, Offset head);
  // How long ago a record was received, by the wall clock of then; never less than 0.
  Millis age(Offset offset, WallMs received) const;
  // Where the records begin that are no older than `age`: at or after both.
  struct Bound {
    Offset offset_min = 0;
    WallMs received_min = 0;
  };
  Bound no_older_than(Millis age) const;

 private:
  struct Step {
    Offset head = 0;   // what came before it
    WallMs after = 0;  // what it was set to
    WallMs by = 0;
  };
  static constexpr std::size_t kSteps = 16;  // the oldest two count as one beyond that

  std::optional<Now> last_;
  std::deque<Step> steps_;
};

}  // namespace spillway::recovery
