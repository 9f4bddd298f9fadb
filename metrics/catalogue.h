// The one list of what is exposed. metrics/README.md is the same list for people; a test compares
// them.
#pragma once

#include <span>
#include <string_view>

namespace spillway::metrics {

enum class Type { counter, gauge, histogram };
std::string_view name_of(Type type);

struct Definition {
  std::string_view name;
  Type type;
  std::string_view labels;  // "stream, sink"; one in brackets is left out by some series
  std::string_view help;
  std::span<const double> buckets = {};  // upper bounds, for a histogram
};

std::span<const Definition> catalogue();

// The definition of `name`, which must be in the catalogue.
const Definition& definition_of(std::string_view name);

}  // namespace spillway::metrics
