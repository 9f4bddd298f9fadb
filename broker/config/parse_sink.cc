#include "broker/config/parse_sink.h"

#include <algorithm>
#include <array>

namespace spillway::config {
namespace {

using namespace std::chrono_literals;

const std::vector<std::string> kTypes = {"file", "tcp", "spillway"};
constexpr std::array<std::string_view, 5> kLaterTypes = {"kafka", "postgres", "http", "redis",
                                                         "nats"};
const Section::Choices<Framing> kFramings = {{"lines", Framing::lines},
                                             {"length_prefixed", Framing::length_prefixed}};

// Keys that only some types have, so that the wrong one can be told where it belongs.
struct TypeKey {
  std::string_view key;
  std::vector<std::string_view> types;
};
const std::vector<TypeKey> kTypeKeys = {
    {"path", {"file"}},       {"framing", {"file", "tcp"}}, {"connect", {"tcp", "spillway"}},
    {"acknowledge", {"tcp"}}, {"stream", {"spillway"}},     {"token_file", {"spillway"}},
};

void read_file(Section& section, const std::filesystem::path& folder, Sink& sink) {
  FileSink file;
  read_path(section, "path", folder, file.path);
  if (file.path.empty()) section.error("path", "required for a file sink");
  section.choice("framing", file.framing, kFramings);
  sink.destination = file;
}

void read_tcp(Section& section, const std::filesystem::path& folder, Sink& sink) {
  TcpSink tcp;
  if (!section.has("connect")) section.error("connect", "required for a tcp sink");
  if (read_address(section, "connect", folder, true, false, tcp.connect) &&
      tcp.connect.kind != Address::Kind::tcp) {
    section.error("connect", "a tcp sink connects to tcp://host:port");
  }
  section.choice("framing", tcp.framing, kFramings);
  section.choice<Acknowledge>("acknowledge", tcp.acknowledge,
                              {{"count", Acknowledge::count}, {"kernel", Acknowledge::kernel}});
  sink.destination = tcp;
}

void read_spillway(Section& section, const std::filesystem::path& folder,
                   const std::string& stream_name, Sink& sink) {
  SpillwaySink relay;
  if (!section.has("connect")) section.error("connect", "required for a spillway sink");
  read_address(section, "connect", folder, true, false, relay.connect);
  relay.stream = stream_name;
  section.text("stream", relay.stream);
  read_path(section, "token_file", folder, relay.token_file);
  if (section.has("tls")) {
    section.allow("tls");
    section.error("tls", "not built in this version");
  }
  sink.destination = relay;
}

void read_start_at(Section& section, Sink& sink) {
  std::string text;
  if (!section.text("start_at", text)) return;
  if (text == "latest") {
    sink.start_at.kind = StartAt::Kind::latest;
  } else if (text == "earliest") {
    sink.start_at.kind = StartAt::Kind::earliest;
  } else if (const auto position = parse_position(text)) {
    sink.start_at = {StartAt::Kind::position, *position};
  } else {
    section.unknown_value("start_at", text, {"latest", "earliest", "EPOCH/SEQUENCE"});
  }
}

void read_reconnect(Section& section, Reconnect& reconnect) {
  auto table = section.section("reconnect");
  if (!table) return;
  table->duration("initial", reconnect.initial, 1ms, 1h);
  const bool max_given = table->duration("max", reconnect.max, 1ms, 24h);
  table->number("multiplier", reconnect.multiplier, 1, 10);
  table->number("jitter", reconnect.jitter, 0, 1);
  if (reconnect.max < reconnect.initial) {
    if (max_given) table->error("max", "is below initial");
    reconnect.max = reconnect.initial;
  }
  table->finish();
}

void read_replay(Section& section, Replay& replay) {
  auto table = section.section("replay");
  if (!table) return;
  table->rate("rate_limit", replay.rate_limit, kKiB);
  table->bytes("max_in_flight", replay.max_in_flight, kKiB, kGiB);
  table->finish();
}

// on_outage is a word for a limit that other keys can say too: it sets them, and they may not
// contradict it.
void read_limits(Section& section, Sink& sink) {
  enum class OnOutage { journal, halt, drop };
  auto on_outage = OnOutage::journal;
  section.choice<OnOutage>(
      "on_outage", on_outage,
      {{"journal", OnOutage::journal}, {"halt", OnOutage::halt}, {"drop", OnOutage::drop}});
  const bool limit_given = section.choice<OnLimit>(
      "on_limit", sink.on_limit,
      {{"halt", OnLimit::halt}, {"block", OnLimit::block}, {"drop_oldest", OnLimit::drop_oldest}});
  const bool outage_given = section.duration("outage_timeout", sink.outage_timeout, 0ms);
  const bool bytes_given = section.bytes("max_bytes", sink.max_bytes, 0);
  section.count("max_records", sink.max_records);
  section.duration("max_age", sink.max_age, 1ms);
  const auto contradicts = [&](std::string_view key, std::string_view word, std::string_view only) {
    section.error(key, "contradicts on_outage = \"" + std::string(word) + "\", which means " +
                           std::string(only));
  };
  if (on_outage == OnOutage::drop) {
    constexpr auto kMeans = "max_bytes = 0 with on_limit = \"drop_oldest\"";
    if (limit_given && sink.on_limit != OnLimit::drop_oldest) {
      contradicts("on_limit", "drop", kMeans);
    }
    if (bytes_given && sink.max_bytes != 0) contradicts("max_bytes", "drop", kMeans);
    sink.on_limit = OnLimit::drop_oldest;
    sink.max_bytes = 0;
  } else if (on_outage == OnOutage::halt) {
    constexpr auto kMeans = "outage_timeout = 0 with on_limit = \"halt\"";
    if (limit_given && sink.on_limit != OnLimit::halt) contradicts("on_limit", "halt", kMeans);
    if (outage_given && sink.outage_timeout != 0ms) contradicts("outage_timeout", "halt", kMeans);
    sink.on_limit = OnLimit::halt;
    sink.outage_timeout = 0ms;
  } else if (section.has("on_outage")) {
    const auto journals = [&](std::string_view key) {
      contradicts(key, "journal", "that an outage is journaled; leave on_outage out to set limits");
    };
    if (bytes_given && sink.max_bytes == 0) journals("max_bytes");
    if (outage_given && sink.outage_timeout == 0ms) journals("outage_timeout");
  }
}

// Says what to do about a key of another type instead of guessing a similar word.
std::vector<std::pair<std::string, std::string>> keys_of_other_types(std::string_view type) {
  std::vector<std::pair<std::string, std::string>> out;
  for (const auto& [key, types] : kTypeKeys) {
    if (std::ranges::find(types, type) != types.end()) continue;
    std::string names;
    for (const auto name : types) names += (names.empty() ? "" : " and ") + std::string(name);
    out.emplace_back(key,
                     "is a key of " + names + " sinks, this one is of type " + std::string(type));
  }
  return out;
}

}  // namespace

void read_name(Section& section, std::string& out) {
  if (!section.text("name", out)) {
    if (!section.has("name")) section.error("name", "required");
    return;
  }
  if (!is_name(out)) {
    section.error("name", "\"" + out + "\" is not a name: " + std::string(kNameRule));
  }
}

bool read_address(Section& section, std::string_view key, const std::filesystem::path& folder,
                  bool connecting, bool plain_is_tcp, Address& out) {
  std::string text;
  if (!section.text(key, text)) return false;
  auto address = parse_address(text, plain_is_tcp);
  if (!address) {
    section.error(key, address.error().message);
    return false;
  }
  if (connecting && address->kind == Address::Kind::tcp && address->port == 0) {
    section.error(key, "port 0 is out of range: 1 to 65535");
    return false;
  }
  if (address->kind == Address::Kind::unix_socket) {
    address->path = (folder / address->path).lexically_normal().string();
    if (const auto whole = parse_address(to_string(*address)); !whole) {  // too long by now
      section.error(key, whole.error().message);
      return false;
    }
  }
  out = *address;
  return true;
}

void read_path(Section& section, std::string_view key, const std::filesystem::path& folder,
               std::filesystem::path& out) {
  std::string text;
  if (section.text(key, text) && !text.empty()) out = (folder / text).lexically_normal();
}

void read_sink(Section& section, const std::filesystem::path& folder,
               const std::string& stream_name, Sink& sink) {
  read_name(section, sink.name);
  std::string type;
  if (!section.text("type", type)) {
    if (!section.has("type")) section.error("type", "required (one of file | tcp | spillway)");
    return;  // which keys are right depends on it
  }
  if (std::ranges::find(kLaterTypes, type) != kLaterTypes.end()) {
    section.error("type", "\"" + type + "\" sinks are not built in this version " +
                              "(one of file | tcp | spillway)");
    return;
  }
  if (type == "file") {
    read_file(section, folder, sink);
  } else if (type == "tcp") {
    read_tcp(section, folder, sink);
  } else if (type == "spillway") {
    read_spillway(section, folder, stream_name, sink);
  } else {
    section.unknown_value("type", type, kTypes);
    return;
  }
  std::string format = "raw";
  if (section.text("format", format) && format != "raw") {
    if (format == "json" || format == "protobuf-json") {
      section.error("format", "\"" + format + "\" is not built in this version (one of raw)");
    } else {
      section.unknown_value("format", format, {"raw", "json", "protobuf-json"});
    }
  }
  for (const auto* filter : {"types", "keys"}) {
    if (!section.has(filter)) continue;
    section.allow(filter);
    section.error(filter, "filters are not built in this version");
  }
  read_limits(section, sink);
  section.choice<OnReject>("on_reject", sink.on_reject,
                           {{"park", OnReject::park}, {"dead_letter", OnReject::dead_letter}});
  section.duration("ack_timeout", sink.ack_timeout, 10ms, 24h);
  section.bytes("dead_letter_bytes", sink.dead_letter_bytes, 0, Section::kMaxBytes);
  read_start_at(section, sink);
  read_reconnect(section, sink.reconnect);
  read_replay(section, sink.replay);
  section.finish(keys_of_other_types(type));
}

}  // namespace spillway::config
