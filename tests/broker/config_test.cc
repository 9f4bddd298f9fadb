#include "broker/config/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "broker/config/check.h"
#include "broker/config/nearest.h"
#include "broker/config/units.h"
#include "tests/temp_dir.h"

namespace spillway::config {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr std::string_view kSmallest = R"(data_dir = "/var/lib/spillway"
[[stream]]
name = "blocks"
[[stream.sink]]
name = "copy"
type = "file"
path = "/srv/blocks.txt"
)";

std::string with_sink(const std::string& lines) { return std::string(kSmallest) + lines; }
// Lines of the stream's own table, before its sink.
std::string with_stream(const std::string& lines) {
  std::string text(kSmallest);
  text.insert(text.find("[[stream.sink]]"), lines);
  return text;
}
// Top level lines, and tables after everything else.
std::string with_top(const std::string& lines) { return lines + std::string(kSmallest); }

std::string errors_of(const std::string& text) {
  const auto config = parse(text, "test.toml");
  return config ? "" : config.error().message;
}
Config good(const std::string& text) {
  auto config = parse(text, "test.toml");
  EXPECT_TRUE(config.has_value()) << (config ? "" : config.error().message);
  return config ? *config : Config{};
}
Sink good_sink(const std::string& lines) {
  auto config = good(with_sink(lines));
  return config.streams.empty() ? Sink{} : config.streams.at(0).sinks.at(0);
}

