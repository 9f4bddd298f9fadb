#include "broker/cli/record_text.h"

#include <boost/json.hpp>
#include <cstdint>

#include "base/utf8.h"

namespace spillway::cli {
namespace {

namespace json = boost::json;

std::string_view name_of(wire::Group group) {
  switch (group) {
    case wire::Group::none: return "none";
    case wire::Group::begins: return "begins";
    case wire::Group::continues: return "continues";
    case wire::Group::ends: return "ends";
  }
  return "unknown";
}

}  // namespace

std::string base64(std::string_view bytes) {
  static constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      group = group << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      out += i + k <= bytes.size() ? kDigits[group >> (18 - 6 * k) & 63] : '=';
    }
  }
  return out;
}

void add_bytes(json::object& object, std::string_view key, std::string_view bytes) {
  if (is_utf8(bytes)) {
    object[key] = bytes;
  } else {
    object[std::string(key) + "_base64"] = base64(bytes);
  }
}

json::object record_json(const wire::RecordView& record) {
  json::object out{{"position", to_string(record.position)}};
  if (!record.key.empty()) add_bytes(out, "key", as_text(record.key));
  if (!record.type.empty()) add_bytes(out, "type", record.type);
  if (record.timestamp_ms) out["timestamp_ms"] = *record.timestamp_ms;
  if (!record.headers_bytes.empty()) {
    json::array headers;
    for (const auto& header : record.headers()) {
      json::object pair;
      add_bytes(pair, "key", header.key);
      add_bytes(pair, "value", as_text(header.value));
      headers.push_back(std::move(pair));
    }
    out["headers"] = std::move(headers);
  }
  if (record.group != wire::Group::none) out["group"] = name_of(record.group);
  if (record.part) {
    out["part"] = *record.part;
    out["last_part"] = record.last_part;
  }
  if (!record.mark.empty()) add_bytes(out, "mark", as_text(record.mark));
  add_bytes(out, "payload", as_text(record.payload));
  return out;
}

}  // namespace spillway::cli
