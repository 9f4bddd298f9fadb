#include "broker/cli/cli.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/json.hpp>
#include <ostream>

#include "broker/cli/commands.h"
#include "broker/config/nearest.h"
#include "broker/version.h"

namespace spillway::cli {
namespace {

constexpr auto kDescription =
    "Spillway stands between a program that must not stop and the sinks it streams to.\n"
    "Records go through memory while sinks are well, and into a bounded journal while they are "
    "not.";

constexpr auto kFooter =
    "Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 a stream is halted.\n"
    "With --json, standard output is one JSON value, errors included (journal cat: one a line).\n"
    "Begin with: spillway validate --config spillway.toml";

// What the arguments are read into. Exactly one command sets `action`.
struct Parsed {
  bool json = false;
  RunOptions run;
  std::string validate;
  RemoteOptions remote;
  SinkOptions sink;
  HaltClearOptions clear;
  JournalStatusOptions journal_status;
  JournalOptions journal_check;
  JournalRepairOptions journal_repair;
  JournalLedgerOptions ledger;
  JournalCatOptions cat;
  JournalExportOptions export_;
  DeadLetterOptions letters;
  DeadLetterReplayOptions replay;
  PublishOptions publish;
  std::function<int(const Context&)> action;
};

// CLI11 reads "-5" into an unsigned number, as a very large one.
CLI::Validator not_negative() {
  return {[](const std::string& text) {
            return text.starts_with('-') ? "\"" + text + "\" is below 0" : std::string();
          },
          ""};
}

class Builder {
 public:
  Builder(CLI::App& app, Parsed& parsed) : app_(app), parsed_(parsed) {
    app_.description(kDescription);
    app_.footer(kFooter);
    app_.set_version_flag("--version", std::string("spillway ") + broker::kVersion);
    app_.require_subcommand(1);
    build_run();
    build_remote();
    build_sink();
    build_halt();
    build_journal();
    build_dead_letters();
    build_publish();
  }

 private:
  CLI::App* command(CLI::App& parent, const std::string& name, const std::string& description,
                    std::function<int(const Context&)> action) {
    auto* command = parent.add_subcommand(name, description);
    command->add_flag("--json", parsed_.json, "Print JSON instead of text");
    command->callback([this, action = std::move(action)] { parsed_.action = action; });
    return command;
  }
  CLI::App* group(const std::string& name, const std::string& description) {
    auto* group = app_.add_subcommand(name, description);
    group->require_subcommand(1);
    return group;
  }
  static CLI::Option* add_config(CLI::App* command, std::string& out) {
    return command->add_option("--config,-c", out, "The broker's configuration file")
        ->envname("SPILLWAY_CONFIG")
        ->type_name("FILE");
  }
  static void add_remote(CLI::App* command, RemoteOptions& out) {
    auto* config = add_config(command, out.config);
    config->description("The broker's configuration file: its admin.listen says where it is");
    command
        ->add_option("--admin", out.admin,
                     "Where the broker's admin listener is: HOST:PORT or unix://PATH\n"
                     "(default: that of --config, else 127.0.0.1:9464)")
        ->type_name("ADDRESS");
  }
  static void add_data_dir(CLI::App* command, JournalOptions& out) {
    add_config(command, out.config)
        ->description("The broker's configuration file, for its data_dir");
    command->add_option("--data-dir", out.data_dir, "The data directory itself")->type_name("DIR");
  }

  void build_run() {
    auto& options = parsed_.run;
    auto* run_command = command(app_, "run", "Run the broker until SIGTERM or SIGINT",
                                [&options](const Context& c) { return run(options, c); });
    add_config(run_command, options.config)->required();
    run_command->add_flag("--accept-drop", options.accept_drop,
                          "Drop what is over a limit that was lowered since the last start, where\n"
                          "on_limit = \"drop_oldest\"; without this the stream halts");
    auto& config = parsed_.validate;
    auto* validate_command =
        command(app_, "validate",
                "Check a configuration: everything that is wrong with it, the directories, free\n"
                "disk, addresses and token files that it names, and the stored state of its sinks",
                [&config](const Context& c) { return validate(config, c); });
    add_config(validate_command, config)->required();
  }

  void build_remote() {
    auto& remote = parsed_.remote;
    add_remote(command(app_, "status",
                       "Show streams, sinks, backlogs, and what is left of every limit\n"
                       "(exit code 3 if a stream is halted)",
                       [&remote](const Context& c) { return status(remote, c); }),
               remote);
  }