TEST(Units, sizes_are_read_in_binary_and_decimal_units) {
  EXPECT_EQ(*parse_bytes("64MiB"), 64u << 20);
  EXPECT_EQ(*parse_bytes("10GiB"), std::uint64_t{10} << 30);
  EXPECT_EQ(*parse_bytes("1.5 GB"), 1'500'000'000u);
  EXPECT_EQ(*parse_bytes("512"), 512u);
  EXPECT_EQ(*parse_bytes("0"), 0u);
  EXPECT_EQ(*parse_bytes("3kB"), 3000u);
  for (const auto* bad : {"", "MiB", "64mib", "64 Mi", "-1", "1e3", "1.", "64MiBs"}) {
    EXPECT_FALSE(parse_bytes(bad)) << bad;
  }
  EXPECT_FALSE(parse_bytes("9223372036854775808"));
  EXPECT_FALSE(parse_bytes("9000000000TiB"));
}

TEST(Units, durations_are_read_with_their_units) {
  EXPECT_EQ(*parse_duration("200ms"), 200ms);
  EXPECT_EQ(*parse_duration("1.5s"), 1500ms);
  EXPECT_EQ(*parse_duration("24h"), 24h);
  EXPECT_EQ(*parse_duration("1h30m"), 90min);
  EXPECT_EQ(*parse_duration("2d"), 48h);
  EXPECT_EQ(*parse_duration("0"), 0ms);
  EXPECT_EQ(*parse_duration("0s"), 0ms);
  for (const auto* bad : {"", "5", "s", "5 minutes", "-1s", "30m1h", "1.0005s", "10us"}) {
    EXPECT_FALSE(parse_duration(bad)) << bad;
  }
  EXPECT_FALSE(parse_duration("9223372036854775807d"));
}

TEST(Units, rates_are_sizes_per_second) {
  EXPECT_EQ(*parse_rate("8MiB/s"), 8u << 20);
  EXPECT_FALSE(parse_rate("8MiB"));
  EXPECT_FALSE(parse_rate("8MiB/m"));
}

TEST(Units, what_is_printed_is_read_back) {
  EXPECT_EQ(format_bytes(1536), "1.5KiB");
  EXPECT_EQ(format_bytes(1000), "1000B");
  EXPECT_EQ(format_bytes(64 << 20), "64MiB");
  EXPECT_EQ(format_duration(90min), "1h30m");
  EXPECT_EQ(format_duration(1500ms), "1s500ms");
  EXPECT_EQ(format_duration(0ms), "0s");
  for (const auto duration : {1ms, 999ms, 61'001ms, 100'000'000ms}) {
    EXPECT_EQ(*parse_duration(format_duration(duration)), duration);
  }
}

TEST(Nearest, a_swap_a_missing_and_a_wrong_letter_count_one) {
  EXPECT_EQ(edit_distance("acks", "akcs"), 1u);
  EXPECT_EQ(edit_distance("acks", "ack"), 1u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("same", "same"), 0u);
  EXPECT_EQ(nearest("on_limt", {"on_reject", "on_limit", "name"}), "on_limit");
  EXPECT_EQ(nearest("zebra", {"on_reject", "on_limit", "name"}), "");
}

TEST(Address, tcp_and_unix_addresses_are_read_and_printed_alike) {
  for (const auto* text : {"tcp://127.0.0.1:7070", "tcp://[::1]:7070", "tcp://hub.example:1",
                           "unix:///run/spillway/spillway.sock"}) {
    const auto address = parse_address(text);
    ASSERT_TRUE(address) << address.error().message;
    EXPECT_EQ(to_string(*address), text);
  }
  EXPECT_EQ(parse_address("127.0.0.1:9464", true)->port, 9464);
  EXPECT_FALSE(parse_address("127.0.0.1:9464"));
}

TEST(Address, what_is_no_address_is_refused_with_the_reason) {
  for (const auto* bad : {"", "tcp://", "tcp://host", "tcp://:1", "tcp://h:65536", "tcp://h:x",
                          "tcp://::1:70", "tcp://[::1]", "tcp://[zz]:1", "udp://h:1", "unix://"}) {
    const auto address = parse_address(bad);
    ASSERT_FALSE(address) << bad;
    EXPECT_THAT(address.error().message, HasSubstr("is not an address")) << bad;
  }
  EXPECT_TRUE(parse_address("unix://" + std::string(107, 'p')));
  EXPECT_FALSE(parse_address("unix://" + std::string(108, 'p')));
  EXPECT_TRUE(parse_address("tcp://h:65535"));
}

TEST(Address, only_loopback_is_loopback) {
  EXPECT_TRUE(is_loopback(*parse_address("tcp://127.8.9.1:1")));
  EXPECT_TRUE(is_loopback(*parse_address("tcp://[::1]:1")));
  EXPECT_TRUE(is_loopback(*parse_address("tcp://localhost:1")));
  EXPECT_TRUE(is_loopback(*parse_address("unix:///a")));
  EXPECT_FALSE(is_loopback(*parse_address("tcp://0.0.0.0:1")));
  EXPECT_FALSE(is_loopback(*parse_address("tcp://[::]:1")));
  EXPECT_FALSE(is_loopback(*parse_address("tcp://localhost.example:1")));
}

TEST(Config, the_smallest_one_has_every_documented_default) {
  const auto config = good(std::string(kSmallest));
  EXPECT_EQ(config.data_dir, "/var/lib/spillway");
  EXPECT_EQ(config.stop_timeout, 10s);
  EXPECT_EQ(to_string(config.admin.listen), "tcp://127.0.0.1:9464");
  EXPECT_EQ(config.journal.max_disk_bytes, 10 * kGiB);
  EXPECT_EQ(config.journal.min_free_disk, kGiB);
  EXPECT_EQ(config.journal.group_reserve, 64 * kMiB);
  EXPECT_EQ(config.journal.compression, Compression::lz4);
  EXPECT_EQ(config.journal.journal_timeout, 30s);
  EXPECT_EQ(config.log.level, LogLevel::info);
  EXPECT_EQ(config.log.format, LogFormat::text);
  ASSERT_EQ(config.ingress.size(), 1u);
  EXPECT_EQ(to_string(config.ingress[0].listen), "tcp://127.0.0.1:7070");
  EXPECT_EQ(config.ingress[0].mode, 0660u);

  const auto& stream = config.streams.at(0);
  EXPECT_EQ(stream.acks, Acks::all);
  EXPECT_EQ(stream.journal, JournalMode::on_failure);
  EXPECT_EQ(stream.window_bytes, 64 * kMiB);
  EXPECT_EQ(stream.spill_after, 200ms);
  EXPECT_EQ(stream.checkpoint_interval, 1s);
  EXPECT_EQ(stream.on_gap, OnGap::halt);
  EXPECT_EQ(stream.max_record_bytes, 64 * kMiB);
  EXPECT_TRUE(stream.token_file.empty());

  const auto& sink = stream.sinks.at(0);
  EXPECT_EQ(type_of(sink), "file");
  EXPECT_EQ(std::get<FileSink>(sink.destination).framing, Framing::lines);
  EXPECT_EQ(sink.on_limit, OnLimit::halt);
  EXPECT_EQ(sink.on_reject, OnReject::park);
  EXPECT_EQ(sink.ack_timeout, 5s);
  EXPECT_EQ(sink.outage_timeout, 24h);
  EXPECT_EQ(sink.max_bytes, 4 * kGiB);
  EXPECT_EQ(sink.max_records, std::nullopt);
  EXPECT_EQ(sink.max_age, std::nullopt);
  EXPECT_EQ(sink.dead_letter_bytes, 64 * kMiB);
  EXPECT_EQ(sink.start_at.kind, StartAt::Kind::latest);
  EXPECT_EQ(sink.reconnect.initial, 100ms);
  EXPECT_EQ(sink.reconnect.max, 1s);
  EXPECT_EQ(sink.reconnect.multiplier, 2.0);
  EXPECT_EQ(sink.reconnect.jitter, 0.2);
  EXPECT_EQ(sink.replay.rate_limit, std::nullopt);
  EXPECT_EQ(sink.replay.max_in_flight, 8 * kMiB);
}

TEST(Config, every_key_is_read) {
  const auto config = good(R"(
data_dir = "/d"
stop_timeout = "20s"
[admin]
listen = "unix:///run/a.sock"
mode = "0600"
[journal]
max_disk_bytes = "1GiB"
min_free_disk = "10MiB"
group_reserve = "16MiB"
compression = "none"
journal_timeout = "5s"
[log]
level = "debug"
format = "json"
[[ingress]]
listen = "unix:///run/i.sock"
mode = "0666"
[[ingress]]
listen = "tcp://[::1]:7070"
[[stream]]
name = "s"
acks = "quorum"
quorum = 2
journal = "always"
window_bytes = "8MiB"
spill_after = "1s"
checkpoint_interval = 0
on_gap = "record"
max_record_bytes = "2MiB"
token_file = "/t"
[[stream.sink]]
name = "a"
type = "tcp"
connect = "tcp://h:1"
framing = "length_prefixed"
acknowledge = "kernel"
format = "raw"
on_limit = "block"
on_reject = "dead_letter"
ack_timeout = "1s"
outage_timeout = "unlimited"
max_bytes = "unlimited"
max_records = 1000000
max_age = "1h"
dead_letter_bytes = "1MiB"
start_at = "7/120"
reconnect = { initial = "50ms", max = "2s", multiplier = 1.5, jitter = 0 }
replay = { rate_limit = "8MiB/s", max_in_flight = "1MiB" }
[[stream.sink]]
name = "b"
type = "spillway"
connect = "unix:///run/hub.sock"
stream = "other"
token_file = "/u"
start_at = "earliest"
)");
  EXPECT_EQ(config.stop_timeout, 20s);
  EXPECT_EQ(config.admin.listen.path, "/run/a.sock");
  EXPECT_EQ(config.admin.mode, 0600u);
  EXPECT_EQ(config.journal.group_reserve, 16 * kMiB);
  EXPECT_EQ(config.journal.compression, Compression::none);
  EXPECT_EQ(config.log.level, LogLevel::debug);
  EXPECT_EQ(config.log.format, LogFormat::json);
  EXPECT_EQ(config.ingress.at(0).mode, 0666u);
  const auto& stream = config.streams.at(0);
  EXPECT_EQ(stream.acks, Acks::quorum);
  EXPECT_EQ(stream.quorum, 2u);
  EXPECT_EQ(stream.journal, JournalMode::always);
  EXPECT_EQ(stream.checkpoint_interval, 0ms);
  EXPECT_EQ(stream.on_gap, OnGap::record);
  EXPECT_EQ(stream.max_record_bytes, 2 * kMiB);
  EXPECT_EQ(stream.token_file, "/t");
  const auto& tcp = stream.sinks.at(0);
  EXPECT_EQ(std::get<TcpSink>(tcp.destination).framing, Framing::length_prefixed);
  EXPECT_EQ(std::get<TcpSink>(tcp.destination).acknowledge, Acknowledge::kernel);
  EXPECT_EQ(tcp.on_limit, OnLimit::block);
  EXPECT_EQ(tcp.on_reject, OnReject::dead_letter);
  EXPECT_EQ(tcp.outage_timeout, std::nullopt);
  EXPECT_EQ(tcp.max_bytes, std::nullopt);
  EXPECT_EQ(tcp.max_records, 1000000u);
  EXPECT_EQ(tcp.max_age, 1h);
  EXPECT_EQ(tcp.start_at.kind, StartAt::Kind::position);
  EXPECT_EQ(tcp.start_at.position, (Position{7, 120}));
  EXPECT_EQ(tcp.reconnect.multiplier, 1.5);
  EXPECT_EQ(tcp.reconnect.jitter, 0.0);
  EXPECT_EQ(tcp.replay.rate_limit, 8 * kMiB);
  EXPECT_EQ(tcp.replay.max_in_flight, kMiB);
  const auto& relay = std::get<SpillwaySink>(stream.sinks.at(1).destination);
  EXPECT_EQ(relay.stream, "other");
  EXPECT_EQ(relay.token_file, "/u");
  EXPECT_EQ(stream.sinks[1].start_at.kind, StartAt::Kind::earliest);
}

TEST(Config, relative_paths_are_relative_to_the_file) {
  const auto config = parse(R"(data_dir = "data"
[[ingress]]
listen = "unix://in.sock"
[[stream]]
name = "s"
token_file = "tokens"
[[stream.sink]]
name = "a"
type = "file"
path = "../out/a"
)",
                            "/etc/spillway/main.toml");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->data_dir, "/etc/spillway/data");
  EXPECT_EQ(config->ingress[0].listen.path, "/etc/spillway/in.sock");
  EXPECT_EQ(config->streams[0].token_file, "/etc/spillway/tokens");
  EXPECT_EQ(std::get<FileSink>(config->streams[0].sinks[0].destination).path, "/etc/out/a");
}

