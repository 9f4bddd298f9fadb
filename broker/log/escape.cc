#include "broker/log/escape.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace spillway::log {
namespace {

constexpr char kHex[] = "0123456789abcdef";

bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("._-/:+@%,~").find(c) != std::string_view::npos;
}

std::uint8_t byte_at(std::string_view text, std::size_t i) {
  return static_cast<std::uint8_t>(text[i]);
}

// The length of the UTF-8 sequence at the start of `text`, 0 if there is none. Overlong forms and
// surrogates are none; so are the C1 controls, which some terminals act upon.
std::size_t utf8_length(std::string_view text) {
  const std::uint8_t first = byte_at(text, 0);
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  std::uint32_t point = first & (0xffu >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte_at(text, i) & 0xc0) != 0x80) return 0;
    point = (point << 6) | (byte_at(text, i) & 0x3fu);
  }
  const std::uint32_t least = length == 2 ? 0xa0 : length == 3 ? 0x800 : 0x10000;
  if (point < least || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) return 0;
  return length;
}

}  // namespace

void append_text(std::string& out, std::string_view value) {
  if (!value.empty() && std::all_of(value.begin(), value.end(), is_plain)) {
    out += value;
    return;
  }
  out += '"';
  while (!value.empty()) {
    const char c = value.front();
    std::size_t length = utf8_length(value);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (length == 0 || byte_at(value, 0) < 0x20 || c == '\x7f') {
      out += "\\x";
      out += kHex[byte_at(value, 0) >> 4];
      out += kHex[byte_at(value, 0) & 15];
      length = 1;
    } else {
      out += value.substr(0, length);
    }
    value.remove_prefix(length);
  }
  out += '"';
}

void append_json(std::string& out, std::string_view value) {
  out += '"';
  while (!value.empty()) {
    const char c = value.front();
    const std::size_t length = utf8_length(value);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (length == 0) {
      out += "\\ufffd";
    } else if (byte_at(value, 0) < 0x20 || c == '\x7f') {
      out += "\\u00";
      out += kHex[byte_at(value, 0) >> 4];
      out += kHex[byte_at(value, 0) & 15];
    } else {
      out += value.substr(0, length);
    }
    value.remove_prefix(length == 0 ? 1 : length);
  }
  out += '"';
}

}  // namespace spillway::log
