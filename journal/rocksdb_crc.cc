// Debian builds RocksDB for every x86-64 there is, so it makes the CRC-32C of its WAL from tables,
// at about 1 GB/s: a third of all instructions of a journaled record. The linker sends its calls
// here instead (--wrap, in CMakeLists.txt): the same function, by the hardware's instruction.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/crc32c.h"

namespace spillway::journal {

// rocksdb::crc32c::Extend(unsigned, char const*, unsigned long), as --wrap names it.
std::uint32_t extend_crc(std::uint32_t crc, const char* data,
                         std::size_t size) __asm__("__wrap__ZN7rocksdb6crc32c6ExtendEjPKcm");

std::uint32_t extend_crc(std::uint32_t crc, const char* data, std::size_t size) {
  return crc32c(std::as_bytes(std::span(data, size)), crc);
}

}  // namespace spillway::journal
