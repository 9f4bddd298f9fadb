// What Protobuf and JSON take for the contents of a string.
#pragma once

#include <string>
#include <string_view>

namespace spillway {

// No overlong forms, no surrogates, nothing beyond U+10FFFF.
bool is_utf8(std::string_view text);

// `text` with control characters and bytes that are not UTF-8 as \xNN: what comes from a file that
// may be damaged, for a message.
std::string printable(std::string_view text);

}  // namespace spillway
