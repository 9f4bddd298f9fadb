#include "broker/log/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "broker/log/limiter.h"

namespace spillway::log {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::MatchesRegex;

class LogTest : public testing::Test {
 protected:
  void SetUp() override {
    set_writer([this](std::string_view line) { lines_.emplace_back(line); });
    init(Format::text, Level::debug);
  }
  void TearDown() override {
    set_writer({});
    init(Format::text, Level::info);
  }
  // The line without its time.
  std::string line() const { return lines_.at(0).substr(lines_.at(0).find(' ') + 1); }
  std::string json() const { return lines_.at(0).substr(lines_.at(0).find("\"level\"")); }

  std::vector<std::string> lines_;
};

TEST_F(LogTest, a_text_line_has_time_level_event_and_fields) {
  const std::string stream = "blocks";
  info("sink connected",
       {{"stream", stream}, {"sink", "warehouse"}, {"position", Position{7, 120}}});
  ASSERT_EQ(lines_.size(), 1u);
  EXPECT_THAT(lines_[0], MatchesRegex("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\."
                                      "[0-9]{3}Z info sink connected stream=blocks sink=warehouse "
                                      "position=7/120"));
}

TEST_F(LogTest, a_json_line_is_one_object) {
  init(Format::json, Level::debug);
  warning("sink lost", {{"sink", "a"}, {"attempts", 3}, {"seconds", 0.25}, {"up", false}});
  EXPECT_EQ(json(),
            R"("level":"warning","event":"sink lost","sink":"a","attempts":3,"seconds":0.25,)"
            R"("up":false})");
  EXPECT_EQ(lines_[0].substr(0, 9), R"({"time":")");
}

TEST_F(LogTest, numbers_keep_their_whole_range) {
  info("n", {{"least", std::numeric_limits<std::int64_t>::min()},
             {"most", std::numeric_limits<std::uint64_t>::max()}});
  EXPECT_EQ(line(), "info n least=-9223372036854775808 most=18446744073709551615");
}

TEST_F(LogTest, text_that_is_not_a_plain_word_is_quoted_and_escaped) {
  info("e",
       {{"a", "two words"}, {"b", "say \"hi\" \\"}, {"c", "1\n2\r\t3"}, {"d", ""}, {"e", "x=y"}});
  EXPECT_EQ(line(), R"(info e a="two words" b="say \"hi\" \\" c="1\n2\r\t3" d="" e="x=y")");
}

TEST_F(LogTest, control_characters_and_broken_utf8_cannot_reach_a_terminal) {
  info("e",
       {{"a", "\x1b[31m"}, {"b", "\xff\xc0\x80"}, {"c", std::string("\0", 1)}, {"d", "\xc2\x9b"}});
  EXPECT_EQ(line(), R"(info e a="\x1b[31m" b="\xff\xc0\x80" c="\x00" d="\xc2\x9b")");
}

TEST_F(LogTest, good_utf8_stays_readable) {
  info("e", {{"a", "Zürich €"}});
  EXPECT_EQ(line(), "info e a=\"Zürich €\"");
}

TEST_F(LogTest, json_escapes_quotes_controls_and_broken_utf8) {
  init(Format::json, Level::info);
  info("e", {{"a", "\"\\\n\x01"}, {"b", "\xed\xa0\x80"}, {"c", "€"}, {"d", "\xe2\x82"}});
  EXPECT_THAT(
      json(),
      EndsWith(R"("a":"\"\\\n\u0001","b":"\ufffd\ufffd\ufffd","c":"€","d":"\ufffd\ufffd"})"));
}

TEST_F(LogTest, json_says_infinity_as_text) {
  init(Format::json, Level::info);
  info("e", {{"left", std::numeric_limits<double>::infinity()}});
  EXPECT_THAT(json(), EndsWith(R"("left":"inf"})"));
}

TEST_F(LogTest, braces_in_values_are_not_formats) {
  info("e", {{"a", "{}%v"}});
  EXPECT_EQ(line(), "info e a=\"{}%v\"");
}

TEST_F(LogTest, lines_below_the_level_are_not_written) {
  init(Format::text, Level::warning);
  debug("a");
  info("b");
  warning("c");
  error("d");
  ASSERT_EQ(lines_.size(), 2u);
  EXPECT_THAT(lines_[0], EndsWith("warning c"));
  EXPECT_THAT(lines_[1], EndsWith("error d"));
  EXPECT_FALSE(enabled(Level::info));
  EXPECT_TRUE(enabled(Level::error));
}

TEST_F(LogTest, lines_of_several_threads_do_not_mix) {
  const auto writes = [](const char* name) {
    for (int i = 0; i < 500; ++i) {
      info("event", {{"thread", name}, {"stream", std::to_string(i / 50)}});
    }
  };
  std::thread a(writes, "aaaaaaaa"), b(writes, "bbbbbbbb");
  a.join();
  b.join();
  ASSERT_EQ(lines_.size(), 1000u);
  for (const std::string& each : lines_) {
    EXPECT_THAT(each, MatchesRegex(".* info event thread=(aaaaaaaa|bbbbbbbb) stream=[0-9]"));
  }
}

TEST_F(LogTest, without_a_writer_lines_go_to_standard_error) {
  set_writer({});
  testing::internal::CaptureStderr();
  error("journal failing", {{"error", "No space left on device"}});
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              HasSubstr(" error journal failing error=\"No space left on device\"\n"));
}

TEST_F(LogTest, more_lines_of_one_kind_than_are_allowed_in_a_minute_are_held_back) {
  for (std::uint64_t i = 0; i < kMaxLines + 50; ++i) warning("producer refused", {{"why", "x"}});
  EXPECT_EQ(lines_.size(), kMaxLines);
  warning("sink lost", {{"stream", "a"}, {"sink", "one"}});
  warning("sink lost", {{"stream", "a"}, {"sink", "two"}});
  EXPECT_EQ(lines_.size(), kMaxLines + 2);
}

TEST(LimiterTest, the_first_line_of_the_next_minute_says_how_many_were_held_back) {
  Limiter limiter;
  const Limiter::Time start = Limiter::Time::clock::now();
  for (std::uint64_t i = 0; i < kMaxLines; ++i) EXPECT_EQ(limiter.admit("a", start), 0u);
  EXPECT_FALSE(limiter.admit("a", start));
  EXPECT_FALSE(limiter.admit("a", start + kLinesWindow - std::chrono::nanoseconds(1)));
  EXPECT_EQ(limiter.admit("b", start), 0u);
  EXPECT_EQ(limiter.admit("a", start + kLinesWindow), 2u);
  EXPECT_EQ(limiter.admit("a", start + kLinesWindow), 0u);
}

TEST_F(LogTest, a_value_longer_than_allowed_is_cut) {
  info("at", {{"agent", std::string(kMaxValueBytes, 'x')}});
  info("over", {{"agent", std::string(60'000, 'x')}});
  EXPECT_THAT(lines_.at(0), EndsWith(std::string(kMaxValueBytes, 'x')));
  EXPECT_THAT(lines_.at(1), EndsWith(std::string(kMaxValueBytes, 'x') + "..."));
}

}  // namespace
}  // namespace spillway::log