TEST(Config, a_file_that_is_named_from_its_own_folder_means_the_same_paths) {
  TempDir folder;
  folder.write("main.toml", R"(data_dir = "data"
[admin]
listen = "unix://admin.sock"
[[ingress]]
listen = "unix://in.sock"
[[stream]]
name = "s"
token_file = "tokens"
[[stream.sink]]
name = "a"
type = "file"
path = "a"
[[stream.sink]]
name = "b"
type = "spillway"
connect = "unix://hub.sock"
)",
               0644);
  const auto here = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  const auto root = std::filesystem::current_path();
  const auto bare = load("main.toml");
  std::filesystem::current_path(here);
  ASSERT_TRUE(bare) << bare.error().message;
  EXPECT_EQ(bare->data_dir, root / "data");
  EXPECT_EQ(bare->admin.listen.path, root / "admin.sock");
  EXPECT_EQ(bare->ingress[0].listen.path, root / "in.sock");
  EXPECT_EQ(bare->streams[0].token_file, root / "tokens");
  const auto& sinks = bare->streams[0].sinks;
  EXPECT_EQ(sink_identity(sinks[0]), "file " + (root / "a").string());
  EXPECT_EQ(sink_identity(sinks[1]), "spillway unix://" + (root / "hub.sock").string() + " s");
  const auto absolute = load(root / "main.toml");
  ASSERT_TRUE(absolute);
  EXPECT_EQ(sink_identity(absolute->streams[0].sinks[0]), sink_identity(sinks[0]));
}

TEST(Config, a_relative_socket_whose_whole_path_is_too_long_is_refused) {
  const std::string text = "[[ingress]]\nlisten = \"unix://" + std::string(90, 'p') + "\"\n";
  EXPECT_TRUE(parse(with_sink(text), "/etc/main.toml"));
  const auto config = parse(with_sink(text), "/etc/" + std::string(20, 'd') + "/main.toml");
  ASSERT_FALSE(config);
  EXPECT_THAT(config.error().message, HasSubstr("longer than 107 bytes"));
}

