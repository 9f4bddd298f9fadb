// dead-letters: the records that sinks refused for good, and what can be done with them.
#include <algorithm>
#include <boost/json.hpp>
#include <functional>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "broker/cli/commands.h"
#include "broker/cli/journal_tools.h"
#include "broker/cli/producer.h"
#include "broker/cli/record_text.h"
#include "broker/cli/text.h"
#include "broker/config/units.h"

namespace spillway::cli {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using journal::DeadLetter;
using journal::Inspector;

// Between looks at --give-up-after.
constexpr auto kLook = 200ms;

struct Filter {
  std::string stream;
  std::string sink;
  std::optional<Position> position;

  bool takes(const DeadLetter& letter) const {
    if (!sink.empty() && letter.sink != sink) return false;
    return !position || (letter.record != nullptr && letter.record->position == *position);
  }
};

Outcome<Filter> filter_of(const DeadLetterOptions& options) {
  Filter filter{options.stream, options.sink, std::nullopt};
  if (options.position.empty()) return filter;
  filter.position = parse_position(options.position);
  if (!filter.position)
    return Failure{"\"" + options.position + "\" is not EPOCH/SEQUENCE", kUsage};
  return filter;
}

// A record, its parts put together.
struct Content {
  wire::RecordView fields;  // of its first part; it points into the letter
  std::string payload;
};

Content content_of(const DeadLetter& letter) {
  Content content;
  wire::RecordReader reader(letter.record->records, letter.record->position);
  bool first = true;
  for (wire::RecordView record; reader.next(record); first = false) {
    if (first) content.fields = record;
    content.payload += as_text(record.payload);
  }
  return content;
}

using Visit = std::function<bool(const std::string& stream, const DeadLetter& letter)>;

// Those that `filter` takes, by stream, the oldest first, until `visit` returns false.
std::optional<Failure> for_each(Inspector& inspector, const Filter& filter, const Visit& visit) {
  if (!filter.stream.empty() && find_stream(inspector, filter.stream) == nullptr) {
    return Failure{no_such_stream(inspector, filter.stream)};
  }
  bool goes_on = true;
  for (const auto& stream : inspector.streams()) {
    if (!filter.stream.empty() && stream.stream != filter.stream) continue;
    const auto error = inspector.dead_letters(stream.stream, [&](const DeadLetter& letter) {
      if (filter.takes(letter)) goes_on = visit(stream.stream, letter);
      return goes_on;
    });
    if (error) return Failure{error->message};
    if (!goes_on) break;
  }
  return std::nullopt;
}

// What a sink said may have anything in it; a line of a table may not.
std::string one_line(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return text;
}

json::object letter_json(const std::string& stream, const DeadLetter& letter) {
  const bool intact = letter.record != nullptr;
  return {{"stream", stream},
          {"sink", letter.sink},
          {"position", intact ? json::value(to_string(letter.record->position)) : nullptr},
          {"reason", letter.reason},
          {"bytes", intact ? letter.record->bytes() : 0},
          {"time_ms", letter.time_ms},
          {"damaged", !intact}};
}

// Publishes one after the other, and waits until the broker answers for them.
class Replay {
 public:
  Replay(const DeadLetterReplayOptions& options, const Context& context)
      : options_(options), context_(context) {}

  int run(Inspector& inspector, const Filter& filter) {
    if (auto failed = connect()) return context_.fail(failed->message, failed->code);
    auto failed = for_each(inspector, filter, [this](const auto&, const DeadLetter& letter) {
      if (letter.record == nullptr) {
        ++damaged_;
        return true;
      }
      stopped_ = publish(letter);
      return !stopped_;
    });
    if (!failed) failed = std::move(stopped_);
    if (!failed) failed = await_end();
    const auto status = client_->status();
    client_.reset();  // no event comes after this
    return report(failed, status);
  }

 private:
  std::optional<Failure> connect() {
    auto options = client_options(options_.connect, options_.into, options_.token_file);
    if (!options) return options.error();
    options->agent = "spillway dead-letters";
    if (!options_.give_up_after.empty()) {
      const auto parsed = config::parse_duration(options_.give_up_after);
      if (!parsed) return Failure{"--give-up-after: " + parsed.error().message, kUsage};
      give_up_ = *parsed;
    }
    auto client = client::Client::create(std::move(*options), announcements([this](auto& line) {
                                           context_.output.err << "spillway: " + line + "\n";
                                         }));
    if (!client) return Failure{client.error().message, kUsage};
    client_ = std::move(*client);
    return std::nullopt;
  }

  std::optional<Failure> publish(const DeadLetter& letter) {
    const Content content = content_of(letter);
    std::vector<client::Header> headers;
    for (const auto& header : content.fields.headers()) {
      headers.push_back({header.key, as_text(header.value)});
    }
    client::Record record;
    record.payload = content.payload;
    record.key = as_text(content.fields.key);
    record.type = content.fields.type;
    record.headers = headers;
    record.timestamp_ms = content.fields.timestamp_ms;
    for (;;) {
      const auto position = client_->publish_for({&record, 1}, kLook);
      if (!position) {
        return Failure{to_string(letter.record->position) + ": " + position.error().message};
      }
      if (*position) {
        ++published_;
        return std::nullopt;
      }
      if (auto failed = look()) return failed;
    }
  }

  std::optional<Failure> await_end() {
    for (;;) {
      const auto done = client_->flush(kLook);
      if (!done) return Failure{done.error().message};
      if (*done) return std::nullopt;
      if (auto failed = look()) return failed;
    }
  }

