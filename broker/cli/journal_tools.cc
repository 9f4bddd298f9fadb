// journal status and cat: a read-only look at a data directory, broker running or not.
#include <boost/json.hpp>
#include <memory>
#include <optional>
#include <ostream>

#include "broker/cli/commands.h"
#include "broker/cli/record_text.h"
#include "broker/cli/remote.h"
#include "broker/cli/text.h"
#include "broker/config/units.h"
#include "journal/inspect.h"
#include "wire/record.h"

namespace spillway::cli {
namespace {

namespace json = boost::json;
using journal::BlockInfo;
using journal::Inspector;

Outcome<std::unique_ptr<Inspector>> open(const JournalOptions& options) {
  const auto place = find_journal(options);
  if (!place) return place.error();
  auto inspector = Inspector::open(place->data_dir);
  if (!inspector) return Failure{inspector.error().message};
  return std::move(*inspector);
}

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

// Whether `stream` exists in the store: nothing else tells a typing error from an empty stream.
bool has_stream(const Inspector& inspector, const std::string& stream) {
  for (const auto& recovered : inspector.streams()) {
    if (recovered.stream == stream) return true;
  }
  return false;
}

// Writes records one after the other until a bound is reached.
class Cat {
 public:
  Cat(const JournalCatOptions& options, std::optional<Position> from, std::optional<Position> to,
      const Context& context)
      : options_(options), from_(from), to_(to), context_(context) {}

  bool block(const BlockInfo& info) {
    if (!info.intact) {
      damaged_ = true;
      context_.output.err << "spillway: a damaged block begins at offset " << info.first
                          << "; its records are left out\n";
      return true;
    }
    const auto& block = *info.block;
    if (from_ && block.last_position() < *from_) return true;
    if (to_ && *to_ < block.position) return false;
    if (block.skip) return skip(block);
    wire::RecordReader reader(block.records, block.position);
    for (wire::RecordView record; reader.next(record);) {
      if (from_ && record.position < *from_) continue;
      if ((to_ && *to_ < record.position) || (options_.count != 0 && written_ == options_.count)) {
        return false;
      }
      ++written_;
      write(record);
    }
    return static_cast<bool>(context_.output.out);
  }
  bool damaged() const { return damaged_; }

 private:
  bool skip(const Block& block) {
    if (context_.json) {
      context_.output.out << json::serialize(
                                 json::object{{"skip", name_of(*block.skip)},
                                              {"first", to_string(block.position)},
                                              {"last", to_string(block.last_position())}})
                          << "\n";
    }
    return true;
  }

  void write(const wire::RecordView& record) {
    auto& out = context_.output.out;
    if (context_.json) {
      out << json::serialize(record_json(record)) << "\n";
      return;
    }
    const auto payload = as_text(record.payload);
    if (options_.framing == "lines") {
      out << payload;
      if (record.completes()) out << '\n';
    } else if (record.completes() && parts_.empty()) {
      write_prefixed(payload);
    } else {  // the length of a record in parts is known at its end
      parts_ += payload;
      if (!record.completes()) return;
      write_prefixed(parts_);
      parts_.clear();
    }
  }
  void write_prefixed(std::string_view payload) {
    const auto size = static_cast<std::uint32_t>(payload.size());
    for (int shift = 0; shift < 32; shift += 8) {
      context_.output.out.put(static_cast<char>((size >> shift) & 0xff));
    }
    context_.output.out << payload;
  }

  const JournalCatOptions& options_;
  std::optional<Position> from_;
  std::optional<Position> to_;
  const Context& context_;
  std::uint64_t written_ = 0;
  std::string parts_;
  bool damaged_ = false;
};

}  // namespace

int journal_status(const JournalStatusOptions& options, const Context& context) {
  const auto opened = open(options);
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
    const auto letters = inspector.dead_letters(stream.stream);
    if (!letters) return context.fail(letters.error().message);
    damaged = damaged || stream.damage.has_value();

    json::array entries;
    text += "stream " + stream.stream + ": " + std::to_string(records) + " records";
    if (records != 0 && ends.first && ends.last) {
      text += ", " + to_string(*ends.first) + " to " + to_string(*ends.last);
    }
    text += "\n";
    if (stream.damage) text += "  DAMAGED: " + *stream.damage + "\n";
    if (!letters->empty()) text += "  dead letters: " + std::to_string(letters->size()) + "\n";
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
                     {"dead_letters", letters->size()},
                     {"ledger", std::move(entries)}});
  }
  if (inspector.streams().empty()) text += "no stream was ever journaled\n";
  context.print({{"ok", !damaged},
                 {"broker_running", inspector.broker_running()},
                 {"streams", std::move(streams)}},
                text);
  return damaged ? kFailed : kOk;
}

int journal_cat(const JournalCatOptions& options, const Context& context) {
  std::optional<Position> bounds[2];
  const std::string* texts[2] = {&options.from, &options.to};
  for (int i = 0; i < 2; ++i) {
    if (texts[i]->empty()) continue;
    bounds[i] = parse_position(*texts[i]);
    if (!bounds[i]) return context.fail("\"" + *texts[i] + "\" is not EPOCH/SEQUENCE", kUsage);
  }
  const auto opened = open(options);
  if (!opened) return context.fail(opened.error().message, opened.error().code);
  auto& inspector = **opened;
  if (!has_stream(inspector, options.stream)) {
    return context.fail("the journal has no stream \"" + options.stream + "\"");
  }
  Cat cat(options, bounds[0], bounds[1], context);
  const auto error = inspector.for_each_block(
      options.stream, 0, [&cat](const BlockInfo& info) { return cat.block(info); });
  if (error) return context.fail(error->message);
  return cat.damaged() ? kFailed : kOk;
}

}  // namespace spillway::cli