TEST(Config, an_unknown_key_is_an_error_with_its_place_and_the_nearest_valid_key) {
  EXPECT_EQ(errors_of(with_sink("on_limt = \"halt\"\n")),
            "test.toml:8:1: stream[0].sink[0].on_limt: unknown key, did you mean \"on_limit\"?");
  EXPECT_THAT(
      errors_of(with_stream("windw_bytes = 1\n")),
      AllOf(StartsWith("test.toml:4:1: stream[0].windw_bytes"), HasSubstr("\"window_bytes\"")));
  EXPECT_THAT(errors_of(with_top("datadir = \"x\"\n")), HasSubstr("\"data_dir\""));
  EXPECT_THAT(errors_of(with_top("stop_timeout_zzzzzzzzzz = 1\n")), HasSubstr("known here: "));
}

TEST(Config, unknown_keys_of_inline_tables_are_found_too) {
  EXPECT_THAT(errors_of(with_sink("reconnect = { intial = \"1s\" }\n")),
              HasSubstr("stream[0].sink[0].reconnect.intial: unknown key, did you mean "
                        "\"initial\"?"));
  EXPECT_THAT(errors_of(with_sink("[journal]\nmax_disk_byte = \"1GiB\"\n")),
              HasSubstr("journal.max_disk_byte: unknown key, did you mean \"max_disk_bytes\"?"));
}

TEST(Config, a_key_of_another_sink_type_says_where_it_belongs) {
  EXPECT_THAT(errors_of(with_sink("acknowledge = \"count\"\n")),
              HasSubstr("is a key of tcp sinks, this one is of type file"));
}

TEST(Config, an_unknown_value_is_an_error_with_the_nearest_and_all_valid_ones) {
  EXPECT_EQ(errors_of(with_sink("on_limit = \"drop_oldst\"\n")),
            "test.toml:8:12: stream[0].sink[0].on_limit: unknown value \"drop_oldst\", did you "
            "mean \"drop_oldest\"? (one of halt | block | drop_oldest)");
  EXPECT_THAT(errors_of(with_stream("acks = \"al\"\n")), HasSubstr("did you mean \"all\"?"));
  EXPECT_THAT(errors_of(with_sink("start_at = \"lastest\"\n")), HasSubstr("\"latest\""));
}

TEST(Config, an_unknown_sink_type_suggests_one_and_a_later_type_says_not_in_this_version) {
  const std::string before =
      "data_dir = \"/d\"\n[[stream]]\nname = \"s\"\n[[stream.sink]]\n"
      "name = \"k\"\ntype = ";
  EXPECT_THAT(errors_of(before + "\"fil\"\n"), HasSubstr("did you mean \"file\"?"));
  for (const auto* type : {"kafka", "postgres", "http", "redis", "nats"}) {
    EXPECT_EQ(errors_of(before + "\"" + type + "\"\nurl = \"x\"\n"),
              "test.toml:6:8: stream[0].sink[0].type: \"" + std::string(type) +
                  "\" sinks are not built in this version (one of file | tcp | spillway)");
  }
  EXPECT_THAT(errors_of(before.substr(0, before.rfind("type"))), HasSubstr("type: required"));
}

TEST(Config, formats_filters_and_tls_are_not_in_this_version) {
  EXPECT_THAT(errors_of(with_sink("format = \"json\"\n")), HasSubstr("not built in this version"));
  EXPECT_THAT(errors_of(with_sink("types = [\"a\"]\n")), HasSubstr("not built in this version"));
  EXPECT_THAT(errors_of(with_sink("keys = [\"a\"]\n")), HasSubstr("not built in this version"));
  EXPECT_THAT(errors_of(with_sink("[[ingress]]\nlisten = \"tcp://0.0.0.0:1\"\n"
                                  "tls = { certificate = \"c\" }\n")),
              HasSubstr("ingress[0].tls: not built in this version"));
  EXPECT_THAT(errors_of(with_sink("[[stream.sink]]\nname = \"r\"\ntype = \"spillway\"\n"
                                  "connect = \"tcp://h:1\"\ntls = {}\n")),
              HasSubstr("tls: not built in this version"));
  EXPECT_THAT(errors_of(with_sink("format = \"jsn\"\n")), HasSubstr("did you mean \"json\"?"));
}

TEST(Config, all_errors_are_reported_in_the_order_of_the_file) {
  std::vector<Diagnostic> found;
  const auto config = parse(
      "stop_timeout = \"1y\"\n[admin]\nlisten = 5\n[[stream]]\n"
      "name = \"a b\"\nacks = \"some\"\n",
      "many.toml", &found);
  ASSERT_FALSE(config);
  std::vector<std::string> keys;
  for (const auto& diagnostic : found) keys.push_back(diagnostic.key);
  EXPECT_THAT(keys,
              testing::UnorderedElementsAre("data_dir", "stop_timeout", "admin.listen",
                                            "stream[0].sink", "stream[0].name", "stream[0].acks"));
  EXPECT_TRUE(std::ranges::is_sorted(found, {}, &Diagnostic::line));
  EXPECT_EQ(std::ranges::count(config.error().message, '\n'), 5);
}

TEST(Config, a_syntax_error_names_its_line) {
  EXPECT_THAT(errors_of("data_dir = \"x\"\nstop_timeout = \n"), StartsWith("test.toml:2:"));
}

TEST(Config, a_file_that_is_not_there_is_an_error) {
  const auto config = load("/nonexistent/spillway.toml");
  ASSERT_FALSE(config);
  EXPECT_THAT(config.error().message, HasSubstr("No such file"));
  const TempDir folder;
  const auto directory = load(folder.path());
  ASSERT_FALSE(directory);
  EXPECT_THAT(directory.error().message, EndsWith("cannot be read: it is a directory"));
}

