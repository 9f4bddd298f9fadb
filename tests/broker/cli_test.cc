#include "broker/cli/cli.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "broker/cli/record_text.h"
#include "broker/cli/text.h"
#include "broker/status.h"
#include "tests/broker/cli_support.h"

namespace spillway::cli {
namespace {

namespace json = boost::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

broker::StatusReport report() {
  broker::StatusReport out;
  out.version = "1.0";
  out.ready = true;
  out.uptime_seconds = 7980;
  out.journal.max_disk_bytes = std::uint64_t{10} << 30;
  for (const auto* name : {"blocks", "txs"}) {
    broker::StreamStatus stream;
    stream.name = name;
    stream.acks = "all";
    stream.coverage = "closed";
    stream.held = {7, 120};
    for (const auto* sink : {"copy", name == std::string("txs") ? "only" : "other"}) {
      broker::SinkStatus status;
      status.name = sink;
      status.type = "file";
      status.state = "live";
      status.acked = {7, 100};
      stream.sinks.push_back(status);
    }
    out.streams.push_back(stream);
  }
  return out;
}

void halt(broker::StreamStatus& stream) {
  stream.halt = {true, {{"max_bytes", "copy", "4GiB of backlog", {7, 120}, 1'700'000'000'000}}};
}

// Answers GET status with `report`, every POST with `answer`; keeps what was asked.
struct FakeBroker {
  broker::StatusReport report = cli::report();
  Backend::Reply answer{200, R"({"ok":true})"};
  bool away = false;
  std::string why = "connection refused";
  std::vector<std::string> asked;
  std::vector<std::string> offline;
  std::string address;

  Backend backend() {
    Backend out;
    out.request = [this](const config::Address& where, std::string_view method,
                         const std::string& target) -> Result<Backend::Reply> {
      address = to_string(where);
      if (away) return Error{why};
      asked.push_back(std::string(method) + " " + target);
      if (method == "POST") return answer;
      return Backend::Reply{200, json::serialize(to_json(report))};
    };
    const auto did = [this](const std::string& what) -> Result<std::string> {
      offline.push_back(what);
      return {boost::system::in_place_value, "done: " + what};
    };
    out.forget_sink = [did](const config::Config&, const std::string& stream,
                            const std::string& sink, bool drop) {
      return did("forget " + stream + " " + sink + (drop ? " drop" : ""));
    };
    out.rename_sink = [did](const config::Config&, const std::string& stream,
                            const std::string& sink, const std::string& name) {
      return did("rename " + stream + " " + sink + " " + name);
    };
    out.reset_sink = [did](const config::Config&, const std::string& stream,
                           const std::string& sink, std::optional<Position> from, bool drop) {
      return did("reset " + stream + " " + sink + (from ? " " + to_string(*from) : "") +
                 (drop ? " drop" : ""));
    };
    out.find_obstacles = [this](const config::Config&) {
      return Result<std::vector<broker::offline::Obstacle>>(obstacles);
    };
    out.read_halts = [](const config::Config&) {
      broker::StreamStatus stream;
      halt(stream);
      return Result<std::vector<broker::offline::StreamHalt>>(
          std::vector<broker::offline::StreamHalt>{{"blocks", stream.halt}});
    };
    out.run = [this](const config::Config&, bool accept_drop, std::string& cannot) {
      cannot = cannot_start;
      return accept_drop ? 43 : 42;
    };
    return out;
  }
  std::vector<broker::offline::Obstacle> obstacles;
  std::string cannot_start;
};

class Cli : public testing::Test {
 protected:
  Ran run(const std::vector<std::string>& arguments) {
    return run_command(arguments, broker_.backend());
  }
  std::string config_file(const std::string& more = "") {
    return folder_.write("spillway.toml", R"(data_dir = "data"
[admin]
listen = "127.0.0.1:1234"
[journal]
min_free_disk = "1MiB"
max_disk_bytes = "64MiB"
[[ingress]]
listen = "unix://in.sock"
[[stream]]
name = "blocks"
[[stream.sink]]
name = "copy"
type = "file"
path = "out"
max_bytes = "32MiB"
)" + more);
  }
  static json::object parsed(const std::string& text) { return json::parse(text).as_object(); }

