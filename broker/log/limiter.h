// Limiter: how often lines of one kind may be written, so that nobody outside can fill a disk with
// them.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>

namespace spillway::log {

// Lines of one kind: one event, of one stream and sink where it has them.
inline constexpr std::uint64_t kMaxLines = 100;
inline constexpr std::chrono::seconds kLinesWindow{60};
// More than any configuration makes; then the counting starts over.
inline constexpr std::size_t kMaxKinds = 65'536;

// May be called from any thread.
class Limiter {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // Nothing: this line is held back. Otherwise how many were held back before it.
  std::optional<std::uint64_t> admit(const std::string& kind, Time now);
  void clear();

 private:
  struct Count {
    Time since;
    std::uint64_t lines = 0;
    std::uint64_t held_back = 0;
  };

  std::mutex mutex_;
  std::map<std::string, Count> counts_;
};

}  // namespace spillway::log
