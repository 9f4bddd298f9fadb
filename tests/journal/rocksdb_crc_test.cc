// What RocksDB calls for its checksums, and what it would call by itself.
#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <string>

namespace rocksdb::crc32c {

std::uint32_t Extend(std::uint32_t crc, const char* data, std::size_t size);
std::uint32_t own_extend(std::uint32_t crc, const char* data,
                         std::size_t size) __asm__("__real__ZN7rocksdb6crc32c6ExtendEjPKcm");

}  // namespace rocksdb::crc32c

namespace spillway::journal {
namespace {

TEST(RocksDbCrc, IsMadeByTheFunctionThatTakesItsPlace) {
  EXPECT_NE(&rocksdb::crc32c::Extend, &rocksdb::crc32c::own_extend);
  EXPECT_EQ(rocksdb::crc32c::Extend(0, "123456789", 9), 0xe3069283u);
}

TEST(RocksDbCrc, IsTheSameAsRocksDbsOwnForAnyBytesWhereverTheyBegin) {
  std::mt19937_64 random(1);
  std::string bytes(70'000, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  for (int i = 0; i < 20'000; ++i) {
    const std::size_t most = i % 10 == 0 ? bytes.size() : 600;
    const std::size_t size = random() % most;
    const std::size_t begin = random() % (bytes.size() - size);
    const auto crc = static_cast<std::uint32_t>(random());
    ASSERT_EQ(rocksdb::crc32c::Extend(crc, bytes.data() + begin, size),
              rocksdb::crc32c::own_extend(crc, bytes.data() + begin, size))
        << size << " bytes from " << begin;
  }
}

}  // namespace
}  // namespace spillway::journal
