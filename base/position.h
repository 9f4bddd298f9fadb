// Where a record stands in its stream: Position on the outside, Offset on the inside.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

namespace spillway {

// The identity of a record in its stream, ordered lexicographically. Within an epoch sequences are
// contiguous and start at 1. {e, 0} is the place before the first record of epoch e.
struct Position {
  std::uint64_t epoch = 0;
  std::uint64_t sequence = 0;
  friend auto operator<=>(const Position&, const Position&) = default;
};

// "epoch/sequence", as the command line and the configuration write it.
std::string to_string(Position position);
// The reverse of to_string(); nothing when `text` is anything else.
std::optional<Position> parse_position(std::string_view text);

// The number of a record counted over all epochs of its stream, starting at 1; 0 is the place
// before the first. Offsets are dense, so "next" is always + 1; they are a broker's own and never
// leave it: the epoch table (recovery/epochs.h) maps them to positions at the edges.
using Offset = std::uint64_t;

// No sequence that is sent or taken is beyond this, no offset of a record, and no epoch that
// another program names: the sum of any two of them fits an Offset.
inline constexpr std::uint64_t kMaxOffset = (std::uint64_t{1} << 63) - 1;

// Indexes into the configuration of one process: never stored, never sent.
enum class StreamId : std::uint32_t {};
enum class SinkId : std::uint32_t {};
// One try to connect a sink. Whatever carries an old number is ignored.
enum class Attempt : std::uint64_t {};
// One connected producer, unique in the life of a process.
enum class SessionId : std::uint64_t {};

template <class Id>
  requires std::is_enum_v<Id>
constexpr auto value_of(Id id) {
  return static_cast<std::underlying_type_t<Id>>(id);
}

}  // namespace spillway
