#include "base/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>

namespace spillway {

std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t seed) noexcept {
  constexpr std::size_t kChunk = std::size_t{1} << 30;  // the library counts in int
  std::uint32_t crc = ~seed;
  while (!bytes.empty()) {
    const auto part = bytes.first(std::min(bytes.size(), kChunk));
    // The library's parameter is not const, but it only reads.
    auto* data = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(part.data()));
    crc = crc32_iscsi(data, static_cast<int>(part.size()), crc);
    bytes = bytes.subspan(part.size());
  }
  return ~crc;
}

}  // namespace spillway