  CLI::App* sink_action(CLI::App* group, const std::string& name, const std::string& description,
                        std::function<int(const Context&)> action) {
    auto* added = command(*group, name, description, std::move(action));
    added
        ->add_option("sink", parsed_.sink.sink,
                     "STREAM/SINK, or SINK alone if the broker runs and only one stream has it")
        ->required()
        ->type_name("");
    add_remote(added, parsed_.sink);
    return added;
  }

  void build_sink() {
    auto* sink = group("sink", "List sinks and act on one of them");
    auto& options = parsed_.sink;
    auto& remote = parsed_.remote;
    add_remote(command(*sink, "list", "Show every sink with its state and backlog",
                       [&remote](const Context& c) { return sink_list(remote, c); }),
               remote);
    sink_action(
        sink, "pause",
        "Stop delivering to a sink; its backlog goes to the journal, its size limits go on,\n"
        "its outage clock stands still",
        [&options](const Context& c) { return sink_command("pause", options, c); });
    sink_action(sink, "resume", "Deliver again to a sink that was paused or is parked",
                [&options](const Context& c) { return sink_command("resume", options, c); });
    sink_action(sink, "reconnect", "Connect to a sink now instead of waiting for its next try",
                [&options](const Context& c) { return sink_command("reconnect", options, c); });
    auto* forget = sink_action(
        sink, "forget",
        "Give up a sink that was removed from the configuration (the broker must be stopped)",
        [&options](const Context& c) { return sink_forget(options, c); });
    add_accept_drop(forget);
    auto* rename =
        sink_action(sink, "rename",
                    "Give a sink's cursor and backlog to another name: change the configuration,\n"
                    "stop the broker, rename, start it",
                    [&options](const Context& c) { return sink_rename(options, c); });
    rename->add_option("new-name", options.new_name, "The new name, of the same stream")
        ->required()
        ->type_name("");
    auto* reset = sink_action(
        sink, "reset",
        "Begin anew with a sink: after its destination changed, or to send again what it lost",
        [&options](const Context& c) { return sink_reset(options, c); });
    reset
        ->add_option(
            "--from", options.from,
            "The first record to send, as EPOCH/SEQUENCE; what no longer exists goes into\n"
            "the ledger (default: what the sink's start_at says)")
        ->type_name("POSITION");
    add_accept_drop(reset);
  }

  void add_accept_drop(CLI::App* command) {
    command->add_flag("--accept-drop", parsed_.sink.accept_drop,
                      "Let go of records that the sink has not taken; they go into the ledger");
  }

  void build_halt() {
    auto* halt = group("halt", "Show and clear what halts a stream");
    auto& remote = parsed_.remote;
    add_remote(command(*halt, "show",
                       "Show which streams are halted and why (exit code 3 if any is). With\n"
                       "--config also while the broker is stopped",
                       [&remote](const Context& c) { return halt_show(remote, c); }),
               remote);
    auto& options = parsed_.clear;
    auto* clear = command(
        *halt, "clear",
        "Let a halted stream go on. A halt ends by itself when its causes are gone; while one\n"
        "persists, say --extend, and for lost or missing records --accept-loss",
        [&options](const Context& c) { return halt_clear(options, c); });
    clear->add_option("stream", options.stream, "The stream (default: the only one halted)")
        ->type_name("");
    clear->add_flag("--accept-loss", options.accept_loss,
                    "Go on without records that are lost (a damaged journal, a gap)");
    clear
        ->add_option("--extend", options.extend,
                     "Allow this much more before the limit trips again: 2h or 1GiB")
        ->type_name("DURATION|BYTES");
    add_remote(clear, options);
  }

