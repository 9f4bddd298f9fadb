// journal check and repair: what is wrong with the store of a stopped broker, and its cure.
#include <boost/json.hpp>

#include "broker/cli/commands.h"
#include "broker/cli/remote.h"

namespace spillway::cli {
namespace {

namespace json = boost::json;
using namespace broker::offline;

json::array findings_json(const JournalReport& report) {
  json::array list;
  for (const auto& finding : report.findings) {
    list.push_back(
        json::object{{"kind", finding.kind}, {"stream", finding.stream}, {"text", finding.text}});
  }
  return list;
}

json::array streams_json(const JournalReport& report) {
  json::array list;
  for (const auto& stream : report.streams) {
    json::array lost;
    for (const auto& range : stream.lost) {
      lost.push_back(json::object{{"first", to_string(range.first_position)},
                                  {"last", to_string(range.last_position)},
                                  {"records", range.last - range.first + 1}});
    }
    list.push_back(
        json::object{{"name", stream.stream}, {"intact", stream.saved}, {"lost", std::move(lost)}});
  }
  return list;
}

json::array texts_json(const std::vector<std::string>& texts) {
  return json::array(texts.begin(), texts.end());
}

std::string findings_text(const JournalReport& report) {
  std::string text;
  for (const auto& finding : report.findings) {
    text += (finding.stream.empty() ? "" : "stream " + finding.stream + ": ") + finding.text + "\n";
  }
  for (const auto& note : report.notes) text += "(no damage: " + note + ")\n";
  return text;
}

std::string saved_text(const JournalReport& report) {
  std::string text;
  for (const auto& stream : report.streams) {
    text += "stream " + stream.stream + ": " + std::to_string(stream.saved) +
            " records are intact and can be saved\n";
  }
  return text;
}

const config::Config* config_of(const JournalPlace& place) {
  return place.config ? &*place.config : nullptr;
}

}  // namespace

int journal_check(const JournalOptions& options, const Context& context) {
  const auto place = find_journal(options);
  if (!place) return context.fail(place.error().message, place.error().code);
  const auto report = context.backend.check_journal(place->data_dir, config_of(*place));
  if (!report) return context.fail(report.error().message);
  std::string text = findings_text(*report);
  if (report->findings.empty()) {
    text += "all records are there, intact and in order\n";
  } else if (!report->beyond_repair.empty()) {
    text += "no repair: " + report->beyond_repair + "\n";
  } else {
    text += saved_text(*report) + "see what would be done: spillway journal repair\n";
  }
  context.print({{"ok", report->findings.empty()},
                 {"broker_running", report->broker_running},
                 {"findings", findings_json(*report)},
                 {"notes", texts_json(report->notes)},
                 {"streams", streams_json(*report)}},
                text);
  return !report->findings.empty() ? kFailed : kOk;
}

int journal_repair(const JournalRepairOptions& options, const Context& context) {
  const auto place = find_journal(options);
  if (!place) return context.fail(place.error().message, place.error().code);
  if (!options.forget.empty() && !place->config) {
    return context.fail("--forget-stream needs --config: it says which streams are in use", kUsage);
  }
  const auto report = context.backend.repair_journal(place->data_dir, config_of(*place),
                                                     options.apply, options.forget);
  if (!report) return context.fail(report.error().message);
  std::string text = findings_text(report->found);
  if (report->steps.empty()) {
    // All that a repair mends has a step: what is left is a stream that nobody configures.
    text += report->found.findings.empty() ? "nothing to repair\n"
                                           : "nothing to repair but by your word: see above\n";
  }
  for (const auto& step : report->steps) {
    text += (report->applied ? "done: " : "to do: ") + step + "\n";
  }
  if (report->applied) {
    text +=
        "what was there before is in " + report->kept +
        "; it counts against max_disk_bytes: once the broker runs well, delete it with\n  rm -r " +
        report->kept + "\n";
  } else if (!report->steps.empty()) {
    text += "nothing was changed; do it with --apply\n";
  }
  context.print({{"ok", true},
                 {"applied", report->applied},
                 {"findings", findings_json(report->found)},
                 {"steps", texts_json(report->steps)},
                 {"streams", streams_json(report->found)},
                 {"kept", report->kept.empty() ? json::value(nullptr) : json::value(report->kept)}},
                text);
  return report->steps.empty() && !report->found.findings.empty() ? kFailed : kOk;
}

}  // namespace spillway::cli
