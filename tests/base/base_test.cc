#include <gtest/gtest.h>

#include <cstring>

#include "base/crc32c.h"
#include "base/invariant.h"
#include "base/position.h"

namespace spillway {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST(Position, IsOrderedByEpochThenSequence) {
  EXPECT_LT((Position{1, 900}), (Position{2, 1}));
  EXPECT_LT((Position{2, 1}), (Position{2, 2}));
  EXPECT_EQ((Position{2, 2}), (Position{2, 2}));
}

TEST(Position, SurvivesBeingWrittenAndRead) {
  const Position position{1760000000, 18446744073709551615ULL};
  EXPECT_EQ(parse_position(to_string(position)), position);
}

TEST(Position, IsNotReadFromAnythingElse) {
  for (const char* text : {"", "/", "1", "1/", "/1", "1/2/3", "1/2 ", " 1/2", "-1/2", "1/-2",
                           "18446744073709551616/1", "a/b"}) {
    EXPECT_EQ(parse_position(text), std::nullopt) << text;
  }
}

TEST(Crc32c, MatchesThePublishedCheckValue) {
  EXPECT_EQ(crc32c(bytes_of("123456789")), 0xE3069283U);
  EXPECT_EQ(crc32c({}), 0U);
}

TEST(Crc32c, ContinuesFromTheSumOfWhatCameBefore) {
  EXPECT_EQ(crc32c(bytes_of("6789"), crc32c(bytes_of("12345"))), 0xE3069283U);
}

TEST(InvariantDeathTest, StopsTheProcessAndNamesTheCondition) {
  EXPECT_DEATH(INVARIANT(1 + 1 == 3), "invariant failed: 1 \\+ 1 == 3");
}

}  // namespace
}  // namespace spillway
