// journal cat and export: records out of a data directory, broker running or not.
#include <algorithm>
#include <boost/json.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "broker/cli/commands.h"
#include "broker/cli/journal_range.h"
#include "broker/cli/journal_tools.h"
#include "broker/cli/output_file.h"
#include "broker/cli/record_writer.h"

namespace spillway::cli {
namespace {

namespace json = boost::json;
using journal::BlockInfo;
using journal::Inspector;

struct Bounds {
  std::optional<Position> from;
  std::optional<Position> to;
  std::uint64_t count = 0;  // 0: all
};

Outcome<Bounds> bounds_of(const JournalCatOptions& options) {
  Bounds bounds;
  bounds.count = options.count;
  for (const auto& [text, bound] :
       {std::pair(&options.from, &bounds.from), std::pair(&options.to, &bounds.to)}) {
    if (text->empty()) continue;
    *bound = parse_position(*text);
    if (!*bound) return Failure{"\"" + *text + "\" is not EPOCH/SEQUENCE", kUsage};
  }
  if (bounds.from && bounds.to && *bounds.to < *bounds.from) {
    return Failure{"--from " + options.from + " is later than --to " + options.to, kUsage};
  }
  return bounds;
}

std::string records_text(std::uint64_t records) {
  return std::to_string(records) + (records == 1 ? " record" : " records");
}

// The records of one stream within bounds, in order, and what is missing between them.
class Selection {
 public:
  Selection(Inspector& inspector, const journal::Recovered& stream, Bounds bounds,
            RecordWriter& writer, std::ostream& out)
      : inspector_(inspector), stream_(stream), bounds_(bounds), writer_(writer), out_(out) {}

  // Called for each range without records that policy made.
  std::function<void(const Block&)> on_skip = [](const Block&) {};

  // What keeps the rest from being written.
  std::optional<Error> write() {
    Offset from = 0;
    if (bounds_.from) {
      const auto first = JournalRange(inspector_, stream_).at(*bounds_.from);
      if (!first) return first.error();
      if (*first == nullptr) return std::nullopt;
      from = (*first)->first;
    }
    next_ = from != 0 ? from : stream_.watermark + 1;
    const auto failed = inspector_.for_each_block(
        stream_.stream, from, [this](const BlockInfo& info) { return block(info); });
    writer_.finish();
    if (error_) return error_;
    if (failed) {
      return Error{failed->message + "; see `spillway journal check`, and repair it before you " +
                   "read on"};
    }
    if (ended_ || bounds_.to) return std::nullopt;
    miss(stream_.end + 1);
    if (stream_.damage) missing_.push_back("stream " + stream_.stream + ": " + *stream_.damage);
    return std::nullopt;
  }
  // Each a sentence.
  const std::vector<std::string>& missing() const { return missing_; }

 private:
  bool block(const BlockInfo& info) {
    if (!info.intact) return true;  // it is missed by what follows
    const Block& block = *info.block;
    if (bounds_.to && *bounds_.to < block.position) return end();
    miss(block.first);
    next_ = block.last() + 1;
    after_ = block.last_position();
    if (block.skip) {
      on_skip(block);
      return true;
    }
    wire::RecordReader reader(block.records, block.position);
    for (wire::RecordView record; reader.next(record);) {
      if (bounds_.from && record.position < *bounds_.from) continue;
      if (bounds_.to && *bounds_.to < record.position) return end();
      if (bounds_.count != 0 && writer_.records() == bounds_.count) return end();
      if ((error_ = writer_.write(record))) return end();
    }
    // A pipe that was closed, or a disk that is full.
    return out_ ? true : end();
  }
  bool end() {
    ended_ = true;
    return false;
  }
  void miss(Offset found) {
    if (found <= next_) return;
    missing_.push_back(records_text(found - next_) +
                       (after_ ? " after " + to_string(*after_) : " at the beginning") +
                       " are damaged or missing, and left out; see `spillway journal check`");
  }