  // Gives up when nothing was acknowledged for too long.
  std::optional<Failure> look() {
    const auto status = client_->status();
    const auto now = Clock::now();
    if (status.acknowledged != acknowledged_) {
      acknowledged_ = status.acknowledged;
      progress_at_ = now;
    }
    if (!give_up_ || now - progress_at_ < *give_up_) return std::nullopt;
    const bool halted = status.state == client::State::halted;
    return Failure{"gave up: nothing was acknowledged for " + config::format_duration(*give_up_) +
                       (halted                 ? ", the stream is halted"
                        : status.error.empty() ? ""
                                               : ": " + status.error),
                   halted ? kHalted : kFailed};
  }

  int report(const std::optional<Failure>& failed, const client::Status& status) const {
    json::object object{{"ok", !failed && damaged_ == 0}};
    if (failed) object["error"] = failed->message;
    object["into"] = options_.into;
    object["published"] = published_;
    object["damaged"] = damaged_;
    object["last"] =
        published_ == 0 ? json::value(nullptr) : json::value(to_string(status.published));
    std::string text = std::to_string(published_) + " published to stream " + options_.into;
    if (published_ != 0) text += ", the last at " + to_string(status.published);
    if (damaged_ != 0) text += "; " + std::to_string(damaged_) + " are damaged and left out";
    if (!failed) text += "; they are still dead letters, until they are purged";
    context_.print(object, text);
    if (failed && !context_.json) context_.output.err << "spillway: " << failed->message << "\n";
    if (failed) return failed->code;
    return damaged_ == 0 ? kOk : kFailed;
  }

  const DeadLetterReplayOptions& options_;
  const Context& context_;
  std::optional<std::chrono::milliseconds> give_up_;
  std::uint64_t published_ = 0;
  std::uint64_t damaged_ = 0;
  Position acknowledged_;
  Clock::time_point progress_at_ = Clock::now();
  std::optional<Failure> stopped_;
  std::unique_ptr<client::Client> client_;
};

}  // namespace

int dead_letters_list(const DeadLetterOptions& options, const Context& context) {
  const auto filter = filter_of(options);
  if (!filter) return context.fail(filter.error().message, filter.error().code);
  const auto opened = open_journal(options);
  if (!opened) return context.fail(opened.error().message, opened.error().code);
  json::array letters;
  std::vector<std::vector<std::string>> rows;
  const auto failed = for_each(**opened, *filter, [&](const auto& stream, const auto& letter) {
    if (context.json) {
      letters.push_back(letter_json(stream, letter));
    } else if (letter.record == nullptr) {
      rows.push_back({stream, "?", "damaged", "?", "?", "?"});
    } else {
      rows.push_back({stream, letter.sink, to_string(letter.record->position), utc(letter.time_ms),
                      config::format_bytes(letter.record->bytes()), one_line(letter.reason)});
    }
    return true;
  });
  if (failed) return context.fail(failed->message, failed->code);
  if (!rows.empty())
    rows.insert(rows.begin(), {"STREAM", "SINK", "POSITION", "TIME", "SIZE", "WHY"});
  context.print({{"ok", true}, {"dead_letters", std::move(letters)}},
                rows.empty() ? "there are no dead letters" : table(rows, ""));
  return kOk;
}

int dead_letters_show(const DeadLetterOptions& options, const Context& context) {
  const auto filter = filter_of(options);
  if (!filter) return context.fail(filter.error().message, filter.error().code);
  const auto opened = open_journal(options);
  if (!opened) return context.fail(opened.error().message, opened.error().code);
  // Of several sinks, or refused again after a reset, it is the same record.
  std::optional<DeadLetter> found;
  std::string stream_of_found;
  bool several = false;
  const auto failed = for_each(**opened, *filter, [&](const auto& stream, const auto& letter) {
    several = several || (found && stream_of_found != stream);
    found = letter;
    stream_of_found = stream;
    return true;
  });
  if (failed) return context.fail(failed->message, failed->code);
  if (!found) {
    return context.fail("there is no dead letter at " + options.position +
                        "; see spillway dead-letters list");
  }
  if (several) {
    return context.fail(
        "several streams have a dead letter at " + options.position + ": say which with --stream",
        kUsage);
  }
  auto content = content_of(*found);
  if (!context.json) {
    context.output.out << content.payload;
    return kOk;
  }
  auto object = letter_json(stream_of_found, *found);
  content.fields.payload = std::as_bytes(std::span(content.payload));
  content.fields.part.reset();
  object["ok"] = true;
  object["record"] = record_json(content.fields);
  context.output.out << json::serialize(object) << "\n";
  return kOk;
}

int dead_letters_replay(const DeadLetterReplayOptions& options, const Context& context) {
  const auto filter = filter_of(options);
  if (!filter) return context.fail(filter.error().message, filter.error().code);
  const auto opened = open_journal(options);
  if (!opened) return context.fail(opened.error().message, opened.error().code);
  return Replay(options, context).run(**opened, *filter);
}

int dead_letters_purge(const DeadLetterOptions& options, const Context& context) {
  const auto filter = filter_of(options);
  if (!filter) return context.fail(filter.error().message, filter.error().code);
  if (options.stream.empty()) {
    return context.fail("say --stream: what is purged is gone for good", kUsage);
  }
  if (options.config.empty()) {
    return context.fail("this works on a stopped broker: say --config FILE", kUsage);
  }
  const auto loaded = load_config(options.config);
  if (!loaded) return context.fail(loaded.error().message, loaded.error().code);
  const auto done =
      context.backend.purge_dead_letters(*loaded, filter->stream, filter->sink, filter->position);
  if (!done) return context.fail(done.error().message);
  context.print({{"ok", true}, {"message", *done}}, *done);
  return kOk;
}

}  // namespace spillway::cli
