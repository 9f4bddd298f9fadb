#include "broker/status.h"

#include <boost/json.hpp>

namespace spillway::broker {
namespace {

namespace json = boost::json;

// One description of the shape serves both ways: `visit` names every member once, Writer and Reader
// are what is done with a name and a member.
template <class V>
void visit(V& v, auto& it, const CauseStatus*) {
  v("kind", it.kind);
  v("sink", it.sink);
  v("text", it.text);
  v("position", it.position);
  v("since_ms", it.since_ms);
}
template <class V>
void visit(V& v, auto& it, const HaltStatus*) {
  v("active", it.active);
  v("causes", it.causes);
}
template <class V, class T>
void visit(V& v, auto& it, const LimitStatus<T>*) {
  v("limit", it.limit);
  v("left", it.left);
}
template <class V>
void visit(V& v, auto& it, const SinkStatus::Backlog*) {
  v("records", it.records);
  v("bytes", it.bytes);
  v("age_seconds", it.age_seconds);
}
template <class V>
void visit(V& v, auto& it, const SinkStatus::Limits*) {
  v("on_limit", it.on_limit);
  v("max_bytes", it.max_bytes);
  v("max_records", it.max_records);
  v("max_age_seconds", it.max_age_seconds);
  v("outage_timeout_seconds", it.outage_timeout_seconds);
  v("dead_letter_bytes", it.dead_letter_bytes);
}
template <class V>
void visit(V& v, auto& it, const SinkStatus::Outage*) {
  v("since_ms", it.since_ms);
  v("remaining_seconds", it.remaining_seconds);
}
template <class V>
void visit(V& v, auto& it, const SinkStatus::LastError*) {
  v("text", it.text);
  v("since_ms", it.since_ms);
}
template <class V>
void visit(V& v, auto& it, const SinkStatus*) {
  v("name", it.name);
  v("type", it.type);
  v("state", it.state);
  v("connected", it.connected);
  v("refusing", it.refusing);
  v("parked", it.parked);
  v("cursor", it.cursor);
  v("acked", it.acked);
  v("sent", it.sent);
  v("backlog", it.backlog);
  v("limits", it.limits);
  v("outage", it.outage);
  v("last_error", it.last_error);
  v("attempts", it.attempts);
}
template <class V>
void visit(V& v, auto& it, const StreamStatus::Window*) {
  v("bytes", it.bytes);
  v("max_bytes", it.max_bytes);
}
template <class V>
void visit(V& v, auto& it, const StreamStatus::Journal*) {
  v("first", it.first);
  v("end", it.end);
  v("bytes", it.bytes);
}
template <class V>
void visit(V& v, auto& it, const StreamStatus::Producer*) {
  v("connected", it.connected);
  v("generation", it.generation);
  v("address", it.address);
}
template <class V>
void visit(V& v, auto& it, const StreamStatus*) {
  v("name", it.name);
  v("acks", it.acks);
  v("coverage", it.coverage);
  v("held", it.held);
  v("safe", it.safe);
  v("taken", it.taken);
  v("window", it.window);
  v("journal", it.journal);
  v("producer", it.producer);
  v("blocked", it.blocked);
  v("halt", it.halt);
  v("sinks", it.sinks);
}
template <class V>
void visit(V& v, auto& it, const StatusReport::Journal*) {
  v("disk_bytes", it.disk_bytes);
  v("max_disk_bytes", it.max_disk_bytes);
  v("free_bytes", it.free_bytes);
  v("min_free_disk", it.min_free_disk);
  v("failing", it.failing);
  v("last_error", it.last_error);
  v("exhaustion_seconds", it.exhaustion_seconds);
}
template <class V>
void visit(V& v, auto& it, const StatusReport*) {
  v("version", it.version);
  v("uptime_seconds", it.uptime_seconds);
  v("ready", it.ready);
  v("stopping", it.stopping);
  v("streams", it.streams);
  v("journal", it.journal);
}

template <class T>
concept Plain = std::is_arithmetic_v<T> || std::is_same_v<T, std::string>;

class Writer {
 public:
  template <class T>
  void operator()(const char* key, const T& value) {
    object_.emplace(key, of(value));
  }

  template <Plain T>
  static json::value of(const T& value) {
    return json::value(value);
  }
  static json::value of(const Position& value) { return json::value(to_string(value)); }
  template <class T>
  static json::value of(const std::optional<T>& value) {
    return value ? of(*value) : json::value(nullptr);
  }
  template <class T>
  static json::value of(const std::vector<T>& values) {
    json::array out;
    for (const auto& value : values) out.push_back(of(value));
    return out;
  }
  template <class T>
    requires(!Plain<T>)
  static json::value of(const T& value) {
    Writer writer;
    visit(writer, value, static_cast<const T*>(nullptr));
    return std::move(writer.object_);
  }

 private:
  json::object object_;
};

// Throws json::system_error for a value of the wrong kind; parse_status() catches.
class Reader {
 public:
  explicit Reader(const json::object& object) : object_(object) {}

  template <class T>
  void operator()(const char* key, T& value) {
    if (const auto* found = object_.if_contains(key)) to(*found, value);
  }

  template <Plain T>
  static void to(const json::value& from, T& value) {
    value = json::value_to<T>(from);
  }
  static void to(const json::value& from, Position& value) {
    const auto position = parse_position(json::value_to<std::string>(from));
    if (!position) throw std::runtime_error("not a position");
    value = *position;
  }
  template <class T>
  static void to(const json::value& from, std::optional<T>& value) {
    value.reset();
    if (!from.is_null()) to(from, value.emplace());
  }
  template <class T>
  static void to(const json::value& from, std::vector<T>& values) {
    for (const auto& element : from.as_array()) to(element, values.emplace_back());
  }
  template <class T>
    requires(!Plain<T>)
  static void to(const json::value& from, T& value) {
    Reader reader(from.as_object());
    visit(reader, value, static_cast<const T*>(nullptr));
  }

 private:
  const json::object& object_;
};

}  // namespace

json::value to_json(const StatusReport& report) { return Writer::of(report); }
json::value to_json(const HaltStatus& halt) { return Writer::of(halt); }

Result<StatusReport> parse_status(std::string_view text) {
  boost::system::error_code error;
  const auto value = json::parse(json::string_view(text.data(), text.size()), error);
  if (error) return Error{"the status is not JSON: " + error.message()};
  try {
    StatusReport report;
    Reader::to(value, report);
    return report;
  } catch (const std::exception& wrong) {
    return Error{std::string("the status has an unknown shape: ") + wrong.what()};
  }
}

}  // namespace spillway::broker