  TempDir folder_;
  FakeBroker broker_;
};

TEST_F(Cli, wrong_arguments_exit_with_2_and_say_what_is_wrong) {
  for (const auto& arguments : std::vector<std::vector<std::string>>{
           {},
           {"nonsense"},
           {"sink"},
           {"status", "--nonsense"},
           {"run"},
           {"sink", "pause"},
           {"publish", "--stream", "s"},
           {"publish", "--connect", "tcp://h:1", "--stream", "s", "--rate", "-5"},
           {"journal", "cat"}}) {
    const auto ran = run(arguments);
    EXPECT_EQ(ran.code, kUsage);
    EXPECT_THAT(ran.err, Not(IsEmpty()));
  }
}

TEST_F(Cli, a_command_that_is_not_there_names_the_nearest_one) {
  EXPECT_EQ(run({"statsu"}).err,
            "spillway: \"statsu\" is not a command, did you mean \"status\"?\n");
  EXPECT_THAT(run({"sink", "paus", "s/k"}).err, HasSubstr("did you mean \"pause\"?"));
  EXPECT_THAT(run({"journal", "zzzzzzzzz"}).err,
              HasSubstr("(one of status check repair cat export ledger)"));
}

TEST_F(Cli, wrong_arguments_are_json_too_if_json_is_asked_for) {
  const auto ran = run({"publish", "--json"});
  EXPECT_EQ(ran.code, kUsage);
  EXPECT_THAT(std::string(parsed(ran.out).at("error").as_string()), HasSubstr("--connect"));
}

TEST_F(Cli, help_and_version_exit_with_0) {
  EXPECT_THAT(run({"--version"}).out, StartsWith("spillway "));
  EXPECT_EQ(run({"--version"}).code, kOk);
  const auto help = run({"--help"});
  EXPECT_EQ(help.code, kOk);
  for (const auto* command :
       {"run", "validate", "status", "sink", "halt", "journal", "dead-letters", "publish"}) {
    EXPECT_THAT(help.out, HasSubstr(command));
  }
  EXPECT_THAT(help.out, HasSubstr("Exit codes"));
}

TEST_F(Cli, every_command_has_help_and_json) {
  for (const auto& command : std::vector<std::vector<std::string>>{{"run"},
                                                                   {"validate"},
                                                                   {"status"},
                                                                   {"publish"},
                                                                   {"journal", "status"},
                                                                   {"journal", "check"},
                                                                   {"journal", "cat"},
                                                                   {"journal", "export"},
                                                                   {"journal", "ledger"},
                                                                   {"journal", "repair"},
                                                                   {"dead-letters", "list"},
                                                                   {"dead-letters", "show"},
                                                                   {"dead-letters", "replay"},
                                                                   {"dead-letters", "purge"},
                                                                   {"halt", "show"},
                                                                   {"halt", "clear"},
                                                                   {"sink", "list"},
                                                                   {"sink", "pause"},
                                                                   {"sink", "resume"},
                                                                   {"sink", "reconnect"},
                                                                   {"sink", "forget"},
                                                                   {"sink", "rename"},
                                                                   {"sink", "reset"}}) {
    auto arguments = command;
    arguments.emplace_back("--help");
    const auto ran = run(arguments);
    EXPECT_EQ(ran.code, kOk) << command.back();
    EXPECT_THAT(ran.out, HasSubstr("--json")) << command.back();
  }
}

TEST_F(Cli, run_hands_over_the_configuration_and_returns_its_exit_code) {
  EXPECT_EQ(run({"run", "--config", config_file()}).code, 42);
  EXPECT_EQ(run({"run", "--accept-drop", "--config", config_file()}).code, 43);
  EXPECT_EQ(run({"run", "--json", "--config", config_file()}).out, "");
}

TEST_F(Cli, run_says_in_json_why_it_did_not_start) {
  broker_.cannot_start = "data_dir /d is in use by another broker";
  const auto ran = run({"run", "--json", "--config", config_file()});
  EXPECT_EQ(ran.code, 42);
  EXPECT_EQ(ran.out, "{\"ok\":false,\"error\":\"" + broker_.cannot_start + "\"}\n");
  const auto text = run({"run", "--config", config_file()});
  EXPECT_EQ(text.out + text.err, "") << "the log says so";
}

TEST_F(Cli, run_with_a_wrong_configuration_exits_with_2_and_every_error) {
  const auto ran = run({"run", "--config", config_file("nonsense = 1\non_limit = \"x\"\n")});
  EXPECT_EQ(ran.code, kUsage);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("nonsense"), HasSubstr("on_limit")));
  EXPECT_EQ(run({"run", "--config", "/nonexistent"}).code, kUsage);
}

