// Counts and Trace: what happened, over all seeds and in one.
#pragma once

#include <array>
#include <cstdio>
#include <deque>
#include <map>
#include <string>
#include <string_view>

#include "base/position.h"
#include "recovery/action.h"
#include "recovery/stream_machine.h"
#include "tests/simulation/plan.h"

namespace spillway::simulation {

struct Counts {
  std::uint64_t seeds = 0;
  std::uint64_t steps = 0;
  std::uint64_t records = 0;
  std::uint64_t duplicates = 0;
  std::uint64_t overlapped = 0;  // appends sent while others were under way
  std::array<std::uint64_t, kFaults> faults{};
  // [from][to] of deliveries by cause, and of coverage.
  std::map<std::array<int, 3>, std::uint64_t> delivery;
  std::array<std::array<std::uint64_t, 8>, 8> coverage{};
  std::array<std::uint64_t, kLossReasons + 1> losses{};
  std::array<std::uint64_t, recovery::kCauseKinds + 1> halts{};
  std::array<std::uint64_t, 16> rejects{};
  double window_ratio = 0;  // the fullest window, as a share of window_bytes

  void print() const;
  // Transitions, faults and causes of halts that were never reached, as text; empty: none.
  std::string unreached() const;

 private:
  std::uint64_t of(const recovery::DeliveryTransition& row) const;
  std::uint64_t of(const recovery::CoverageTransition& row) const;
};

// The last lines of a run, or all of them as they come.
class Trace {
 public:
  enum class Mode { off, tail, all };
  explicit Trace(Mode mode) : mode_(mode) {}

  bool on() const { return mode_ != Mode::off; }
  template <class... Parts>
  void line(recovery::Instant at, const Parts&... parts) {
    std::string text = std::to_string(at.time_since_epoch().count() - 1'000'000) + " ";
    (append(text, parts), ...);
    keep(std::move(text));
  }
  void dump() const;

 private:
  static void append(std::string& text, std::string_view part) { text += part; }
  static void append(std::string& text, const char* part) { text += part; }
  static void append(std::string& text, Position part) { text += to_string(part); }
  template <class Number>
    requires std::is_arithmetic_v<Number>
  static void append(std::string& text, Number part) { text += std::to_string(part); }
  void keep(std::string text);

  const Mode mode_;
  std::deque<std::string> lines_;
};

}  // namespace spillway::simulation
