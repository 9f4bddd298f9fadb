#include "broker/cli/text.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>

#include "broker/config/units.h"

namespace spillway::cli {
namespace {

using broker::SinkStatus;
using broker::StatusReport;
using broker::StreamStatus;
using config::format_bytes;

std::string count_of(std::uint64_t count, const char* one) {
  return std::to_string(count) + " " + one + (count == 1 ? "" : "s");
}

// "bytes 3.9GiB, outage 23h57m": what is left of each limit that is set.
std::string limits_left(const SinkStatus& sink) {
  std::string out;
  const auto add = [&out](const char* name, const std::string& left) {
    out += (out.empty() ? "" : ", ") + std::string(name) + " " + left;
  };
  const auto& limits = sink.limits;
  if (limits.max_bytes.left) add("bytes", format_bytes(*limits.max_bytes.left));
  if (limits.max_records.left) add("records", std::to_string(*limits.max_records.left));
  if (limits.max_age_seconds.left) add("age", seconds_text(*limits.max_age_seconds.left));
  const auto outage =
      sink.outage ? sink.outage->remaining_seconds : limits.outage_timeout_seconds.left;
  if (outage) add("outage", seconds_text(*outage));
  if (out.empty()) return "unlimited";
  return out + ", then " + limits.on_limit;
}

std::string state_text(const SinkStatus& sink) {
  return sink.refusing ? sink.state + " (refusing)" : sink.state;
}

std::vector<std::string> sink_row(const SinkStatus& sink) {
  const auto& backlog = sink.backlog;
  const bool none = backlog.records == 0;
  return {sink.name,
          sink.type,
          state_text(sink),
          to_string(sink.acked),
          none ? "-" : std::to_string(backlog.records) + " (" + format_bytes(backlog.bytes) + ")",
          none ? "-" : seconds_text(backlog.age_seconds),
          limits_left(sink)};
}

const std::vector<std::string> kSinkHeading = {"SINK",    "TYPE", "STATE", "ACKED",
                                               "BACKLOG", "AGE",  "LEFT"};

std::string troubles(const SinkStatus& sink) {
  std::string out;
  if (!sink.parked.empty()) out += "  " + sink.name + " is parked: " + sink.parked + "\n";
  if (sink.last_error) {
    out += "  " + sink.name + " since " + utc(sink.last_error->since_ms) + ": " +
           sink.last_error->text + " (" + count_of(sink.attempts, "attempt") + " to connect)\n";
  }
  return out;
}

std::string stream_text(const StreamStatus& stream) {
  std::string out = "stream " + stream.name + "\n";
  out += halt_text(stream.name, stream.halt);
  if (stream.blocked) out += "  BLOCKED: a sink over its limit withholds acknowledgements\n";
  std::vector<std::vector<std::string>> rows = {
      {"held", to_string(stream.held),
       "safe " + to_string(stream.safe) + " (acks " + stream.acks + "), taken by every sink " +
           to_string(stream.taken)},
      {"producer", stream.producer.connected ? stream.producer.address : "none",
       "generation " + std::to_string(stream.producer.generation)},
      {"window", format_bytes(stream.window.bytes), "of " + format_bytes(stream.window.max_bytes)},
  };
  const auto& journal = stream.journal;
  rows.push_back({"journal", format_bytes(journal.bytes),
                  (journal.first && journal.end
                       ? to_string(*journal.first) + " to " + to_string(*journal.end) + ", "
                       : std::string()) +
                      "coverage " + stream.coverage});
  out += table(rows, "  ") + "\n";
  rows = {kSinkHeading};
  for (const auto& sink : stream.sinks) rows.push_back(sink_row(sink));
  out += table(rows, "  ");
  for (const auto& sink : stream.sinks) out += troubles(sink);
  return out;
}

}  // namespace

std::string table(const std::vector<std::vector<std::string>>& rows, const std::string& indent) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line = indent;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      if (i + 1 < row.size()) line += std::string(widths[i] - row[i].size() + 2, ' ');
    }
    while (line.ends_with(' ')) line.pop_back();
    out += line + "\n";
  }
  return out;
}

std::string utc(std::int64_t ms) {
  const std::time_t seconds = ms / 1000;
  std::tm parts{};
  char text[32];
  gmtime_r(&seconds, &parts);
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%SZ", &parts);
  return text;
}

std::string seconds_text(double seconds) {
  if (!(seconds > 0)) return "0s";
  if (seconds < 10) {
    char text[16];
    std::snprintf(text, sizeof text, "%.1fs", seconds);
    return text;
  }
  // Beyond any limit that can be set, so that the conversion cannot overflow.
  const auto whole = std::llround(std::min(seconds, 1e12));
  return config::format_duration(std::chrono::seconds(whole));
}

std::string cause_text(const std::string& kind, const std::string& sink, const std::string& text) {
  if (text.starts_with(kind)) return text;
  return kind + (sink.empty() ? "" : " of sink " + sink) + (text.empty() ? "" : ": " + text);
}

std::string halt_text(const std::string& stream, const broker::HaltStatus& halt) {
  std::string out;
  if (!halt.active) return out;
  for (const auto& cause : halt.causes) {
    out += "  HALTED since " + utc(cause.since_ms) + " at " + to_string(cause.position) + ": " +
           cause_text(cause.kind, cause.sink, cause.text) + "\n";
  }
  if (halt.causes.empty()) out += "  HALTED\n";
  return out + "  It goes on by itself when that is gone; see: spillway halt clear " + stream +
         " --help\n";
}

std::string sink_table(const StatusReport& report) {
  std::vector<std::vector<std::string>> rows = {kSinkHeading};
  for (const auto& stream : report.streams) {
    for (const auto& sink : stream.sinks) {
      rows.push_back(sink_row(sink));
      rows.back()[0] = stream.name + "/" + sink.name;
    }
  }
  return table(rows, "");
}

std::string status_text(const StatusReport& report) {
  const auto& journal = report.journal;
  std::string out = "spillway " + report.version + ", up " + seconds_text(report.uptime_seconds) +
                    (report.stopping ? ", stopping"
                     : report.ready  ? ", ready"
                                     : ", not ready") +
                    "\njournal " + format_bytes(journal.disk_bytes) + " of " +
                    format_bytes(journal.max_disk_bytes) + ", " + format_bytes(journal.free_bytes) +
                    " free on disk";
  if (journal.exhaustion_seconds) {
    out +=
        ", the first limit acts in " + seconds_text(*journal.exhaustion_seconds) + " at this rate";
  }
  if (journal.failing) out += "\njournal FAILING: " + journal.last_error;
  out += "\n";
  for (const auto& stream : report.streams) out += "\n" + stream_text(stream);
  return out;
}

}  // namespace spillway::cli