TEST_F(Cli, validate_says_what_it_checked) {
  const auto ran = run({"validate", "--config", config_file()});
  EXPECT_EQ(ran.code, kOk) << ran.err;
  EXPECT_THAT(ran.out, AllOf(HasSubstr("checked: data_dir"), HasSubstr(" is good")));
}

TEST_F(Cli, validate_shows_all_errors_and_exits_with_2) {
  const auto file = config_file("a = 1\nb = 2\n");
  const auto ran = run({"validate", "--config", file});
  EXPECT_EQ(ran.code, kUsage);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("sink[0].a"), HasSubstr("sink[0].b")));
  const auto object = parsed(run({"validate", "--config", file, "--json"}).out);
  EXPECT_FALSE(object.at("ok").as_bool());
  ASSERT_EQ(object.at("errors").as_array().size(), 2u);
  EXPECT_EQ(object.at("errors").at(0).at("key").as_string(), "stream[0].sink[0].a");
  EXPECT_EQ(object.at("errors").at(0).at("line").to_number<int>(), 16);
}

TEST_F(Cli, validate_tells_what_stored_state_would_refuse_the_start) {
  broker_.obstacles.push_back({"blocks", "old", "was removed with 5 records undelivered"});
  broker_.obstacles.push_back({"gone", "", "is not a stream of the configuration"});
  const auto ran = run({"validate", "--config", config_file()});
  EXPECT_EQ(ran.code, kUsage);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("blocks/old: was removed with 5 records"),
                             HasSubstr("gone: is not a stream")));
}

TEST_F(Cli, status_prints_streams_and_sinks) {
  const auto ran = run({"status"});
  EXPECT_EQ(ran.code, kOk);
  EXPECT_EQ(broker_.address, "tcp://127.0.0.1:9464");
  EXPECT_THAT(ran.out, AllOf(HasSubstr("up 2h13m"), HasSubstr("stream blocks"), HasSubstr("copy"),
                             HasSubstr("7/120"), HasSubstr("live")));
}

TEST_F(Cli, status_of_a_halted_stream_exits_with_3_and_says_why) {
  halt(broker_.report.streams[0]);
  const auto ran = run({"status"});
  EXPECT_EQ(ran.code, kHalted);
  EXPECT_THAT(ran.out, HasSubstr("HALTED since 2023-11-14 22:13:20Z at 7/120: max_bytes of sink "
                                 "copy: 4GiB of backlog"));
}

TEST_F(Cli, status_as_json_is_what_the_broker_said) {
  EXPECT_EQ(run({"status", "--json"}).out, json::serialize(to_json(broker_.report)) + "\n");
}

TEST_F(Cli, a_broker_that_does_not_answer_is_a_failure) {
  broker_.away = true;
  const auto ran = run({"status", "--admin", "127.0.0.1:5"});
  EXPECT_EQ(ran.code, kFailed);
  EXPECT_THAT(ran.err, HasSubstr("no broker answers at tcp://127.0.0.1:5: connection refused"));
  broker_.why = "cannot reach a broker at tcp://127.0.0.1:5: connection refused";
  EXPECT_EQ(run({"status", "--admin", "127.0.0.1:5"}).err,
            "spillway: no broker answers: " + broker_.why + "\n");
  const auto object = parsed(run({"status", "--json"}).out);
  EXPECT_FALSE(object.at("ok").as_bool());
  EXPECT_THAT(std::string(object.at("error").as_string()), HasSubstr("connection refused"));
}

TEST_F(Cli, the_broker_is_found_by_configuration_or_address) {
  run({"status", "--config", config_file()});
  EXPECT_EQ(broker_.address, "tcp://127.0.0.1:1234");
  run({"status", "--config", config_file(), "--admin", "unix:///run/a"});
  EXPECT_EQ(broker_.address, "unix:///run/a");
  run({"status", "--admin", "http://127.0.0.1:88/"});
  EXPECT_EQ(broker_.address, "tcp://127.0.0.1:88");
  EXPECT_EQ(run({"status", "--admin", "nowhere"}).code, kUsage);
  const auto any = folder_.write("any.toml", R"(data_dir = "data"
[admin]
listen = "127.0.0.1:0"
[[stream]]
name = "blocks"
[[stream.sink]]
name = "copy"
type = "file"
path = "out"
)");
  const auto ran = run({"status", "--config", any});
  EXPECT_EQ(ran.code, kUsage);
  EXPECT_THAT(ran.err, HasSubstr("say --admin"));
}

