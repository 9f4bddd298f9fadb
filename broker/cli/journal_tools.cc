// journal status and ledger: a read-only look at a data directory, broker running or not.
#include "broker/cli/journal_tools.h"

#include <algorithm>
#include <boost/json.hpp>
#include <optional>
#include <utility>

#include "broker/cli/text.h"

namespace spillway::cli {
namespace {

namespace json = boost::json;
using journal::BlockInfo;
using journal::Inspector;

struct Ends {
  std::optional<Position> first;
  std::optional<Position> last;
};

// The positions of the first and the last block, without reading what is between.
Ends ends_of(Inspector& inspector, const journal::Recovered& stream) {
  Ends ends;
  inspector.for_each_block(stream.stream, 0, [&](const BlockInfo& info) {
    if (info.intact) ends.first = info.block->position;
    return !info.intact;
  });
  inspector.for_each_block(stream.stream, stream.end, [&](const BlockInfo& info) {
    if (info.intact) ends.last = info.block->last_position();
    return true;
  });
  return ends;
}

json::value position_json(const std::optional<Position>& position) {
  return position ? json::value(to_string(*position)) : json::value(nullptr);
}

json::object entry_json(const journal::LedgerEntry& entry) {
  const bool growing = entry.last == Position{};
  return {{"sink", entry.sink},
          {"reason", name_of(entry.reason)},
          {"first", to_string(entry.first)},
          {"last", growing ? json::value(nullptr) : json::value(to_string(entry.last))},
          {"count", entry.count},
          {"upper_bound", entry.upper_bound},
          {"time_ms", entry.time_ms},
          {"text", entry.text}};
}

std::string entry_text(const journal::LedgerEntry& entry) {
  const bool growing = entry.last == Position{};
  std::string out = "  not delivered: " + to_string(entry.first) + " to " +
                    (growing ? "now" : to_string(entry.last));
  if (!growing) {
    out += ", " + std::string(entry.upper_bound ? "at most " : "") + std::to_string(entry.count) +
           (entry.count == 1 ? " record" : " records");
  }
  out += ", " + std::string(name_of(entry.reason)) +
         (entry.sink.empty() ? ", all sinks" : ", sink " + entry.sink) + ", " + utc(entry.time_ms);
  return out + (entry.text.empty() ? "" : ": " + entry.text) + "\n";
}

}  // namespace

Outcome<std::unique_ptr<Inspector>> open_journal(const JournalOptions& options) {
  const auto place = find_journal(options);
  if (!place) return place.error();
  auto inspector = Inspector::open(place->data_dir);
  if (!inspector) return Failure{inspector.error().message};
  return std::move(*inspector);
}

Outcome<OpenStream> open_stream(const JournalOptions& options, const std::string& name) {
  auto opened = open_journal(options);
  if (!opened) return opened.error();
  OpenStream result{std::move(*opened), nullptr};
  result.stream = find_stream(*result.inspector, name);
  if (result.stream == nullptr) return Failure{no_such_stream(*result.inspector, name)};
  return result;
}

const journal::Recovered* find_stream(const Inspector& inspector, const std::string& name) {
  const auto found = std::ranges::find(inspector.streams(), name, &journal::Recovered::stream);
  return found == inspector.streams().end() ? nullptr : &*found;
}

std::string no_such_stream(const Inspector& inspector, const std::string& name) {
  std::string names;
  for (const auto& stream : inspector.streams()) {
    names += (names.empty() ? "" : ", ") + stream.stream;
  }
  return "the journal has no stream \"" + name + "\"" +
         (names.empty() ? "; it has none" : "; it has " + names);
}

int journal_status(const JournalStatusOptions& options, const Context& context) {
  const auto opened = open_journal(options);
  if (!opened) return context.fail(opened.error().message, opened.error().code);
  auto& inspector = **opened;
  json::array streams;
  std::string text = inspector.broker_running() ? "a broker is running on it\n" : "";
  bool damaged = false;
  for (const auto& stream : inspector.streams()) {
    const auto ends = ends_of(inspector, stream);
    const auto records = stream.end - std::min(stream.end, stream.watermark);
    const auto ledger = inspector.ledger(stream.stream, options.ledger);
    if (!ledger) return context.fail(ledger.error().message);
    std::uint64_t letters = 0;
    const auto failed = inspector.dead_letters(stream.stream, [&letters](const auto&) {
      ++letters;
      return true;
    });
    if (failed) return context.fail(failed->message);
    damaged = damaged || stream.damage.has_value();

    json::array entries;
    text += "stream " + stream.stream + ": " + std::to_string(records) + " records";
    if (records != 0 && ends.first && ends.last) {
      text += ", " + to_string(*ends.first) + " to " + to_string(*ends.last);
    }
    text += "\n";
    if (stream.damage) text += "  DAMAGED: " + *stream.damage + "\n";
    if (letters != 0) text += "  dead letters: " + std::to_string(letters) + "\n";
    for (const auto& entry : *ledger) {
      entries.push_back(entry_json(entry));
      text += entry_text(entry);
    }
    streams.push_back(
        json::object{{"name", stream.stream},
                     {"records", records},
                     {"first", position_json(records != 0 ? ends.first : std::nullopt)},
                     {"last", position_json(records != 0 ? ends.last : std::nullopt)},
                     {"damage", stream.damage ? json::value(*stream.damage) : json::value(nullptr)},
                     {"dead_letters", letters},
                     {"ledger", std::move(entries)}});
  }
  if (inspector.streams().empty()) text += "no stream was ever journaled\n";
  context.print({{"ok", !damaged},
                 {"broker_running", inspector.broker_running()},
                 {"streams", std::move(streams)}},
                text);
  return damaged ? kFailed : kOk;
}

int journal_ledger(const JournalLedgerOptions& options, const Context& context) {
  const auto opened = open_stream(options, options.stream);
  if (!opened) return context.fail(opened.error().message, opened.error().code);
  const auto& [inspector, stream] = *opened;
  const auto ledger = inspector->ledger(
      stream->stream,
      options.count == 0 ? journal::kMaxLedgerEntries : static_cast<std::size_t>(options.count));
  if (!ledger) return context.fail(ledger.error().message);
  json::array entries;
  std::string text;
  for (const auto& entry : *ledger) {
    entries.push_back(entry_json(entry));
    text += entry_text(entry);
  }
  if (ledger->empty()) text = "all that was acknowledged was delivered, or still waits\n";
  context.print({{"ok", true}, {"stream", stream->stream}, {"ledger", std::move(entries)}}, text);
  return kOk;
}

}  // namespace spillway::cli