TEST(Config, a_single_bracket_where_an_array_is_meant_is_explained) {
  EXPECT_THAT(errors_of("data_dir = \"/d\"\n[stream]\nname = \"s\"\n"),
              HasSubstr("write [[stream]] with two brackets"));
  EXPECT_THAT(errors_of("data_dir = \"/d\"\n[[stream]]\nname = \"s\"\n[stream.sink]\n"),
              HasSubstr("write [[stream.sink]] with two brackets"));
}

TEST(Config, zero_streams_and_zero_sinks_are_errors) {
  EXPECT_THAT(errors_of("data_dir = \"/d\"\n"), HasSubstr("at least one [[stream]]"));
  EXPECT_THAT(errors_of("data_dir = \"/d\"\nstream = []\n"), HasSubstr("at least one [[stream]]"));
  EXPECT_THAT(errors_of("data_dir = \"/d\"\n[[stream]]\nname = \"s\"\n"),
              HasSubstr("at least one [[stream.sink]]"));
}

TEST(Config, names_are_1_to_64_safe_characters) {
  const auto named = [](const std::string& name) {
    return errors_of("data_dir = \"/d\"\n[[stream]]\nname = \"" + name +
                     "\"\n[[stream.sink]]\nname = \"k\"\ntype = \"file\"\npath = \"/p\"\n");
  };
  EXPECT_EQ(named(std::string(64, 'n')), "");
  EXPECT_EQ(named("A-z_0.9"), "");
  for (const auto& bad : {std::string(65, 'n'), std::string(), std::string("a/b"),
                          std::string("a b"), std::string("."), std::string("..")}) {
    EXPECT_THAT(named(bad), HasSubstr("is not a name")) << bad;
  }
}

TEST(Config, names_are_unique) {
  EXPECT_THAT(errors_of(with_sink("[[stream.sink]]\nname = \"copy\"\ntype = \"file\"\n"
                                  "path = \"/srv/other\"\n")),
              HasSubstr("another sink of this stream is called \"copy\" too"));
  EXPECT_THAT(errors_of(with_sink("[[stream]]\nname = \"blocks\"\n[[stream.sink]]\nname = \"k\"\n"
                                  "type = \"file\"\npath = \"/srv/other\"\n")),
              HasSubstr("another stream is called \"blocks\" too"));
}

TEST(Config, two_sinks_may_not_fight_over_one_destination) {
  EXPECT_THAT(errors_of(with_sink("[[stream]]\nname = \"t\"\n[[stream.sink]]\nname = \"k\"\n"
                                  "type = \"file\"\npath = \"/srv/./x/../blocks.txt\"\n")),
              HasSubstr("is the destination of stream[0].sink[0].path too"));
  const std::string relay =
      "[[stream.sink]]\ntype = \"spillway\"\nconnect = \"tcp://h:1\"\nname = ";
  EXPECT_THAT(errors_of(with_sink(relay + "\"a\"\n" + relay + "\"b\"\n")),
              HasSubstr("is the destination of stream[0].sink[1].connect too"));
  EXPECT_EQ(errors_of(with_sink(relay + "\"a\"\n" + relay + "\"b\"\nstream = \"other\"\n")), "");
}

TEST(Config, two_listeners_may_not_have_one_address) {
  EXPECT_THAT(errors_of(with_sink("[[ingress]]\nlisten = \"tcp://127.0.0.1:9464\"\n")),
              HasSubstr("is the address of admin.listen too"));
  EXPECT_THAT(errors_of(with_sink("[[ingress]]\nlisten = \"unix:///a\"\n[[ingress]]\n"
                                  "listen = \"unix:///a\"\n")),
              HasSubstr("is the address of ingress[0].listen too"));
  EXPECT_THAT(errors_of(with_sink("[admin]\nlisten = \"127.0.0.1:7070\"\n")),
              HasSubstr("is the address of admin.listen"));
  EXPECT_EQ(errors_of(with_sink("[[ingress]]\nlisten = \"tcp://127.0.0.1:0\"\n[[ingress]]\n"
                                "listen = \"tcp://127.0.0.1:0\"\n")),
            "");
}

TEST(Config, a_listener_that_is_not_loopback_is_refused) {
  EXPECT_THAT(errors_of(with_sink("[[ingress]]\nlisten = \"tcp://0.0.0.0:7070\"\n")),
              HasSubstr("needs TLS and tokens"));
  EXPECT_EQ(errors_of(with_sink("[[ingress]]\nlisten = \"tcp://127.1.1.1:7070\"\n")), "");
}

TEST(Config, a_sink_inside_the_bounded_folder_is_refused) {
  EXPECT_THAT(errors_of("data_dir = \"/d\"\n[[stream]]\nname = \"s\"\n[[stream.sink]]\n"
                        "name = \"k\"\ntype = \"file\"\npath = \"/d/out\"\n"),
              HasSubstr("inside data_dir"));
  EXPECT_EQ(errors_of("data_dir = \"/d\"\n[[stream]]\nname = \"s\"\n[[stream.sink]]\n"
                      "name = \"k\"\ntype = \"file\"\npath = \"/data\"\n"),
            "");
}

