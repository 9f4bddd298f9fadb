#include "broker/cli/record_text.h"

#include <boost/json.hpp>
#include <cstdint>

namespace spillway::cli {
namespace {

namespace json = boost::json;

std::size_t following_bytes(unsigned char lead) {
  if (lead < 0x80) return 0;
  if (lead >= 0xc2 && lead < 0xe0) return 1;
  if (lead >= 0xe0 && lead < 0xf0) return 2;
  if (lead >= 0xf0 && lead < 0xf5) return 3;
  return std::string_view::npos;
}

// No overlong forms, no surrogates, nothing beyond U+10FFFF.
bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const auto more = following_bytes(lead);
    if (more == std::string_view::npos || text.size() - i <= more) return false;
    for (std::size_t k = 1; k <= more; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      unsigned char low = 0x80;
      unsigned char high = 0xbf;
      if (k == 1 && lead == 0xe0) low = 0xa0;
      if (k == 1 && lead == 0xed) high = 0x9f;
      if (k == 1 && lead == 0xf0) low = 0x90;
      if (k == 1 && lead == 0xf4) high = 0x8f;
      if (next < low || next > high) return false;
    }
    i += more;
  }
  return true;
}

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
