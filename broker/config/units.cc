#include "broker/config/units.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <limits>
#include <optional>
#include <span>

namespace spillway::config {
namespace {

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};

constexpr std::array kByteUnits = {
    Unit{"", 1},
    Unit{"B", 1},
    Unit{"KiB", std::uint64_t{1} << 10},
    Unit{"MiB", std::uint64_t{1} << 20},
    Unit{"GiB", std::uint64_t{1} << 30},
    Unit{"TiB", std::uint64_t{1} << 40},
    Unit{"kB", 1'000},
    Unit{"KB", 1'000},
    Unit{"MB", 1'000'000},
    Unit{"GB", 1'000'000'000},
    Unit{"TB", 1'000'000'000'000},
};
constexpr std::array kTimeUnits = {
    Unit{"ms", 1},       Unit{"s", 1'000},     Unit{"m", 60'000},
    Unit{"min", 60'000}, Unit{"h", 3'600'000}, Unit{"d", 86'400'000},
};

constexpr std::uint64_t kLargest = std::numeric_limits<std::int64_t>::max();

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Takes "12.5" off the front as a whole part and thousandths; nothing if there is no number.
struct Number {
  std::uint64_t whole = 0;
  std::uint64_t fraction = 0;  // over `scale`
  std::uint64_t scale = 1;
};
std::optional<Number> take_number(std::string_view& text) {
  Number number;
  std::size_t used = 0;
  while (used < text.size() && is_digit(text[used])) {
    const auto digit = static_cast<std::uint64_t>(text[used] - '0');
    if (number.whole > (kLargest - digit) / 10) return std::nullopt;
    number.whole = number.whole * 10 + digit;
    ++used;
  }
  if (used == 0) return std::nullopt;
  if (used + 1 < text.size() && text[used] == '.' && is_digit(text[used + 1])) {
    ++used;
    while (used < text.size() && is_digit(text[used])) {
      if (number.scale >= 1'000'000'000) return std::nullopt;
      number.fraction = number.fraction * 10 + static_cast<std::uint64_t>(text[used] - '0');
      number.scale *= 10;
      ++used;
    }
  }
  text.remove_prefix(used);
  return number;
}

std::string_view take_unit(std::string_view& text) {
  std::size_t used = 0;
  while (used < text.size() && std::isalpha(static_cast<unsigned char>(text[used]))) ++used;
  const auto unit = text.substr(0, used);
  text.remove_prefix(used);
  return unit;
}

// Nothing when the product overflows or is not whole.
std::optional<std::uint64_t> times(const Number& number, std::uint64_t factor, bool round) {
  if (number.whole > kLargest / factor) return std::nullopt;
  // Up to 10^10 times 10^12: more than 64 bits hold.
  __extension__ using Wide = unsigned __int128;
  const Wide part = static_cast<Wide>(number.fraction) * factor;
  if (!round && part % number.scale != 0) return std::nullopt;
  const auto rest = static_cast<std::uint64_t>(part / number.scale);
  const std::uint64_t whole = number.whole * factor;
  if (whole > kLargest - rest) return std::nullopt;
  return whole + rest;
}

const Unit* find(std::span<const Unit> units, std::string_view name) {
  const auto found = std::ranges::find(units, name, &Unit::name);
  return found == units.end() ? nullptr : &*found;
}

}  // namespace

Result<std::uint64_t> parse_bytes(std::string_view text) {
  auto rest = trimmed(text);
  const auto number = take_number(rest);
  rest = trimmed(rest);
  const auto* unit = number ? find(kByteUnits, take_unit(rest)) : nullptr;
  if (unit == nullptr || !rest.empty()) {
    return Error{"\"" + std::string(text) +
                 "\" is not a size; write it like \"64MiB\" or \"10GB\""};
  }
  const auto bytes = times(*number, unit->factor, true);
  if (!bytes) return Error{"\"" + std::string(text) + "\" is too large"};
  return *bytes;
}

Result<std::chrono::milliseconds> parse_duration(std::string_view text) {
  const auto wrong = [&] {
    return Error{"\"" + std::string(text) +
                 "\" is not a duration; write it like \"200ms\", \"30s\" or \"24h\""};
  };
  auto rest = trimmed(text);
  if (rest == "0") return std::chrono::milliseconds{0};
  if (rest.empty()) return wrong();
  std::uint64_t sum = 0;
  std::uint64_t previous = std::numeric_limits<std::uint64_t>::max();
  while (!rest.empty()) {
    const auto number = take_number(rest);
    if (!number) return wrong();
    const auto name = take_unit(rest);
    if (name == "us" || name == "ns") return Error{"durations have a resolution of 1ms"};
    const auto* unit = find(kTimeUnits, name);
    // "30m1h" is more likely a slip than an intention.
    if (unit == nullptr || unit->factor >= previous) return wrong();
    previous = unit->factor;
    const auto part = times(*number, unit->factor, false);
    if (!part) {
      return number->fraction != 0 ? Error{"durations have a resolution of 1ms"}
                                   : Error{"\"" + std::string(text) + "\" is too large"};
    }
    if (*part > kLargest / 2 || sum > kLargest / 2) {
      return Error{"\"" + std::string(text) + "\" is too large"};
    }
    sum += *part;
  }
  return std::chrono::milliseconds{static_cast<std::int64_t>(sum)};
}

Result<std::uint64_t> parse_rate(std::string_view text) {
  const auto whole = trimmed(text);
  if (!whole.ends_with("/s")) {
    return Error{"\"" + std::string(text) + "\" is not a rate; write it like \"8MiB/s\""};
  }
  return parse_bytes(whole.substr(0, whole.size() - 2));
}

std::string format_bytes(std::uint64_t bytes) {
  constexpr std::array<std::string_view, 5> kNames = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  double value = static_cast<double>(bytes);
  while (value >= 1024 && unit + 1 < kNames.size()) {
    value /= 1024;
    ++unit;
  }
  char buffer[32];
  const double tenths = std::round(value * 10) / 10;
  const bool whole = tenths == std::floor(tenths);
  std::snprintf(buffer, sizeof buffer, whole ? "%.0f" : "%.1f", tenths);
  return buffer + std::string(kNames[unit]);
}

std::string format_duration(std::chrono::milliseconds duration) {
  auto rest = duration.count();
  if (rest == 0) return "0s";
  std::string out;
  if (rest < 0) {
    out = "-";
    rest = -rest;
  }
  constexpr std::array kParts = {Unit{"d", 86'400'000}, Unit{"h", 3'600'000}, Unit{"m", 60'000},
                                 Unit{"s", 1'000}, Unit{"ms", 1}};
  for (const auto& part : kParts) {
    const auto factor = static_cast<std::int64_t>(part.factor);
    if (rest < factor) continue;
    out += std::to_string(rest / factor) + std::string(part.name);
    rest %= factor;
  }
  return out;
}

}  // namespace spillway::config
