// What Protobuf takes for the contents of a string.
#pragma once

#include <string_view>

namespace spillway {

// No overlong forms, no surrogates, nothing beyond U+10FFFF.
bool is_utf8(std::string_view text);

}  // namespace spillway
