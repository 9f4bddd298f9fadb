#include "metrics/forecast.h"

#include <cmath>
#include <limits>

namespace spillway::metrics {

void Forecast::observe(double now_seconds, double level) {
  if (observed_ == 0) {
    observed_ = 1;
  } else {
    const double elapsed = now_seconds - at_;
    if (elapsed <= 0) return;
    const double speed = (level - level_) / elapsed;
    const double weight = observed_ == 1 ? 1 : 1 - std::exp(-elapsed / window_);
    rate_ = (observed_ == 1 ? 0 : rate_ * (1 - weight)) + speed * weight;
    observed_ = 2;
  }
  at_ = now_seconds;
  level_ = level;
}

double Forecast::seconds_until(double limit) const {
  const double distance = limit - level_;
  if (observed_ > 0 && distance == 0) return 0;
  const double rate = per_second();
  if (rate == 0 || (distance > 0) != (rate > 0)) return std::numeric_limits<double>::infinity();
  return distance / rate;
}

double Forecast::seconds_below(double limit) const {
  return observed_ > 0 && level_ >= limit ? 0 : seconds_until(limit);
}

}  // namespace spillway::metrics