TEST_F(Cli, sink_list_names_every_sink_with_its_stream) {
  EXPECT_THAT(run({"sink", "list"}).out,
              AllOf(HasSubstr("blocks/copy"), HasSubstr("blocks/other"), HasSubstr("txs/copy")));
  const auto object = parsed(run({"sink", "list", "--json"}).out);
  EXPECT_EQ(object.at("sinks").as_array().size(), 4u);
  EXPECT_EQ(object.at("sinks").at(3).at("stream").as_string(), "txs");
}

TEST_F(Cli, sink_commands_ask_the_broker) {
  for (const auto* action : {"pause", "resume", "reconnect"}) {
    broker_.asked.clear();
    const auto ran = run({"sink", action, "blocks/copy"});
    EXPECT_EQ(ran.code, kOk);
    EXPECT_THAT(broker_.asked,
                ElementsAre("POST /api/v1/streams/blocks/sinks/copy/" + std::string(action)));
    EXPECT_THAT(ran.out, HasSubstr("blocks/copy"));
  }
}

TEST_F(Cli, what_the_broker_says_it_did_is_shown) {
  broker_.answer = {200, R"({"ok":true,"message":"goes on after 7/12"})"};
  EXPECT_EQ(run({"sink", "reset", "blocks/copy"}).out, "blocks/copy: goes on after 7/12\n");
  EXPECT_EQ(parsed(run({"sink", "reset", "blocks/copy", "--json"}).out).at("message").as_string(),
            "goes on after 7/12");
  broker_.answer = {200, R"({"ok":true,"message":"paused"})"};
  EXPECT_EQ(run({"sink", "pause", "blocks/copy"}).out, "blocks/copy: paused\n");
}

TEST_F(Cli, a_sink_named_alone_is_looked_up) {
  EXPECT_EQ(run({"sink", "pause", "only"}).code, kOk);
  EXPECT_EQ(broker_.asked.back(), "POST /api/v1/streams/txs/sinks/only/pause");
  const auto ambiguous = run({"sink", "pause", "copy"});
  EXPECT_EQ(ambiguous.code, kUsage);
  EXPECT_THAT(ambiguous.err, HasSubstr("blocks/copy, txs/copy"));
  EXPECT_EQ(run({"sink", "pause", "nobody"}).code, kFailed);
  for (const auto* bad : {"/", "a/", "/b", "a/b/c", ""}) {
    EXPECT_EQ(run({"sink", "pause", bad}).code, kUsage) << bad;
  }
}

TEST_F(Cli, an_error_of_the_broker_is_shown_and_fails) {
  broker_.answer = {409, R"({"error":"the sink is not paused"})"};
  const auto ran = run({"sink", "resume", "blocks/copy"});
  EXPECT_EQ(ran.code, kFailed);
  EXPECT_EQ(ran.err, "spillway: the sink is not paused\n");
  broker_.answer = {500, "oops"};
  EXPECT_THAT(run({"sink", "resume", "blocks/copy"}).err, HasSubstr("answered 500: oops"));
  broker_.answer = {200, "no json"};
  EXPECT_EQ(run({"sink", "resume", "blocks/copy"}).code, kFailed);
}

TEST_F(Cli, sink_reset_passes_on_where_to_begin_and_what_may_be_dropped) {
  EXPECT_EQ(run({"sink", "reset", "blocks/copy"}).code, kOk);
  EXPECT_EQ(broker_.asked.back(), "POST /api/v1/streams/blocks/sinks/copy/reset");
  EXPECT_EQ(run({"sink", "reset", "blocks/copy", "--from", "7/12", "--accept-drop"}).code, kOk);
  EXPECT_EQ(broker_.asked.back(),
            "POST /api/v1/streams/blocks/sinks/copy/reset?from=7/12&accept_drop=1");
  EXPECT_EQ(run({"sink", "reset", "blocks/copy", "--from", "twelve"}).code, kUsage);
}

TEST_F(Cli, sink_reset_edits_the_store_of_a_broker_that_cannot_start) {
  broker_.away = true;
  const auto ran =
      run({"sink", "reset", "blocks/copy", "--from", "7/12", "--config", config_file()});
  EXPECT_EQ(ran.code, kOk) << ran.err;
  EXPECT_THAT(broker_.offline, ElementsAre("reset blocks copy 7/12"));
  EXPECT_EQ(run({"sink", "reset", "blocks/copy", "--admin", "h:1"}).code, kFailed);
}