TEST(Config, a_sink_that_leads_back_here_is_refused) {
  EXPECT_THAT(errors_of(with_sink("[[stream.sink]]\nname = \"r\"\ntype = \"spillway\"\n"
                                  "connect = \"tcp://127.0.0.1:7070\"\n")),
              HasSubstr("leads back to this broker"));
  const auto relay = [](const std::string& listen, const std::string& connect) {
    return errors_of(
        with_sink("[[stream.sink]]\nname = \"r\"\ntype = \"spillway\"\n"
                  "connect = \"" +
                  connect +
                  "\"\n"
                  "[[ingress]]\nlisten = \"" +
                  listen + "\"\n"));
  };
  const auto back = HasSubstr("leads back to this broker");
  EXPECT_THAT(relay("tcp://127.0.0.1:7070", "tcp://localhost:7070"), back);
  EXPECT_THAT(relay("tcp://localhost:7070", "tcp://127.0.0.1:7070"), back);
  EXPECT_THAT(relay("tcp://[::1]:7070", "tcp://localhost:7070"), back);
  EXPECT_THAT(relay("tcp://[::1]:7070", "tcp://[0:0:0:0:0:0:0:1]:7070"), back);
  EXPECT_THAT(relay("unix:///a.sock", "unix:///a.sock"), back);
  EXPECT_EQ(relay("tcp://127.0.0.1:7070", "tcp://localhost:7071"), "");
  EXPECT_EQ(relay("tcp://127.0.0.1:7070", "tcp://hub.internal:7070"), "");
  // Nobody listens there but somebody else: the near end of a tunnel, another broker.
  EXPECT_EQ(relay("tcp://127.0.0.1:7070", "tcp://127.0.0.2:7070"), "");
}

TEST(Config, a_mode_is_octal_and_only_for_unix_sockets) {
  const auto mode = [](const std::string& listen, const std::string& value) {
    return errors_of(
        with_sink("[[ingress]]\nlisten = \"" + listen + "\"\nmode = \"" + value + "\"\n"));
  };
  EXPECT_EQ(mode("unix:///a", "0777"), "");
  EXPECT_THAT(mode("unix:///a", "1000"), HasSubstr("no file mode"));
  EXPECT_THAT(mode("unix:///a", "rw"), HasSubstr("no file mode"));
  EXPECT_THAT(mode("unix:///a", ""), HasSubstr("no file mode"));
  EXPECT_THAT(mode("tcp://127.0.0.1:1", "0660"), HasSubstr("only a unix:// listener"));
}

TEST(Config, on_outage_is_shorthand_for_limits_and_nothing_else) {
  const auto drop = good_sink("on_outage = \"drop\"\n");
  EXPECT_EQ(drop.max_bytes, 0u);
  EXPECT_EQ(drop.on_limit, OnLimit::drop_oldest);
  const auto same = good_sink("max_bytes = 0\non_limit = \"drop_oldest\"\n");
  EXPECT_EQ(same.max_bytes, drop.max_bytes);
  EXPECT_EQ(same.on_limit, drop.on_limit);
  const auto halt = good_sink("on_outage = \"halt\"\n");
  EXPECT_EQ(halt.outage_timeout, 0ms);
  EXPECT_EQ(halt.on_limit, OnLimit::halt);
  const auto journal = good_sink("on_outage = \"journal\"\nmax_bytes = \"1GiB\"\n");
  EXPECT_EQ(journal.max_bytes, kGiB);
  EXPECT_EQ(journal.outage_timeout, 24h);
}

TEST(Config, keys_that_contradict_on_outage_are_errors) {
  for (const auto* lines :
       {"on_outage = \"drop\"\non_limit = \"halt\"\n", "on_outage = \"drop\"\nmax_bytes = 1\n",
        "on_outage = \"drop\"\nmax_bytes = \"unlimited\"\n",
        "on_outage = \"halt\"\non_limit = \"block\"\n",
        "on_outage = \"halt\"\noutage_timeout = \"1s\"\n",
        "on_outage = \"journal\"\nmax_bytes = 0\n",
        "on_outage = \"journal\"\noutage_timeout = 0\n"}) {
    EXPECT_THAT(errors_of(with_sink(lines)), HasSubstr("contradicts on_outage")) << lines;
  }
  for (const auto* lines :
       {"on_outage = \"drop\"\non_limit = \"drop_oldest\"\nmax_bytes = 0\n",
        "on_outage = \"halt\"\non_limit = \"halt\"\noutage_timeout = \"0s\"\n"}) {
    EXPECT_EQ(errors_of(with_sink(lines)), "") << lines;
  }
}

TEST(Config, quorum_is_from_1_to_the_number_of_sinks) {
  const std::string second = "[[stream.sink]]\nname = \"b\"\ntype = \"file\"\npath = \"/srv/b\"\n";
  const auto quorum = [&](const std::string& n) {
    return errors_of(with_stream("acks = \"quorum\"\nquorum = " + n + "\n") + second);
  };
  EXPECT_THAT(quorum("0"), HasSubstr("0 is out of range: 1 to 2"));
  EXPECT_EQ(quorum("1"), "");
  EXPECT_EQ(quorum("2"), "");
  EXPECT_THAT(quorum("3"), HasSubstr("3 is out of range: 1 to 2"));
  EXPECT_THAT(errors_of(with_stream("acks = \"quorum\"\n")), HasSubstr("needs quorum = n"));
  EXPECT_THAT(errors_of(with_stream("quorum = 1\n")), HasSubstr("only means something with"));
}

TEST(Config, a_stream_has_1_to_64_sinks) {
  const auto sinks = [](int count) {
    std::string text(kSmallest);
    for (int i = 1; i < count; ++i) {
      const std::string name = "more" + std::to_string(i);
      text += "[[stream.sink]]\nname = \"" + name + "\"\ntype = \"file\"\npath = \"/srv/" + name +
              "\"\n";
    }
    return errors_of(text);
  };
  EXPECT_EQ(sinks(63), "");
  EXPECT_EQ(sinks(64), "");
  EXPECT_THAT(sinks(65), HasSubstr("65 sinks are out of range: 1 to 64"));
}

