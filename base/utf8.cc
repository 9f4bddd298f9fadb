#include "base/utf8.h"

#include <cstddef>

namespace spillway {

namespace {

std::size_t following_bytes(unsigned char lead) {
  if (lead < 0x80) return 0;
  if (lead >= 0xc2 && lead < 0xe0) return 1;
  if (lead >= 0xe0 && lead < 0xf0) return 2;
  if (lead >= 0xf0 && lead < 0xf5) return 3;
  return std::string_view::npos;
}

}  // namespace

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

std::string printable(std::string_view text) {
  constexpr std::size_t kLongest = 4;
  constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  while (!text.empty()) {
    std::size_t length = 1;
    while (length <= kLongest && !is_utf8(text.substr(0, length))) ++length;
    const auto first = static_cast<unsigned char>(text.front());
    if (length > kLongest || first < 0x20 || first == 0x7f) {
      out += "\\x";
      out += kHex[first >> 4];
      out += kHex[first & 15];
      length = 1;
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  return out;
}

}  // namespace spillway
