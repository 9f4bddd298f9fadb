// CountReader: what a receiver acknowledges with acknowledge = "count": how many records it has
// taken on this connection so far, as decimal text and a newline, whenever it likes.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/result.h"

namespace spillway::broker {

// Not thread-safe. Of one connection; an error is final.
class CountReader {
 public:
  // What came next. The newest count in it; nothing when no number has ended yet. An error for
  // anything but numbers that never fall, from `taken` to `added`.
  Result<std::optional<std::uint64_t>> read(std::string_view text, std::uint64_t taken,
                                            std::uint64_t added);

 private:
  std::uint64_t count_ = 0;  // the number being read
  int digits_ = 0;
};

}  // namespace spillway::broker