TEST_F(Cli, sink_forget_and_rename_work_on_a_stopped_broker) {
  const auto file = config_file();
  EXPECT_EQ(run({"sink", "forget", "blocks/old", "--config", file}).code, kOk);
  EXPECT_EQ(run({"sink", "forget", "blocks/old", "--config", file, "--accept-drop"}).code, kOk);
  const auto renamed = run({"sink", "rename", "blocks/old", "new", "--config", file, "--json"});
  EXPECT_EQ(renamed.code, kOk);
  EXPECT_EQ(parsed(renamed.out).at("message").as_string(), "done: rename blocks old new");
  EXPECT_THAT(broker_.offline,
              ElementsAre("forget blocks old", "forget blocks old drop", "rename blocks old new"));
  EXPECT_THAT(broker_.asked, IsEmpty());
  EXPECT_EQ(run({"sink", "forget", "old", "--config", file}).code, kUsage);
  EXPECT_EQ(run({"sink", "forget", "blocks/old"}).code, kUsage);
}

TEST_F(Cli, a_sink_is_renamed_only_to_what_a_configuration_can_call_it) {
  const auto file = config_file();
  const auto rename = [&](const std::string& from, const std::string& to) {
    return run({"sink", "rename", from, to, "--config", file});
  };
  EXPECT_EQ(rename("blocks/old", "blocks/new").code, kOk);
  EXPECT_EQ(broker_.offline.back(), "rename blocks old new");
  // A name that no configuration has, and that an older version gave.
  EXPECT_EQ(rename("blocks/../x y", "new").code, kOk);
  EXPECT_EQ(broker_.offline.back(), "rename blocks ../x y new");
  EXPECT_EQ(run({"sink", "forget", "blocks/a/b", "--config", file}).code, kOk);
  EXPECT_EQ(broker_.offline.back(), "forget blocks a/b");
  broker_.offline.clear();
  for (const auto* bad : {"../x y", "a b", "blocks/a/b", "blocks/", "..", "blocks/..", ""}) {
    const auto ran = rename("blocks/old", bad);
    EXPECT_EQ(ran.code, kUsage) << bad;
    EXPECT_THAT(ran.err, HasSubstr("is not a name: 1 to 64 of")) << bad;
  }
  const auto other = rename("blocks/old", "txs/new");
  EXPECT_EQ(other.code, kUsage);
  EXPECT_THAT(other.err, HasSubstr("say blocks/NEW"));
  EXPECT_THAT(broker_.offline, IsEmpty());
}

TEST_F(Cli, halt_show_exits_with_3_only_if_something_is_halted) {
  const auto none = run({"halt", "show"});
  EXPECT_EQ(none.code, kOk);
  EXPECT_EQ(none.out, "no stream is halted\n");
  halt(broker_.report.streams[1]);
  const auto some = run({"halt", "show", "--json"});
  EXPECT_EQ(some.code, kHalted);
  EXPECT_TRUE(parsed(some.out).at("streams").at(1).at("active").as_bool());
}

TEST_F(Cli, halt_show_reads_the_latch_of_a_stopped_broker) {
  broker_.away = true;
  const auto ran = run({"halt", "show", "--config", config_file()});
  EXPECT_EQ(ran.code, kHalted);
  EXPECT_THAT(ran.out, HasSubstr("max_bytes of sink copy"));
  EXPECT_EQ(run({"halt", "show"}).code, kFailed);
}

TEST_F(Cli, halt_clear_says_what_is_accepted_and_by_how_much_the_limit_is_extended) {
  const auto asked = [this](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"halt", "clear", "blocks"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    EXPECT_EQ(run(arguments).code, kOk);
    return broker_.asked.back();
  };
  const std::string path = "POST /api/v1/streams/blocks/halt/clear";
  EXPECT_EQ(asked({}), path);
  EXPECT_EQ(asked({"--accept-loss"}), path + "?accept_loss=1");
  EXPECT_EQ(asked({"--extend", "2h"}), path + "?extend=7200000ms");
  EXPECT_EQ(asked({"--accept-loss", "--extend", "1KiB"}), path + "?accept_loss=1&extend=1024B");
  for (const auto* bad : {"5", "0s", "0B", "soon"}) {
    EXPECT_EQ(run({"halt", "clear", "blocks", "--extend", bad}).code, kUsage) << bad;
  }
}