  Inspector& inspector_;
  const journal::Recovered& stream_;
  Bounds bounds_;
  RecordWriter& writer_;
  std::ostream& out_;
  Offset next_ = 0;  // what should come
  std::optional<Position> after_;
  bool ended_ = false;  // a bound was reached
  std::optional<Error> error_;
  std::vector<std::string> missing_;
};

void say_what_is_missing(const Selection& selection, const RecordWriter& writer,
                         const Context& context) {
  auto& err = context.output.err;
  for (const std::string& text : selection.missing()) err << "spillway: " << text << "\n";
  if (writer.incomplete() == 0) return;
  err << "spillway: " << records_text(writer.incomplete())
      << " in parts, not all of them in this range, left out\n";
}

// Both ends must be held, so that what is exported is what was asked for.
std::optional<Failure> check_bounds(JournalRange& range, const Bounds& bounds) {
  for (const auto& [name, bound] :
       {std::pair("--from", &bounds.from), std::pair("--to", &bounds.to)}) {
    if (!*bound) continue;
    const auto missing = range.missing(**bound);
    if (!missing) return Failure{missing.error().message};
    if (*missing) return Failure{std::string(name) + ": " + **missing, kUsage};
  }
  return std::nullopt;
}

json::value position_json(const std::optional<Position>& position) {
  return position ? json::value(to_string(*position)) : json::value(nullptr);
}

int report_export(const JournalExportOptions& options, const Selection& selection,
                  const RecordWriter& writer, const Context& context) {
  if (!context.json) say_what_is_missing(selection, writer, context);
  const int code = selection.missing().empty() ? kOk : kFailed;
  if (options.output == "-") return code;
  std::string text = "wrote " + records_text(writer.records());
  if (writer.first()) {
    text += ", " + to_string(*writer.first()) + " to " + to_string(*writer.last()) + ",";
  }
  context.print({{"ok", code == kOk},
                 {"stream", options.stream},
                 {"output", options.output},
                 {"records", writer.records()},
                 {"bytes", writer.bytes()},
                 {"first", position_json(writer.first())},
                 {"last", position_json(writer.last())},
                 {"incomplete", writer.incomplete()},
                 {"missing", json::array(selection.missing().begin(), selection.missing().end())}},
                text + " to " + options.output);
  return code;
}

}  // namespace

int journal_cat(const JournalCatOptions& options, const Context& context) {
  const auto bounds = bounds_of(options);
  if (!bounds) return context.fail(bounds.error().message, bounds.error().code);
  const auto opened = open_stream(options, options.stream);
  if (!opened) return context.fail(opened.error().message, opened.error().code);
  const auto& [inspector, stream] = *opened;
  auto& out = context.output.out;
  RecordWriter writer(out, RecordWriter::framing_of(options.framing, context.json));
  Selection selection(*inspector, *stream, *bounds, writer, out);
  if (context.json) {
    selection.on_skip = [&out](const Block& block) {
      out << json::serialize(json::object{{"skip", name_of(*block.skip)},
                                          {"first", to_string(block.position)},
                                          {"last", to_string(block.last_position())}})
          << "\n";
    };
  }
  if (const auto error = selection.write()) return context.fail(error->message);
  say_what_is_missing(selection, writer, context);
  return selection.missing().empty() ? kOk : kFailed;
}

int journal_export(const JournalExportOptions& options, const Context& context) {
  const bool to_stdout = options.output == "-";
  if (to_stdout && context.json) {
    return context.fail(
        "standard output cannot hold both the records and JSON: say --output FILE, "
        "or `spillway journal cat --json` for records as JSON",
        kUsage);
  }
  const auto bounds = bounds_of(options);
  if (!bounds) return context.fail(bounds.error().message, bounds.error().code);
  const auto opened = open_stream(options, options.stream);
  if (!opened) return context.fail(opened.error().message, opened.error().code);
  const auto& [inspector, stream] = *opened;
  JournalRange range(*inspector, *stream);
  if (const auto wrong = check_bounds(range, *bounds)) {
    return context.fail(wrong->message, wrong->code);
  }
  std::unique_ptr<OutputFile> file;
  if (!to_stdout) {
    auto created = OutputFile::create(options.output, options.force);
    if (!created) return context.fail(created.error().message);
    file = std::move(*created);
  }
  std::ostream& out = file ? file->stream() : context.output.out;
  RecordWriter writer(out, RecordWriter::framing_of(options.framing, false));
  Selection selection(*inspector, *stream, *bounds, writer, out);
  if (const auto error = selection.write()) {
    return context.fail(error->message + (file ? "; nothing was written" : ""));
  }
  if (file) {
    if (const auto error = file->commit()) return context.fail(error->message);
  }
  return report_export(options, selection, writer, context);
}

}  // namespace spillway::cli
