// status, halt and sink: what is asked of a running broker, with what a stopped one allows.
#include <algorithm>
#include <boost/json.hpp>
#include <ostream>
#include <utility>

#include "broker/admin/client.h"
#include "broker/cli/commands.h"
#include "broker/cli/remote.h"
#include "broker/cli/text.h"
#include "broker/config/units.h"

namespace spillway::cli {
namespace {

namespace json = boost::json;
using broker::StatusReport;
using broker::url_encode;
using namespace std::chrono_literals;

int fail(const Context& context, const Failure& failure) {
  return context.fail(failure.message, failure.code);
}

bool any_halted(const StatusReport& report) {
  return std::ranges::any_of(report.streams, [](const auto& s) { return s.halt.active; });
}

struct SinkName {
  std::string stream;
  std::string sink;
};

// "stream/sink". An empty stream: it was not said.
Outcome<SinkName> split(const std::string& text, bool any_name = false) {
  const auto slash = text.find('/');
  if (slash == std::string::npos && !text.empty()) return SinkName{"", text};
  SinkName name{text.substr(0, slash), slash == std::string::npos ? "" : text.substr(slash + 1)};
  if (name.stream.empty() || name.sink.empty() ||
      (!any_name && name.sink.find('/') != std::string::npos)) {
    return Failure{"\"" + text + "\" is not STREAM/SINK", kUsage};
  }
  return name;
}

// Finds the stream of a sink that was named alone.
Outcome<SinkName> resolve(Remote& remote, const std::string& text) {
  auto name = split(text);
  if (!name || !name->stream.empty()) return name;
  const auto report = remote.status();
  if (!report) return report.error();
  std::string candidates;
  for (const auto& stream : report->streams) {
    for (const auto& sink : stream.sinks) {
      if (sink.name != name->sink) continue;
      candidates += (candidates.empty() ? "" : ", ") + stream.name + "/" + sink.name;
      name->stream = stream.name;
    }
  }
  if (candidates.empty()) return Failure{"no stream has a sink \"" + name->sink + "\""};
  if (candidates.find(',') != std::string::npos) {
    return Failure{"several streams have a sink of that name, say which: " + candidates, kUsage};
  }
  return name;
}

// An answer {"ok": true, "message": ...} as the command's own; as text, with what it is `about`.
int report_done(const Context& context, json::object reply, const std::string& otherwise,
                const std::string& about = "") {
  const auto* message = reply.if_contains("message");
  const auto text = message == nullptr || !message->is_string()
                        ? otherwise
                        : (about.empty() ? "" : about + ": ") + std::string(message->as_string());
  reply["ok"] = true;
  context.print(reply, text);
  return kOk;
}

int report_offline(const Context& context, const Result<std::string>& done) {
  if (!done) return context.fail(done.error().message);
  return report_done(context, {{"message", *done}}, *done);
}

// The configuration and the full name that an offline command needs. The store of an older version
// may have a sink whose name no configuration can have: with `any_name` it is what follows the
// first
// '/'.
Outcome<std::pair<config::Config, SinkName>> offline_target(const SinkOptions& options,
                                                            bool any_name = false) {
  auto name = split(options.sink, any_name);
  if (!name) return name.error();
  if (name->stream.empty()) {
    return Failure{"say STREAM/SINK: a stopped broker cannot be asked for the stream", kUsage};
  }
  if (options.config.empty()) {
    return Failure{"this works on a stopped broker: say --config FILE", kUsage};
  }
  auto loaded = load_config(options.config);
  if (!loaded) return loaded.error();
  return std::pair{std::move(*loaded), std::move(*name)};
}

std::string sink_path(const SinkName& name) {
  return "/api/v1/streams/" + url_encode(name.stream) + "/sinks/" + url_encode(name.sink) + "/";
}

int show_halts(const Context& context,
               const std::vector<std::pair<std::string, broker::HaltStatus>>& halts) {
  json::array streams;
  std::string text;
  bool halted = false;
  for (const auto& [stream, halt] : halts) {
    auto object = broker::to_json(halt).as_object();
    object["stream"] = stream;
    streams.push_back(std::move(object));
    if (halt.active) text += "stream " + stream + "\n" + halt_text(stream, halt);
    halted = halted || halt.active;
  }
  context.print({{"ok", true}, {"halted", halted}, {"streams", std::move(streams)}},
                halted ? text : "no stream is halted");
  return halted ? kHalted : kOk;
}

}  // namespace

int status(const RemoteOptions& options, const Context& context) {
  auto remote = Remote::at(options, context);
  if (!remote) return fail(context, remote.error());
  std::string text;
  const auto report = remote->status(&text);
  if (!report) return fail(context, report.error());
  // The broker's own words, so that what a newer one adds is not lost.
  context.output.out << (context.json ? text + "\n" : status_text(*report));
  return any_halted(*report) ? kHalted : kOk;
}

int sink_list(const RemoteOptions& options, const Context& context) {
  auto remote = Remote::at(options, context);
  if (!remote) return fail(context, remote.error());
  const auto report = remote->status();
  if (!report) return fail(context, report.error());
  json::array sinks;
  const auto value = broker::to_json(*report);
  for (const auto& stream : value.at("streams").as_array()) {
    for (auto sink : stream.at("sinks").as_array()) {
      sink.as_object()["stream"] = stream.at("name");
      sinks.push_back(std::move(sink));
    }
  }
  context.print({{"ok", true}, {"sinks", std::move(sinks)}}, sink_table(*report));
  return kOk;
}

int sink_command(const std::string& action, const SinkOptions& options, const Context& context) {
  auto remote = Remote::at(options, context);
  if (!remote) return fail(context, remote.error());
  const auto name = resolve(*remote, options.sink);
  if (!name) return fail(context, name.error());
  auto reply = remote->post(sink_path(*name) + action);
  if (!reply) return fail(context, reply.error());
  return report_done(context, std::move(*reply),
                     action + ": " + name->stream + "/" + name->sink + " ok",
                     name->stream + "/" + name->sink);
}

int sink_forget(const SinkOptions& options, const Context& context) {
  const auto target = offline_target(options, true);
  if (!target) return fail(context, target.error());
  const auto& [loaded, name] = *target;
  return report_offline(
      context, context.backend.forget_sink(loaded, name.stream, name.sink, options.accept_drop));
}

int sink_rename(const SinkOptions& options, const Context& context) {
  const auto target = offline_target(options, true);
  if (!target) return fail(context, target.error());
  const auto& [loaded, name] = *target;
  // As NEW, or as STREAM/NEW of the same stream.
  std::string to = options.new_name;
  if (to.starts_with(name.stream + "/")) {
    to.erase(0, name.stream.size() + 1);
  } else if (const auto slash = to.find('/');
             slash != std::string::npos && config::is_name(to.substr(0, slash))) {
    return context.fail("a sink stays in its stream: say " + name.stream + "/NEW, or NEW", kUsage);
  }
  if (!config::is_name(to)) {
    return context.fail("\"" + to + "\" is not a name: " + std::string(config::kNameRule), kUsage);
  }
  return report_offline(context, context.backend.rename_sink(loaded, name.stream, name.sink, to));
}

int sink_reset(const SinkOptions& options, const Context& context) {
  std::optional<Position> from;
  if (!options.from.empty()) {
    from = parse_position(options.from);
    if (!from)
      return context.fail("--from: \"" + options.from + "\" is not EPOCH/SEQUENCE", kUsage);
  }
  auto remote = Remote::at(options, context);
  if (!remote) return fail(context, remote.error());
  const auto name = resolve(*remote, options.sink);
  if (name) {
    auto target = sink_path(*name) + "reset";
    char separator = '?';
    if (from) {
      target += separator + std::string("from=") + to_string(*from);
      separator = '&';
    }
    if (options.accept_drop) target += separator + std::string("accept_drop=1");
    auto reply = remote->post(target);
    if (reply) {
      return report_done(context, std::move(*reply),
                         "reset: " + name->stream + "/" + name->sink + " ok",
                         name->stream + "/" + name->sink);
    }
    if (!remote->unreachable() || options.config.empty()) return fail(context, reply.error());
  } else if (!remote->unreachable() || options.config.empty()) {
    return fail(context, name.error());
  }
  // A destination that changed keeps the broker from starting: then this is the way.
  const auto target = offline_target(options);
  if (!target) return fail(context, target.error());
  return report_offline(
      context, context.backend.reset_sink(target->first, target->second.stream, target->second.sink,
                                          from, options.accept_drop));
}

int halt_show(const RemoteOptions& options, const Context& context) {
  auto remote = Remote::at(options, context);
  if (!remote) return fail(context, remote.error());
  std::vector<std::pair<std::string, broker::HaltStatus>> halts;
  if (const auto report = remote->status()) {
    for (const auto& stream : report->streams) halts.emplace_back(stream.name, stream.halt);
    return show_halts(context, halts);
  } else if (!remote->unreachable() || options.config.empty()) {
    return fail(context, report.error());
  }
  const auto loaded = load_config(options.config);
  if (!loaded) return fail(context, loaded.error());
  const auto stored = context.backend.read_halts(*loaded);
  if (!stored) return context.fail(stored.error().message);
  for (const auto& [stream, halt] : *stored) halts.emplace_back(stream, halt);
  return show_halts(context, halts);
}

int halt_clear(const HaltClearOptions& options, const Context& context) {
  std::string query;
  const auto add = [&query](const std::string& parameter) {
    query += (query.empty() ? "?" : "&") + parameter;
  };
  if (options.accept_loss) add("accept_loss=1");
  if (!options.extend.empty()) {
    // In a canonical form: milliseconds or bytes.
    if (const auto duration = config::parse_duration(options.extend); duration && *duration > 0ms) {
      add("extend=" + std::to_string(duration->count()) + "ms");
    } else if (const auto bytes = config::parse_bytes(options.extend);
               bytes && *bytes > 0 && options.extend.ends_with('B')) {
      add("extend=" + std::to_string(*bytes) + "B");
    } else {
      return context.fail("--extend: \"" + options.extend +
                              "\" is neither a duration such as \"2h\" nor a size such as \"1GiB\"",
                          kUsage);
    }
  }
  auto remote = Remote::at(options, context);
  if (!remote) return fail(context, remote.error());
  auto stream = options.stream;
  if (stream.empty()) {
    const auto report = remote->status();
    if (!report) return fail(context, report.error());
    for (const auto& candidate : report->streams) {
      if (!candidate.halt.active) continue;
      if (!stream.empty()) return context.fail("several streams are halted: say which", kUsage);
      stream = candidate.name;
    }
    if (stream.empty()) return report_done(context, {}, "no stream is halted");
  }
  auto reply = remote->post("/api/v1/streams/" + url_encode(stream) + "/halt/clear" + query);
  if (!reply) return fail(context, reply.error());
  const auto* halted = reply->if_contains("halted");
  const bool still = halted != nullptr && halted->is_bool() && halted->as_bool();
  report_done(context, std::move(*reply),
              stream + (still ? " is still halted: see spillway halt show" : " goes on"), stream);
  return still ? kHalted : kOk;
}

}  // namespace spillway::cli
