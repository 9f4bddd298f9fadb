// CRC-32C (Castagnoli), the check of records on the wire and of blocks in the journal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace spillway {

// The CRC of `bytes` continued from `seed`, the CRC of what came before (0 at the start):
// crc32c(b, crc32c(a)) == crc32c(a + b). crc32c("123456789") == 0xE3069283.
std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t seed = 0) noexcept;

}  // namespace spillway