struct Range {
  std::string line;  // with the key; %s is the value
  std::string low, below;
  std::string high, above;
};
std::string filled(std::string line, const std::string& value) {
  return line.replace(line.find("%s"), 2, value);
}

TEST(Config, every_bounded_value_is_taken_at_its_bounds_and_refused_beyond_them) {
  const auto check = [](const Range& range, const auto& text) {
    EXPECT_EQ(errors_of(text(filled(range.line, range.low))), "") << range.line;
    EXPECT_THAT(errors_of(text(filled(range.line, range.below))), HasSubstr("out of range: "))
        << range.line;
    if (range.high.empty()) return;
    EXPECT_EQ(errors_of(text(filled(range.line, range.high))), "") << range.line;
    EXPECT_THAT(errors_of(text(filled(range.line, range.above))), HasSubstr("out of range: "))
        << range.line;
  };
  check({"stop_timeout = \"%s\"\n", "100ms", "99ms", "1h", "60m1ms"}, with_top);
  const std::vector<Range> tables = {
      {"[journal]\nmax_disk_bytes = \"%s\"\n", "64MiB", "67108863B", "", ""},
      {"[journal]\njournal_timeout = \"%s\"\n", "100ms", "99ms", "24h", "24h1ms"},
      {"[journal]\ngroup_reserve = \"%s\"\nmax_disk_bytes = \"128MiB\"\n#", "64MiB", "65MiB", "",
       ""},
  };
  for (const auto& range : tables) check(range, with_sink);
  const std::vector<Range> streams = {
      {"window_bytes = \"%s\"\n", "256KiB", "255KiB", "64GiB", "65GiB"},
      {"spill_after = \"%s\"\n", "1ms", "0ms", "1h", "1h1ms"},
      {"checkpoint_interval = \"%s\"\n", "1h", "1h1ms", "0s", "2h"},
      {"max_record_bytes = \"%s\"\n", "1KiB", "1023B", "64MiB", "65MiB"},
      {"window_bytes = \"1MiB\"\nmax_record_bytes = \"%s\"\n", "1MiB", "1048577B", "", ""},
  };
  for (const auto& range : streams) check(range, with_stream);
  const std::vector<Range> sinks = {
      {"ack_timeout = \"%s\"\n", "10ms", "9ms", "24h", "24h1ms"},
      {"outage_timeout = \"%s\"\n", "3650d", "3651d", "0s", "4000d"},
      {"max_age = \"%s\"\n", "1ms", "0ms", "3650d", "3651d"},
      {"reconnect = { initial = \"%s\" }\n", "1ms", "0ms", "1h", "1h1ms"},
      {"reconnect = { max = \"%s\" }\n", "24h", "24h1ms", "", ""},
      {"reconnect = { multiplier = %s }\n", "1", "0.9", "10", "10.1"},
      {"reconnect = { jitter = %s }\n", "0", "-0.1", "1", "1.1"},
      {"replay = { rate_limit = \"%s\" }\n", "1KiB/s", "1023B/s", "", ""},
      {"replay = { max_in_flight = \"%s\" }\n", "1KiB", "1023B", "1GiB", "2GiB"},
  };
  for (const auto& range : sinks) check(range, with_sink);
}

TEST(Config, a_value_of_the_wrong_kind_says_what_it_must_be) {
  EXPECT_THAT(errors_of(with_sink("max_bytes = true\n")), HasSubstr("must be a size such as"));
  EXPECT_THAT(errors_of(with_sink("max_bytes = -1\n")), HasSubstr("must be a size such as"));
  EXPECT_THAT(errors_of(with_sink("ack_timeout = 5\n")), HasSubstr("must be a duration"));
  EXPECT_THAT(errors_of(with_sink("max_records = -1\n")), HasSubstr("must be a whole number"));
  EXPECT_THAT(errors_of(with_sink("on_limit = 1\n")), HasSubstr("must be a text in quotes"));
  EXPECT_THAT(errors_of(with_sink("reconnect = 1\n")), HasSubstr("must be a table"));
  EXPECT_THAT(errors_of(with_sink("replay = { rate_limit = 1 }\n")), HasSubstr("must be a rate"));
  EXPECT_THAT(errors_of(with_sink("[[ingress]]\nlisten = \"tcp://x\"\n")),
              HasSubstr("is not an address"));
}

TEST(Config, a_backoff_may_not_end_below_its_start) {
  EXPECT_THAT(errors_of(with_sink("reconnect = { initial = \"2s\", max = \"1s\" }\n")),
              HasSubstr("is below initial"));
  EXPECT_EQ(good_sink("reconnect = { initial = \"2s\" }\n").reconnect.max, 2s);
}

TEST(Config, defaults_give_way_to_smaller_bounds_that_were_set) {
  EXPECT_EQ(good(with_stream("window_bytes = \"1MiB\"\n")).streams[0].max_record_bytes, kMiB);
  EXPECT_EQ(good(with_sink("[journal]\nmax_disk_bytes = \"64MiB\"\n")).journal.group_reserve,
            8 * kMiB);
}

TEST(SinkIdentity, changes_with_the_destination_and_with_nothing_else) {
  EXPECT_EQ(sink_identity(good_sink("")), "file /srv/blocks.txt");
  EXPECT_EQ(sink_identity(good_sink("framing = \"length_prefixed\"\nmax_bytes = 1\n")),
            "file /srv/blocks.txt");
  Sink tcp;
  tcp.destination = TcpSink{*parse_address("tcp://h:1"), Framing::lines, Acknowledge::count};
  EXPECT_EQ(sink_identity(tcp), "tcp tcp://h:1");
  Sink relay;
  relay.destination = SpillwaySink{*parse_address("unix:///s"), "blocks", {}};
  EXPECT_EQ(sink_identity(relay), "spillway unix:///s blocks");
}

