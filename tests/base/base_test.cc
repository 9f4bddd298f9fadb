#include <gtest/gtest.h>

#include <cstring>

#include "base/crc32c.h"
#include "base/invariant.h"
#include "base/position.h"
#include "base/utf8.h"

namespace spillway {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST(Utf8, IsWhatProtobufTakesForAString) {
  for (const char* text : {"", "abc", "\x7f", "\xc3\xa9", "\xe2\x82\xac", "\xed\x9f\xbf",
                           "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_TRUE(is_utf8(text)) << text;
  }
  for (const char* text : {"\x80", "\xc3", "\xc0\xaf", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80",
                           "\xe2\x82", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xff", "a\xfe"}) {
    EXPECT_FALSE(is_utf8(text)) << text;
  }
}

TEST(Utf8, IsWhatPrintableMakesOfAnything) {
  EXPECT_EQ(printable("a \"b\" \xe2\x82\xac"), "a \"b\" \xe2\x82\xac");
  EXPECT_EQ(printable("\xff\xfe"), "\\xff\\xfe");
  EXPECT_EQ(printable("a\n\x7f\xe2\x82"), "a\\x0a\\x7f\\xe2\\x82");
  EXPECT_EQ(printable(std::string_view("\0\xf0\x9f\x98\x80", 5)), "\\x00\xf0\x9f\x98\x80");
  for (int first = 0; first < 256; ++first) {
    for (int second = 0; second < 256; ++second) {
      const std::string text{static_cast<char>(first), static_cast<char>(second), 'x'};
      EXPECT_TRUE(is_utf8(printable(text))) << first << " " << second;
    }
  }
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
                           "18446744073709551616/1", "a/b", "01/2", "1/02"}) {
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
