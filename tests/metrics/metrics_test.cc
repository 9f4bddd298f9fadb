#include "metrics/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "metrics/forecast.h"
#include "metrics/probes.h"
#include "recovery/halt.h"
#include "wire/reject.h"

namespace spillway::metrics {
namespace {

using testing::HasSubstr;
using testing::Not;

class MetricsTest : public testing::Test {
 protected:
  // The value of the series, written as the exposition writes it; "absent" without one.
  std::string value(const std::string& series) const {
    std::istringstream lines(metrics_.expose());
    for (std::string line; std::getline(lines, line);) {
      const std::size_t space = line.rfind(' ');
      if (line.substr(0, space) == series) return line.substr(space + 1);
    }
    return "absent";
  }

  Metrics metrics_{{"1.2.3", "abc", 1700000000}};
};

SinkOptions sink_options() { return {.stream = "s", .sink = "k", .type = "file"}; }

TEST_F(MetricsTest, the_identity_of_the_process_is_exposed) {
  EXPECT_THAT(metrics_.expose(), HasSubstr("version=\"1.2.3\""));
  EXPECT_EQ(value("spillway_config_hash_info{hash=\"abc\"}"), "1");
  EXPECT_EQ(value("spillway_config_last_reload_successful"), "1");
  EXPECT_EQ(value("spillway_config_last_reload_success_timestamp_seconds"), "1700000000");
}

TEST_F(MetricsTest, every_series_of_a_sink_exists_before_anything_happened) {
  const SinkProbe probe(metrics_, sink_options());
  for (const std::string_view state : kSinkStates) {
    EXPECT_EQ(
        value("spillway_sink_state{sink=\"k\",state=\"" + std::string(state) + "\",stream=\"s\"}"),
        "0");
  }
  for (int i = 1; i <= kLossReasons; ++i) {
    const auto reason = static_cast<LossReason>(i);
    const std::string name =
        reason == LossReason::rejected ? "spillway_dead_letter" : "spillway_dropped";
    EXPECT_EQ(value(name + "_messages_total{reason=\"" + std::string(name_of(reason)) +
                    "\",sink=\"k\",stream=\"s\"}"),
              "0");
  }
  for (const std::string_view failure : kFailures) {
    EXPECT_EQ(value("spillway_sink_connection_failures_total{reason=\"" + std::string(failure) +
                    "\",sink=\"k\",stream=\"s\"}"),
              "0");
  }
  EXPECT_EQ(value("spillway_sink_delivered_messages_total{mode=\"live\",sink=\"k\",stream=\"s\"}"),
            "0");
  EXPECT_EQ(value("spillway_sink_delivered_bytes_total{mode=\"replay\",sink=\"k\",stream=\"s\"}"),
            "0");
  EXPECT_EQ(value("spillway_replays_total{result=\"interrupted\",sink=\"k\",stream=\"s\"}"), "0");
}

TEST_F(MetricsTest, halts_and_rejects_have_a_series_for_every_cause_that_the_code_can_name) {
  const StreamProbe stream(metrics_, {.stream = "s", .acks = "all"});
  const IngressProbe ingress(metrics_);
  for (int i = 1; i <= recovery::kCauseKinds; ++i) {
    const std::string cause(recovery::name_of(static_cast<recovery::CauseKind>(i)));
    EXPECT_EQ(value("spillway_halt_active{cause=\"" + cause + "\",stream=\"s\"}"), "0") << cause;
    EXPECT_EQ(value("spillway_halts_total{cause=\"" + cause + "\",stream=\"s\"}"), "0") << cause;
  }
  for (int i = 1; i <= wire::kRejectCodes; ++i) {
    const std::string code(wire::name_of(static_cast<wire::RejectCode>(i)));
    EXPECT_EQ(value("spillway_ingress_rejects_total{code=\"" + code + "\"}"), "0") << code;
  }
}

TEST_F(MetricsTest, a_sink_is_in_one_state_at_a_time) {
  SinkProbe probe(metrics_, sink_options());
  probe.entered(SinkState::journaling);
  probe.entered(SinkState::replaying);
  EXPECT_EQ(value("spillway_sink_state{sink=\"k\",state=\"journaling\",stream=\"s\"}"), "0");
  EXPECT_EQ(value("spillway_sink_state{sink=\"k\",state=\"replaying\",stream=\"s\"}"), "1");
}

TEST_F(MetricsTest, a_refusing_sink_is_told_apart_from_one_that_is_away) {
  SinkProbe probe(metrics_, sink_options());
  const std::string up = "spillway_sink_up{sink=\"k\",stream=\"s\"}";
  const std::string refusing = "spillway_sink_refusing{sink=\"k\",stream=\"s\"}";
  probe.connected();
  EXPECT_EQ(value(up) + value(refusing), "10");
  probe.disconnected(Failure::refused, 3);
  EXPECT_EQ(value(up) + value(refusing), "01");
  probe.connect_failed(Failure::connect_failed);
  EXPECT_EQ(value(up) + value(refusing), "00");
  probe.connected();
  probe.closed();
  EXPECT_EQ(value(up) + value(refusing), "00");
  EXPECT_EQ(value("spillway_sink_disconnects_total{sink=\"k\",stream=\"s\"}"), "1");
  EXPECT_EQ(value("spillway_sink_connects_total{sink=\"k\",stream=\"s\"}"), "2");
  EXPECT_EQ(value("spillway_sink_send_failures_total{reason=\"refused\",retriable=\"true\",sink="
                  "\"k\",stream=\"s\"}"),
            "3");
}

TEST_F(MetricsTest, a_record_refused_for_good_is_a_dead_letter_and_a_send_failure) {
  SinkProbe probe(metrics_, sink_options());
  probe.let_go(LossReason::rejected, 2);
  probe.let_go(LossReason::age, 5);
  EXPECT_EQ(
      value("spillway_dead_letter_messages_total{reason=\"rejected\",sink=\"k\",stream=\"s\"}"),
      "2");
  EXPECT_EQ(value("spillway_sink_send_failures_total{reason=\"rejected\",retriable=\"false\",sink="
                  "\"k\",stream=\"s\"}"),
            "2");
  EXPECT_EQ(value("spillway_dropped_messages_total{reason=\"age\",sink=\"k\",stream=\"s\"}"), "5");
}

TEST_F(MetricsTest, deliveries_are_counted_by_where_they_came_from) {
  SinkProbe probe(metrics_, sink_options());
  probe.delivered(Mode::live, 10, 1000, 0.002);
  probe.delivered(Mode::replay, 5, 500, 90);
  EXPECT_EQ(value("spillway_sink_delivered_messages_total{mode=\"live\",sink=\"k\",stream=\"s\"}"),
            "10");
  EXPECT_EQ(value("spillway_sink_delivered_bytes_total{mode=\"replay\",sink=\"k\",stream=\"s\"}"),
            "500");
  EXPECT_EQ(
      value(
          "spillway_sink_delivery_latency_seconds_count{mode=\"replay\",sink=\"k\",stream=\"s\"}"),
      "1");
}

TEST_F(MetricsTest, an_outage_that_lasts_shows_its_start_and_what_is_left) {
  SinkOptions options = sink_options();
  options.outage_timeout_seconds = 60;
  SinkProbe probe(metrics_, options);
  const std::string left = "spillway_outage_remaining_seconds{sink=\"k\",stream=\"s\"}";
  const std::string began = "spillway_outage_started_timestamp_seconds{sink=\"k\",stream=\"s\"}";
  EXPECT_EQ(value(left), "60");
  probe.outage_began(1700000100);
  probe.sampled({.outage_remaining_seconds = 12.5});
  EXPECT_EQ(value(left), "12.5");
  EXPECT_EQ(value(began), "1700000100");
  probe.outage_ended(47.5);
  EXPECT_EQ(value(began), "0");
  EXPECT_EQ(value("spillway_outage_duration_seconds_sum{sink=\"k\",stream=\"s\"}"), "47.5");
}

TEST_F(MetricsTest, a_limit_that_is_not_set_is_infinite) {
  const SinkProbe probe(metrics_, sink_options());
  EXPECT_EQ(value("spillway_journal_limit_bytes{sink=\"k\",stream=\"s\"}"), "+Inf");
  EXPECT_EQ(value("spillway_outage_timeout_seconds{sink=\"k\",stream=\"s\"}"), "+Inf");
}

TEST_F(MetricsTest, positions_are_exact_in_two_gauges) {
  StreamProbe stream(metrics_, {.stream = "s", .acks = "all"});
  SinkProbe sink(metrics_, sink_options());
  stream.sampled({.received = {1763827201, 9007199254740991}, .durable = {7, 8}, .safe = {7, 9}});
  sink.sampled({.cursor = {1763827201, 41}});
  EXPECT_EQ(value("spillway_last_received_epoch{stream=\"s\"}"), "1763827201");
  EXPECT_EQ(value("spillway_last_received_sequence{stream=\"s\"}"), "9007199254740991");
  EXPECT_EQ(value("spillway_durable_sequence{stream=\"s\"}"), "8");
  EXPECT_EQ(value("spillway_safe_sequence{stream=\"s\"}"), "9");
  EXPECT_EQ(value("spillway_sink_cursor_epoch{sink=\"k\",stream=\"s\"}"), "1763827201");
  EXPECT_EQ(value("spillway_sink_cursor_sequence{sink=\"k\",stream=\"s\"}"), "41");
}

TEST_F(MetricsTest, a_halt_is_counted_once_while_it_lasts_and_dated_by_its_earliest_cause) {
  StreamProbe probe(metrics_, {.stream = "s", .acks = "all"});
  const std::string labels = "{cause=\"max_bytes\",stream=\"s\"}";
  const HaltCause two[] = {{"max_bytes", 200}, {"max_bytes", 100}};
  probe.halted_by(two);
  probe.halted_by(std::span(two).first(1));
  EXPECT_EQ(value("spillway_halt_active" + labels), "1");
  EXPECT_EQ(value("spillway_halts_total" + labels), "1");
  EXPECT_EQ(value("spillway_halt_timestamp_seconds" + labels), "200");
  probe.halted_by(two);
  EXPECT_EQ(value("spillway_halt_timestamp_seconds" + labels), "100");
  probe.halted_by({});
  EXPECT_EQ(value("spillway_halt_active" + labels), "0");
  EXPECT_EQ(value("spillway_halt_timestamp_seconds" + labels), "0");
  probe.halted_by(two);
  EXPECT_EQ(value("spillway_halts_total" + labels), "2");
}

TEST_F(MetricsTest, a_stream_says_whether_a_limit_blocks_it) {
  StreamProbe probe(metrics_, {.stream = "s", .acks = "all"});
  EXPECT_EQ(value("spillway_stream_blocked{stream=\"s\"}"), "0");
  probe.sampled({.blocked = true});
  EXPECT_EQ(value("spillway_stream_blocked{stream=\"s\"}"), "1");
  probe.sampled({});
  EXPECT_EQ(value("spillway_stream_blocked{stream=\"s\"}"), "0");
}

TEST_F(MetricsTest, acknowledgements_carry_the_policy_of_the_stream) {
  StreamProbe probe(metrics_, {.stream = "s", .acks = "quorum", .window_limit_bytes = 64});
  probe.received(100, 5000);
  probe.acknowledged(100, 0.004);
  EXPECT_EQ(value("spillway_received_bytes_total{stream=\"s\"}"), "5000");
  EXPECT_EQ(value("spillway_acked_messages_total{policy=\"quorum\",stream=\"s\"}"), "100");
  EXPECT_EQ(
      value("spillway_ack_latency_seconds_bucket{policy=\"quorum\",stream=\"s\",le=\"0.005\"}"),
      "1");
  EXPECT_EQ(value("spillway_window_limit_bytes{stream=\"s\"}"), "64");
}

TEST_F(MetricsTest, repeats_at_the_producer_and_at_a_sink_are_one_metric) {
  StreamProbe stream(metrics_, {.stream = "s", .acks = "all"});
  SinkProbe sink(metrics_, sink_options());
  stream.duplicates_dropped(3);
  sink.duplicates_dropped(4);
  EXPECT_EQ(value("spillway_duplicates_dropped_total{stream=\"s\"}"), "3");
  EXPECT_EQ(value("spillway_duplicates_dropped_total{sink=\"k\",stream=\"s\"}"), "4");
}

TEST_F(MetricsTest, totals_of_the_journal_never_fall) {
  JournalProbe probe(metrics_);
  EXPECT_EQ(value("spillway_journal_exhaustion_seconds"), "+Inf");
  probe.sampled({.disk_bytes = 10, .appends = 5, .commits = 2, .stall_seconds = 0.5});
  probe.sampled(
      {.disk_bytes = 4, .failing = true, .appends = 7, .commits = 2, .stall_seconds = 0.5});
  probe.sampled({.disk_bytes = 4, .appends = 6});
  EXPECT_EQ(value("spillway_journal_appends_total"), "7");
  EXPECT_EQ(value("spillway_journal_fsyncs_total"), "2");
  EXPECT_EQ(value("spillway_rocksdb_write_stall_seconds_total"), "0.5");
  EXPECT_EQ(value("spillway_journal_disk_usage_bytes"), "4");
  EXPECT_EQ(value("spillway_journal_failing"), "0");
}

TEST_F(MetricsTest, process_metrics_are_those_of_this_process) {
  EXPECT_GT(std::stod(value("process_resident_memory_bytes")), 1e6);
  EXPECT_GT(std::stod(value("process_open_fds")), 2);
  EXPECT_GT(std::stod(value("process_start_time_seconds")), 1.6e9);
  EXPECT_GE(std::stod(value("process_threads")), 1);
  int pipe_ends[2];
  const double before = std::stod(value("process_open_fds"));
  ASSERT_EQ(pipe(pipe_ends), 0);
  EXPECT_EQ(std::stod(value("process_open_fds")), before + 2);
  close(pipe_ends[0]);
  close(pipe_ends[1]);
}

TEST_F(MetricsTest, labels_that_hold_quotes_are_escaped) {
  Metrics metrics({"1", "a\"b\\c\n", 0});
  EXPECT_THAT(metrics.expose(), HasSubstr(R"(hash="a\"b\\c\n")"));
}

TEST_F(MetricsTest, threads_may_tell_their_probes_while_a_scrape_runs) {
  JournalProbe journal(metrics_);
  StreamProbe stream(metrics_, {.stream = "s", .acks = "all"});
  std::vector<std::thread> threads;
  threads.emplace_back([&] {
    for (int i = 0; i < 2000; ++i) journal.committed(0.001, 10);
  });
  threads.emplace_back([&] {
    for (int i = 0; i < 2000; ++i) stream.received(1, 10);
  });
  for (int i = 0; i < 20; ++i) EXPECT_THAT(metrics_.expose(), Not(testing::IsEmpty()));
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(value("spillway_received_messages_total{stream=\"s\"}"), "2000");
  EXPECT_EQ(value("spillway_journal_fsync_duration_seconds_count"), "2000");
}

TEST(ForecastTest, a_level_that_rises_steadily_reaches_the_limit_in_time) {
  Forecast forecast(30);
  for (int second = 0; second <= 10; ++second) forecast.observe(second, 100.0 * second);
  EXPECT_DOUBLE_EQ(forecast.per_second(), 100);
  EXPECT_DOUBLE_EQ(forecast.seconds_until(4000), 30);
}

TEST(ForecastTest, a_limit_that_is_passed_leaves_no_time) {
  Forecast forecast(30);
  EXPECT_EQ(forecast.seconds_below(100), kNever);
  for (int second = 0; second <= 10; ++second) forecast.observe(second, 11.0 * second);
  EXPECT_EQ(forecast.seconds_below(100), 0);
  EXPECT_EQ(forecast.seconds_below(110), 0);
  EXPECT_DOUBLE_EQ(forecast.seconds_below(121), 1);
}

TEST(ForecastTest, a_level_that_falls_reaches_zero_but_no_limit_above) {
  Forecast forecast(30);
  forecast.observe(0, 1000);
  forecast.observe(1, 900);
  EXPECT_DOUBLE_EQ(forecast.seconds_until(0), 9);
  EXPECT_EQ(forecast.seconds_until(2000), kNever);
}

TEST(ForecastTest, nothing_is_foretold_from_one_observation_or_a_level_that_rests) {
  Forecast forecast(30);
  EXPECT_EQ(forecast.seconds_until(5), kNever);
  forecast.observe(0, 10);
  EXPECT_EQ(forecast.seconds_until(20), kNever);
  forecast.observe(1, 10);
  EXPECT_EQ(forecast.seconds_until(20), kNever);
  EXPECT_EQ(forecast.seconds_until(10), 0);
}

TEST(ForecastTest, a_change_of_speed_shows_within_the_window) {
  Forecast forecast(10);
  for (int second = 0; second <= 60; ++second) forecast.observe(second, 100.0 * second);
  for (int second = 61; second <= 120; ++second)
    forecast.observe(second, 6000 + 10.0 * (second - 60));
  EXPECT_NEAR(forecast.per_second(), 10, 1);
}

TEST(ForecastTest, a_clock_that_stands_still_is_ignored) {
  Forecast forecast(10);
  forecast.observe(1, 10);
  forecast.observe(1, 20);
  forecast.observe(2, 20);
  EXPECT_DOUBLE_EQ(forecast.per_second(), 10);
}

}  // namespace
}  // namespace spillway::metrics