TEST(Tokens, are_read_one_a_line_and_only_from_a_file_that_is_not_open_to_all) {
  TempDir folder;
  const auto tokens = read_tokens(folder.write("t", "# who\nfirst\r\n\nsecond\n", 0640));
  ASSERT_TRUE(tokens) << tokens.error().message;
  EXPECT_THAT(*tokens, ElementsAre("first", "second"));
  EXPECT_FALSE(read_tokens(folder.write("open", "secret\n", 0644)));
  EXPECT_FALSE(read_tokens(folder.write("empty", "# none\n", 0600)));
  EXPECT_FALSE(read_tokens(folder.path() / "missing"));
  EXPECT_FALSE(read_tokens(folder.path()));
}

class CheckEnvironment : public testing::Test {
 protected:
  Config config() {
    const auto text = "data_dir = \"" + (folder_.path() / "data").string() +
                      "\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[journal]\nmin_free_disk = \"1MiB\"\n"
                      "max_disk_bytes = \"64MiB\"\n"
                      "[[ingress]]\nlisten = \"tcp://127.0.0.1:0\"\n"
                      "[[stream]]\nname = \"s\"\n[[stream.sink]]\nname = \"k\"\ntype = \"file\"\n"
                      "path = \"" +
                      (folder_.path() / "out").string() + "\"\nmax_bytes = \"64MiB\"\n";
    return good(text);
  }
  static std::vector<std::string> keys(const std::vector<Diagnostic>& diagnostics) {
    std::vector<std::string> out;
    for (const auto& diagnostic : diagnostics) out.push_back(diagnostic.key);
    return out;
  }
  TempDir folder_;
};

TEST_F(CheckEnvironment, finds_nothing_wrong_where_all_is_well_and_says_what_it_looked_at) {
  const auto found = check_environment(config());
  EXPECT_TRUE(found.problems.empty()) << to_string(found.problems[0]);
  EXPECT_TRUE(found.warnings.empty()) << to_string(found.warnings[0]);
  EXPECT_THAT(found.checked, Contains(StartsWith("data_dir: ")));
  EXPECT_THAT(found.checked, Contains(StartsWith("journal.max_disk_bytes: ")));
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "data"));
}

TEST_F(CheckEnvironment, finds_folders_that_cannot_be_used) {
  auto broken = config();
  folder_.write("data", "a file", 0600);
  std::filesystem::create_directory(folder_.path() / "out");
  const auto found = check_environment(broken);
  EXPECT_THAT(keys(found.problems), ElementsAre("data_dir", "stream[0].sink[0].path"));
}

TEST_F(CheckEnvironment, finds_folders_that_nobody_makes_and_says_how) {
  auto lacking = config();
  const auto missing = folder_.path() / "no" / "such";
  std::get<FileSink>(lacking.streams[0].sinks[0].destination).path = missing / "out";
  lacking.ingress[0].listen = *parse_address("unix://" + (missing / "s").string());
  lacking.admin.listen = *parse_address("unix://" + (missing / "a").string());
  const auto found = check_environment(lacking);
  EXPECT_THAT(keys(found.problems), ElementsAre("admin.listen", "ingress[0].listen"));
  EXPECT_THAT(keys(found.warnings), ElementsAre("stream[0].sink[0].path"));  // as if it were away
  for (const auto& told : {found.problems[0], found.problems[1], found.warnings[0]}) {
    EXPECT_THAT(told.message, HasSubstr("mkdir -p " + missing.string()));
  }
  std::filesystem::create_directories(missing);
  const auto made = check_environment(lacking);
  EXPECT_TRUE(made.problems.empty());
  EXPECT_TRUE(made.warnings.empty());
  lacking.ingress[0].listen = *parse_address("unix://" + (lacking.data_dir / "s").string());
  EXPECT_TRUE(check_environment(lacking).problems.empty());  // a start makes data_dir
}

TEST_F(CheckEnvironment, compares_the_limits_with_the_disk) {
  auto greedy = config();
  greedy.journal.max_disk_bytes = std::uint64_t{1} << 59;
  EXPECT_THAT(keys(check_environment(greedy).warnings), ElementsAre("journal.max_disk_bytes"));
  greedy.journal.min_free_disk = std::uint64_t{1} << 59;
  EXPECT_THAT(keys(check_environment(greedy).problems), ElementsAre("journal.min_free_disk"));
  auto never = config();
  never.streams[0].sinks[0].max_bytes = never.journal.max_disk_bytes + 1;
  EXPECT_THAT(keys(check_environment(never).warnings), ElementsAre("stream[0].sink[0].max_bytes"));
}

TEST_F(CheckEnvironment, reads_token_files_and_tries_listeners) {
  auto broken = config();
  broken.streams[0].token_file = folder_.write("tokens", "secret\n", 0644);
  broken.ingress[0].listen = *parse_address("unix://" + (folder_.path() / "tokens").string());
  broken.admin.listen = *parse_address("tcp://192.0.2.1:9464");
  const auto found = check_environment(broken);
  EXPECT_THAT(keys(found.problems),
              ElementsAre("admin.listen", "ingress[0].listen", "stream[0].token_file"));
  EXPECT_THAT(keys(found.warnings), Contains("admin.listen"));
}

}  // namespace
}  // namespace spillway::config
