// Record: what the simulation knows of one record instead of its bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

#include "base/loss.h"
#include "base/position.h"
#include "recovery/event.h"

namespace spillway::simulation {

struct Record {
  Position at;
  std::uint64_t content = 0;  // a hash that stands for the payload
  recovery::RecordInfo info;
  bool mark = false;
  std::optional<LossReason> skip;  // stands for a record that is missing by policy
  recovery::Instant taken{};       // when a broker did
  recovery::Millis excused{0};     // of the world's, then
};

// A guarantee that does not hold, or a simulator that is wrong.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline void require(bool condition, const char* what) {
  if (!condition) throw Failure(what);
}
template <class... Parts>
void require(bool condition, const char* what, const Parts&... parts) {
  if (condition) return;
  std::string text = what;
  const auto add = [&](const auto& part) {
    if constexpr (std::is_convertible_v<decltype(part), std::string>) {
      text += std::string(" ") + std::string(part);
    } else if constexpr (std::is_same_v<std::decay_t<decltype(part)>, Position>) {
      text += " " + to_string(part);
    } else {
      text += " " + std::to_string(part);
    }
  };
  (add(parts), ...);
  throw Failure(text);
}

}  // namespace spillway::simulation