  void build_journal() {
    auto* journal = group("journal", "Look into the journal, broker running or not, and repair it");
    auto& status_options = parsed_.journal_status;
    auto* status_command =
        command(*journal, "status", "Show what the journal holds, stream by stream, and its ledger",
                [&status_options](const Context& c) { return journal_status(status_options, c); });
    status_command
        ->add_option("--ledger", status_options.ledger,
                     "Show so many of the newest ledger entries of each stream")
        ->capture_default_str()
        ->type_name("N")
        ->check(not_negative());
    add_data_dir(status_command, status_options);
    auto& check_options = parsed_.journal_check;
    add_data_dir(
        command(*journal, "check",
                "Read every file, verify checksums and order, say what is lost and what can be\n"
                "saved (exit code 1 if something is wrong). Say --config, and streams and sinks\n"
                "are compared with it; stop the broker, and more is checked",
                [&check_options](const Context& c) { return journal_check(check_options, c); }),
        check_options);
    auto& repair = parsed_.journal_repair;
    auto* repair_command = command(
        *journal, "repair",
        "Make a damaged journal whole again with all of it that is intact; what is lost goes\n"
        "into the ledger. Without --apply only says what it would do; the broker must be stopped",
        [&repair](const Context& c) { return journal_repair(repair, c); });
    repair_command->add_flag("--apply", repair.apply,
                             "Do it. What is replaced is kept under data_dir/repair");
    repair_command
        ->add_option("--forget-stream", repair.forget,
                     "Let go of a stream that was taken out of the configuration,\n"
                     "with what waits for its sinks. Needs --config; may be given again")
        ->type_name("NAME")
        ->allow_extra_args(false);
    add_data_dir(repair_command, repair);
    auto& cat = parsed_.cat;
    auto* cat_command = command(*journal, "cat", "Write journaled records to standard output",
                                [&cat](const Context& c) { return journal_cat(cat, c); });
    cat_command->add_option("stream", cat.stream, "The stream")->required()->type_name("");
    add_records(cat_command, cat);
    auto& export_options = parsed_.export_;
    auto* export_command = command(
        *journal, "export",
        "Write journaled records to a file, which appears when all of it is there; the journal\n"
        "stays as it is. Positions must be held (exit code 1 if any record between is damaged)",
        [&export_options](const Context& c) { return journal_export(export_options, c); });
    add_stream(export_command, export_options.stream)->required();
    add_records(export_command, export_options);
    export_command
        ->add_option("--output,-o", export_options.output, "The file to make; - is standard output")
        ->capture_default_str()
        ->type_name("FILE");
    export_command->add_flag("--force", export_options.force, "Replace the file if it exists");
    auto& ledger = parsed_.ledger;
    auto* ledger_command =
        command(*journal, "ledger", "Show which records of a stream did not reach a sink, and why",
                [&ledger](const Context& c) { return journal_ledger(ledger, c); });
    add_stream(ledger_command, ledger.stream)->required();
    ledger_command->add_option("--count", ledger.count, "Only so many of the newest entries")
        ->type_name("N")
        ->check(not_negative());
    add_data_dir(ledger_command, ledger);
  }

  static CLI::Option* add_stream(CLI::App* command, std::string& out) {
    return command->add_option("--stream", out, "The stream")->type_name("NAME");
  }

  static void add_records(CLI::App* command, JournalCatOptions& out) {
    command->add_option("--from", out.from, "The first record, as EPOCH/SEQUENCE")
        ->type_name("POSITION");
    command->add_option("--to", out.to, "The last record, as EPOCH/SEQUENCE")
        ->type_name("POSITION");
    command->add_option("--count", out.count, "At most so many records")
        ->type_name("N")
        ->check(not_negative());
    add_framing(command, out.framing);
    add_data_dir(command, out);
  }

  static void add_framing(CLI::App* command, std::string& out) {
    command
        ->add_option("--framing", out,
                     "lines: one record a line; length_prefixed: 4 bytes of length,\n"
                     "little-endian, before each record")
        ->check(CLI::IsMember({"lines", "length_prefixed"}))
        ->capture_default_str()
        ->type_name("");
  }

  static void add_letters(CLI::App* command, DeadLetterOptions& out) {
    add_stream(command, out.stream)->description("Only those of this stream");
    command->add_option("--sink", out.sink, "Only those of this sink")->type_name("NAME");
  }
  static void add_position(CLI::App* command, DeadLetterOptions& out) {
    command->add_option("--position", out.position, "Only the one at EPOCH/SEQUENCE")
        ->type_name("POSITION");
  }

  void build_dead_letters() {
    auto* letters =
        group("dead-letters", "Records that sinks refused for good (on_reject = \"dead_letter\")");
    auto& options = parsed_.letters;
    auto* list = command(*letters, "list", "Show them: position, time, size, and why",
                         [&options](const Context& c) { return dead_letters_list(options, c); });
    add_letters(list, options);
    add_data_dir(list, options);
    auto* show = command(*letters, "show", "Write the payload of one to standard output",
                         [&options](const Context& c) { return dead_letters_show(options, c); });
    show->add_option("position", options.position, "Which, as EPOCH/SEQUENCE")
        ->required()
        ->type_name("");
    add_letters(show, options);
    add_data_dir(show, options);
    auto& replay = parsed_.replay;
    auto* replay_command = command(
        *letters, "replay",
        "Publish them as new records of another stream, with keys, types and headers. This is\n"
        "outside of the order of the stream they come from (G2 does not hold for them): they come\n"
        "after records that were newer. They stay dead letters; purge removes them",
        [&replay](const Context& c) { return dead_letters_replay(replay, c); });
    replay_command
        ->add_option("--into", replay.into,
                     "The stream to publish to. It has one producer at a time: one\n"
                     "that is connected is fenced, so take a stream of its own")
        ->required()
        ->type_name("NAME");
    add_producer(replay_command, replay.connect, replay.give_up_after, replay.token_file);
    add_letters(replay_command, replay);
    add_position(replay_command, replay);
    add_data_dir(replay_command, replay);
    auto* purge =
        command(*letters, "purge",
                "Delete those of a stream for good, and make room for others (needs --config; the\n"
                "broker must be stopped). A sink that is parked for want of room goes on",
                [&options](const Context& c) { return dead_letters_purge(options, c); });
    add_letters(purge, options);
    add_position(purge, options);
    add_config(purge, options.config);
  }

