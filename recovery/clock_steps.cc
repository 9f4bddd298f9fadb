#include "recovery/clock_steps.h"

#include <algorithm>

namespace spillway::recovery {

Millis ClockSteps::observe(Now now, Offset head) {
  const Now last = last_.value_or(now);
  last_ = now;
  const Millis by = Millis(now.wall - last.wall) - (now.steady - last.steady);
  if (by > -kSmallest && by < kSmallest) return Millis(0);
  steps_.push_back({head, now.wall, by.count()});
  if (steps_.size() > kSteps) {
    steps_[1].by += steps_[0].by;
    steps_.pop_front();
  }
  return by;
}

Millis ClockSteps::age(Offset offset, WallMs received) const {
  if (!last_) return Millis(0);
  WallMs age = last_->wall - received;
  for (const Step& step : steps_) {
    if (offset <= step.head) age -= step.by;
  }
  return Millis(std::max<WallMs>(age, 0));
}

ClockSteps::Bound ClockSteps::no_older_than(Millis age) const {
  if (!last_) return {};
  Bound bound{0, last_->wall - age.count()};
  for (auto step = steps_.rbegin(); step != steps_.rend(); ++step) {
    if (bound.received_min >= step->after) {  // what came before it is too old, whatever it says
      bound.offset_min = step->head;
      break;
    }
    bound.received_min -= step->by;
  }
  return bound;
}

}  // namespace spillway::recovery
