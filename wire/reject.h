// Why a broker ends a connection: the codes of Reject, and a refusal on its way to becoming one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/position.h"

namespace spillway::wire {

// The numbers of v1::RejectCode: never reused.
enum class RejectCode : std::uint8_t {
  malformed = 1,            // not this protocol, or against its rules
  unsupported_version = 2,  // no version in common
  unknown_stream = 3,
  unauthorized = 4,   // the token is missing or wrong
  fenced = 5,         // a newer generation has the stream; final
  replaced = 6,       // another connection of the same generation took over
  fork = 7,           // a position came again with other content
  gap = 8,            // not what comes after the position held
  too_large = 9,      // a frame or a record is over its limit
  corrupt = 10,       // a CRC does not match
  epoch = 11,         // an epoch that cannot be accepted
  in_flight = 12,     // more unacknowledged bytes than Welcome allows
  halted = 13,        // the stream is halted, and this cannot wait for Resume
  shutting_down = 14,
  record = 15,        // this record is refused for good
  busy = 16,          // not now: too many connections, or the previous one is still ending
};
inline constexpr int kRejectCodes = 16;

// The name used in logs, metrics and JSON, such as "unknown_stream"; "unknown" for any other
// number.
std::string_view name_of(RejectCode code);

// Whether the same attempt may succeed later without anybody changing anything.
constexpr bool is_retryable(RejectCode code) {
  return code == RejectCode::corrupt || code == RejectCode::halted ||
         code == RejectCode::shutting_down || code == RejectCode::busy;
}

struct Refusal {
  RejectCode code = RejectCode::malformed;
  std::string text;
  std::optional<Position> position = std::nullopt;  // of the record that it is about, if of one
  std::optional<Position> last = std::nullopt;      // of that record's last part, if it has parts
};

}  // namespace spillway::wire
