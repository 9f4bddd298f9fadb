#include <algorithm>
#include <string_view>

#include "base/invariant.h"
#include "broker/sinks/count_reader.h"
#include "tests/fuzz/targets.h"

namespace spillway::fuzz {

namespace {

struct Outcome {
  std::uint64_t taken = 0;
  bool failed = false;
  bool operator==(const Outcome&) const = default;
};

Outcome read(std::string_view text, std::size_t step, std::uint64_t added) {
  broker::CountReader reader;
  Outcome outcome;
  while (!text.empty() && !outcome.failed) {
    const auto newest = reader.read(text.substr(0, step), outcome.taken, added);
    outcome.failed = newest.has_error();
    if (!outcome.failed && *newest) {
      INVARIANT(**newest >= outcome.taken && **newest <= added);
      outcome.taken = **newest;
    }
    text.remove_prefix(std::min(step, text.size()));
  }
  return outcome;
}

}  // namespace

// The first byte says how the rest comes in and how many records were sent.
void count(Bytes input) {
  if (input.empty()) return;
  const std::string_view text(reinterpret_cast<const char*>(input.data()) + 1, input.size() - 1);
  const std::uint64_t added = std::uint64_t{1} << (input[0] % 64);
  const Outcome bytewise = read(text, 1, added);
  const Outcome pieces = read(text, 1 + input[0] % 7, added);
  INVARIANT(pieces.failed == bytewise.failed);
  // What came before an error in the same piece does not count.
  INVARIANT(bytewise.failed ? pieces.taken <= bytewise.taken : pieces == bytewise);
}

}  // namespace spillway::fuzz
