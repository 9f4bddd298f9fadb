// The nearest valid word to one that is not, for error messages.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace spillway::config {

// Insertions, deletions, substitutions and swaps of neighbours that turn one into the other.
std::size_t edit_distance(std::string_view a, std::string_view b);
// The closest of `words`, or "" if none is close enough to be meant.
std::string nearest(std::string_view word, const std::vector<std::string>& words);

}  // namespace spillway::config
