// Forecast: when a level that moves will reach a limit, from its smoothed speed.
#pragma once

namespace spillway::metrics {

inline constexpr double kForecastSeconds = 60;  // the window of what operators are told

// Pure arithmetic: the caller brings the time, in seconds of a steady clock. Not thread-safe.
class Forecast {
 public:
  // Changes of speed show after about `window_seconds`.
  explicit Forecast(double window_seconds) : window_(window_seconds) {}

  void observe(double now_seconds, double level);
  // Forgets speed and level, as at the start of another replay.
  void reset() { observed_ = 0; }

  double per_second() const { return observed_ > 1 ? rate_ : 0; }
  // 0 if the level is there, infinity if it does not move towards `limit`.
  double seconds_until(double limit) const;
  // The same of a limit that a rising level is to stay below: 0 at it and beyond.
  double seconds_below(double limit) const;

 private:
  double window_;
  double at_ = 0;
  double level_ = 0;
  double rate_ = 0;
  int observed_ = 0;  // 0, 1, or 2 for more
};

}  // namespace spillway::metrics