TEST_F(Cli, halt_clear_finds_the_one_halted_stream_and_exits_with_3_if_it_stays_so) {
  EXPECT_THAT(run({"halt", "clear"}).out, HasSubstr("no stream is halted"));
  halt(broker_.report.streams[1]);
  EXPECT_EQ(run({"halt", "clear"}).code, kOk);
  EXPECT_EQ(broker_.asked.back(), "POST /api/v1/streams/txs/halt/clear");
  broker_.answer = {200, R"({"ok":true,"halted":true})"};
  EXPECT_EQ(run({"halt", "clear"}).code, kHalted);
  broker_.answer = {200, R"({"ok":true,"halted":true,"message":"still halted: max_age"})"};
  const auto still = run({"halt", "clear"});
  EXPECT_EQ(still.code, kHalted);
  EXPECT_EQ(still.out, "txs: still halted: max_age\n");
  broker_.answer = {409, R"({"error":"the journal can only be read"})"};
  EXPECT_EQ(run({"halt", "clear"}).code, kFailed);
  halt(broker_.report.streams[0]);
  EXPECT_EQ(run({"halt", "clear"}).code, kUsage);
}

TEST(Text, a_cause_says_its_limit_once) {
  EXPECT_EQ(cause_text("max_records", "t", "max_records = 1000 of sink t"),
            "max_records = 1000 of sink t");
  EXPECT_EQ(cause_text("disk_bound", "", "max_disk_bytes is used up"),
            "disk_bound: max_disk_bytes is used up");
  EXPECT_EQ(cause_text("max_age", "t", ""), "max_age of sink t");
}

TEST(Text, columns_are_aligned) {
  EXPECT_EQ(table({{"A", "LONG", "C"}, {"aaa", "l", ""}}, " "), " A    LONG  C\n aaa  l\n");
  EXPECT_EQ(table({}, " "), "");
}

TEST(Text, seconds_are_short) {
  EXPECT_EQ(seconds_text(0), "0s");
  EXPECT_EQ(seconds_text(-5), "0s");
  EXPECT_EQ(seconds_text(1.25), "1.2s");
  EXPECT_EQ(seconds_text(86400), "1d");
  EXPECT_EQ(seconds_text(1e300), seconds_text(1e12));
}

TEST(Text, a_sink_in_trouble_says_so) {
  auto full = report();
  auto& sink = full.streams[0].sinks[0];
  sink.state = "journaling";
  sink.refusing = true;
  sink.backlog = {400, 12 << 20, 182};
  sink.limits.on_limit = "halt";
  sink.limits.max_bytes = {std::uint64_t{4} << 30, std::uint64_t{2} << 30};
  sink.outage = broker::SinkStatus::Outage{0, 3600.0};
  sink.last_error = broker::SinkStatus::LastError{"no space there", 1'700'000'000'000};
  sink.attempts = 3;
  full.streams[0].sinks[1].parked = "unknown epoch";
  const auto text = status_text(full);
  EXPECT_THAT(text, HasSubstr("journaling (refusing)"));
  EXPECT_THAT(text, HasSubstr("400 (12MiB)  3m2s"));
  EXPECT_THAT(text, HasSubstr("bytes 2GiB, outage 1h, then halt"));
  EXPECT_THAT(text, HasSubstr("copy since 2023-11-14 22:13:20Z: no space there (3 attempts"));
  EXPECT_THAT(text, HasSubstr("other is parked: unknown epoch"));
}

TEST(RecordText, base64_pads_as_the_standard_says) {
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("f"), "Zg==");
  EXPECT_EQ(base64("fo"), "Zm8=");
  EXPECT_EQ(base64("foo"), "Zm9v");
  EXPECT_EQ(base64("foob"), "Zm9vYg==");
  EXPECT_EQ(base64("\xff\xfe"), "//4=");
}

TEST(RecordText, only_valid_utf8_is_text) {
  const auto key_of = [](std::string_view bytes) {
    json::object object;
    add_bytes(object, "p", bytes);
    return std::string(object.begin()->key());
  };
  for (const auto* good : {"", "plain", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"}) {
    EXPECT_EQ(key_of(good), "p") << good;
  }
  for (const auto* bad : {"\xff", "\xc3", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80",
                          "\xf4\x90\x80\x80", "\xc3(", "a\x80"}) {
    EXPECT_EQ(key_of(bad), "p_base64");
  }
}

}  // namespace
}  // namespace spillway::cli
