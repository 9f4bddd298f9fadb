#include "base/position.h"

#include <charconv>

namespace spillway {

std::string to_string(Position position) {
  return std::to_string(position.epoch) + "/" + std::to_string(position.sequence);
}

std::optional<Position> parse_position(std::string_view text) {
  Position position;
  const char* const end = text.data() + text.size();
  auto [slash, error] = std::from_chars(text.data(), end, position.epoch);
  if (error != std::errc{} || slash == end || *slash != '/') return std::nullopt;
  auto [last, error2] = std::from_chars(slash + 1, end, position.sequence);
  if (error2 != std::errc{} || last != end) return std::nullopt;
  // Leading zeros: one position has one name.
  if (to_string(position) != text) return std::nullopt;
  return position;
}

}  // namespace spillway
