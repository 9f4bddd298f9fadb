// Protobuf's variable-length integers and field tags, for the code that reads and writes in place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace spillway::wire {

inline constexpr std::size_t kMaxVarintBytes = 10;

enum class WireType : std::uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

constexpr std::byte tag_of(unsigned field, WireType type) {
  return static_cast<std::byte>(field << 3 | static_cast<unsigned>(type));
}

// Takes a varint off the front of `bytes`. False, and `bytes` is left where it was, if it is cut
// off or does not fit 64 bits.
inline bool read_varint(std::span<const std::byte>& bytes, std::uint64_t& value) {
  if (!bytes.empty() && bytes[0] < std::byte{0x80}) {
    value = std::to_integer<std::uint64_t>(bytes[0]);
    bytes = bytes.subspan(1);
    return true;
  }
  if (bytes.size() > 1 && bytes[1] < std::byte{0x80}) {  // the length of most records
    value = (std::to_integer<std::uint64_t>(bytes[0]) & 0x7f) |
            std::to_integer<std::uint64_t>(bytes[1]) << 7;
    bytes = bytes.subspan(2);
    return true;
  }
  std::uint64_t result = 0;
  for (std::size_t i = 0; i < bytes.size() && i < kMaxVarintBytes; ++i) {
    const auto byte = std::to_integer<std::uint64_t>(bytes[i]);
    if (i == kMaxVarintBytes - 1 && byte > 1) return false;
    result |= (byte & 0x7f) << (7 * i);
    if (byte < 0x80) {
      value = result;
      bytes = bytes.subspan(i + 1);
      return true;
    }
  }
  return false;
}

// Takes {length, bytes} off the front of `bytes`.
inline bool read_bytes(std::span<const std::byte>& bytes, std::span<const std::byte>& value) {
  std::span<const std::byte> rest = bytes;
  std::uint64_t length = 0;
  if (!read_varint(rest, length) || length > rest.size()) return false;
  value = rest.first(length);
  bytes = rest.subspan(length);
  return true;
}

constexpr std::size_t varint_bytes(std::uint64_t value) {
  std::size_t bytes = 1;
  for (; value >= 0x80; value >>= 7) ++bytes;
  return bytes;
}

inline std::byte* write_varint(std::uint64_t value, std::byte* out) {
  for (; value >= 0x80; value >>= 7) *out++ = static_cast<std::byte>(value | 0x80);
  *out++ = static_cast<std::byte>(value);
  return out;
}

}  // namespace spillway::wire
