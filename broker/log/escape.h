// Escaping of values that may be anything, for one line of text or of JSON.
#pragma once

#include <string>
#include <string_view>

namespace spillway::log {

// Appends `value` as it is if it is a plain word, else in double quotes with \" \\ \n \r \t and,
// for other control characters and bytes that are not UTF-8, \xNN.
void append_text(std::string& out, std::string_view value);

// Appends `value` as a JSON string in quotes. Bytes that are not UTF-8 become U+FFFD.
void append_json(std::string& out, std::string_view value);

}  // namespace spillway::log