  static void add_producer(CLI::App* command, std::string& connect, std::string& give_up_after,
                           std::string& token_file) {
    command
        ->add_option("--connect", connect, "The broker's ingress: tcp://HOST:PORT or unix://PATH")
        ->required()
        ->type_name("ADDRESS");
    command
        ->add_option("--give-up-after", give_up_after,
                     "End with an error when nothing was acknowledged for so long (default: never)")
        ->type_name("DURATION");
    command
        ->add_option("--token-file", token_file,
                     "The token to present, in the first line of a file")
        ->type_name("FILE");
  }

  void build_publish() {
    auto& options = parsed_.publish;
    auto* added = command(
        app_, "publish",
        "Read records from a file or standard input, publish them, and end when the broker has\n"
        "acknowledged them all (exit code 3 if it gave up on a halted stream)",
        [&options](const Context& c) { return publish(options, c); });
    add_producer(added, options.connect, options.give_up_after, options.token_file);
    add_stream(added, options.stream)->required();
    added->add_option("--file", options.file, "Where records come from; - is standard input")
        ->capture_default_str()
        ->type_name("FILE");
    add_framing(added, options.framing);
    added->add_flag("--resume", options.resume,
                    "Record i of the input is sequence i of the stream's epoch: what the stream\n"
                    "holds is skipped, so that the command can be killed and run again");
    added->add_option("--rate", options.rate, "At most so many records a second")
        ->type_name("N")
        ->check(not_negative());
  }

  CLI::App& app_;
  Parsed& parsed_;
};

// CLI11 would only say that a subcommand is required.
std::optional<std::string> unknown_command(const CLI::App& app,
                                           const std::vector<std::string>& arguments) {
  const auto* at = &app;
  for (const auto& argument : arguments) {
    const auto commands = at->get_subcommands([](const CLI::App*) { return true; });
    if (commands.empty() || argument.starts_with('-')) return std::nullopt;
    const auto found = std::ranges::find(commands, argument, &CLI::App::get_name);
    if (found != commands.end()) {
      at = *found;
      continue;
    }
    std::vector<std::string> names;
    for (const auto* command : commands) names.push_back(command->get_name());
    std::string text = "\"" + argument + "\" is not a command";
    if (const auto near = config::nearest(argument, names); !near.empty()) {
      return text.append(", did you mean \"").append(near).append("\"?");
    }
    text += " (one of";
    for (const auto& name : names) text.append(" ").append(name);
    return text + ")";
  }
  return std::nullopt;
}

}  // namespace

int Context::fail(const std::string& message, int code) const {
  if (json) {
    output.out << boost::json::serialize(boost::json::object{{"ok", false}, {"error", message}})
               << "\n";
  } else {
    output.err << "spillway: " << message << "\n";
  }
  return code;
}

void Context::print(const boost::json::object& object, const std::string& text) const {
  if (json) {
    output.out << boost::json::serialize(object) << "\n";
  } else {
    output.out << text;
    if (!text.ends_with('\n')) output.out << "\n";
  }
}

int execute(const std::vector<std::string>& arguments, const Backend& backend,
            const Output& output) {
  Parsed parsed;
  CLI::App app;
  app.name("spillway");
  const Builder builder(app, parsed);
  const bool json = std::ranges::find(arguments, "--json") != arguments.end();
  const Context unparsed{backend, output, json};
  if (const auto unknown = unknown_command(app, arguments)) return unparsed.fail(*unknown, kUsage);
  try {
    // CLI11 takes them from the back.
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::ParseError& error) {
    const bool help = error.get_exit_code() == 0;  // or the version
    if (!help && json) return unparsed.fail(error.what(), kUsage);
    app.exit(error, output.out, output.err);
    return help ? kOk : kUsage;
  }
  return parsed.action(Context{backend, output, parsed.json});
}

}  // namespace spillway::cli
