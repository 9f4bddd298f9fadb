// Log: one line per event, as key=value text or as a JSON object, on standard error.
//
//   log::info("sink connected", {{"stream", stream}, {"sink", sink}, {"position", position}});
//
// Operation: init() once at start; before it lines are text at level info. Lines are written before
// the call returns, so the last one before a crash is there.
// Concurrency: every function may be called from any thread; init() and set_writer() only while no
// other thread logs.
// Limitations: for transitions and failures, never for single records.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <variant>

#include "base/position.h"

namespace spillway::log {

// Of one value; what is longer is cut.
inline constexpr std::size_t kMaxValueBytes = 1024;

enum class Format { text, json };
enum class Level { debug, info, warning, error, off };

// One key and its value. Keys are ours ([a-z_]+, and not time, level or event); values may be
// anything, also what a peer sent: control characters, quotes and broken UTF-8 are escaped.
// A field holds a view of its text: it lives for the length of the call that it is made for.
class Field {
 public:
  Field(std::string_view key, std::string_view value) : key_(key), value_(value) {}
  Field(std::string_view key, const char* value) : key_(key), value_(std::string_view(value)) {}
  Field(std::string_view key, const std::string& value)
      : key_(key), value_(std::string_view(value)) {}
  Field(std::string_view key, bool value) : key_(key), value_(value) {}
  Field(std::string_view key, Position value) : key_(key), value_(value) {}
  Field(std::string_view key, std::floating_point auto value)
      : key_(key), value_(static_cast<double>(value)) {}
  template <std::signed_integral T>
  Field(std::string_view key, T value) : key_(key), value_(static_cast<std::int64_t>(value)) {}
  template <std::unsigned_integral T>
    requires(!std::same_as<T, bool>)
  Field(std::string_view key, T value) : key_(key), value_(static_cast<std::uint64_t>(value)) {}

  std::string_view key() const { return key_; }
  const auto& value() const { return value_; }

 private:
  std::string_view key_;
  std::variant<std::string_view, bool, std::int64_t, std::uint64_t, double, Position> value_;
};
using Fields = std::initializer_list<Field>;

// Sets format and lowest level that is written.
void init(Format format, Level level);
// Sends finished lines (without the newline) somewhere else; nothing: to standard error again.
void set_writer(std::function<void(std::string_view line)> writer);

// False when a line of this level would not be written: for fields that cost something to make.
bool enabled(Level level);

// `event` is a constant text without the particulars, so that it can be searched for.
void debug(std::string_view event, Fields fields = {});
void info(std::string_view event, Fields fields = {});
void warning(std::string_view event, Fields fields = {});
void error(std::string_view event, Fields fields = {});

}  // namespace spillway::log
