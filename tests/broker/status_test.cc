#include "broker/status.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>

namespace spillway::broker {
namespace {

StatusReport full() {
  StatusReport report;
  report.version = "1.2.3";
  report.uptime_seconds = 12.5;
  report.ready = true;
  report.stopping = true;
  report.journal = {1, 2, 3, 4, true, "EIO", 60.0};
  StreamStatus stream;
  stream.name = "blocks";
  stream.acks = "all";
  stream.coverage = "open";
  stream.held = {7, 30};
  stream.safe = {7, 20};
  stream.taken = {7, 10};
  stream.window = {100, 200};
  stream.journal = {Position{7, 11}, Position{7, 30}, 300};
  stream.producer = {true, 4, "127.0.0.1:5"};
  stream.blocked = true;
  stream.halt = {true, {{"max_bytes", "copy", "over 1GiB", {7, 30}, 1'700'000'000'000}}};
  SinkStatus sink;
  sink.name = "copy";
  sink.type = "file";
  sink.state = "journaling";
  sink.connected = true;
  sink.refusing = true;
  sink.parked = "because";
  sink.cursor = {7, 9};
  sink.acked = {7, 10};
  sink.sent = {7, 12};
  sink.backlog = {20, 2000, 1.5};
  sink.limits.on_limit = "halt";
  sink.limits.max_bytes = {1000, 0};
  sink.limits.outage_timeout_seconds = {86400.0, 100.5};
  sink.outage = SinkStatus::Outage{1'700'000'000'001, 100.5};
  sink.last_error = SinkStatus::LastError{"refused", 1'700'000'000'002};
  sink.attempts = 9;
  stream.sinks.push_back(sink);
  report.streams.push_back(stream);
  return report;
}

TEST(Status, what_the_broker_writes_the_command_line_reads) {
  const auto text = boost::json::serialize(to_json(full()));
  const auto back = parse_status(text);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(boost::json::serialize(to_json(*back)), text);
}

TEST(Status, positions_are_text_and_what_is_unlimited_is_null) {
  const auto value = to_json(full());
  const auto& stream = value.at("streams").at(0);
  EXPECT_EQ(stream.at("held").as_string(), "7/30");
  EXPECT_EQ(stream.at("journal").at("first").as_string(), "7/11");
  const auto& limits = stream.at("sinks").at(0).at("limits");
  EXPECT_TRUE(limits.at("max_records").at("limit").is_null());
  EXPECT_EQ(limits.at("max_bytes").at("left").to_number<int>(), 0);
  EXPECT_EQ(stream.at("halt").at("causes").at(0).at("kind").as_string(), "max_bytes");
}

TEST(Status, a_report_of_another_version_is_taken) {
  const auto report = parse_status(R"({"version":"9","novel":1,"streams":[{"name":"s"}]})");
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->version, "9");
  EXPECT_EQ(report->streams.at(0).name, "s");
  EXPECT_FALSE(report->streams.at(0).halt.active);
}

TEST(Status, what_is_no_report_is_refused) {
  for (const auto* bad : {"", "{", "[]", "null", R"({"streams":1})", R"({"version":2})",
                          R"({"streams":[{"held":"x"}]})"}) {
    EXPECT_FALSE(parse_status(bad)) << bad;
  }
}

}  // namespace
}  // namespace spillway::broker
