// Where positions lie in a stream's part of the journal, found without reading what is between.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/position.h"
#include "base/result.h"
#include "journal/inspect.h"

namespace spillway::cli {

// Not thread-safe. Positions ascend with offsets, so each search is a handful of reads.
class JournalRange {
 public:
  JournalRange(journal::Inspector& inspector, const journal::Recovered& stream)
      : inspector_(inspector), stream_(stream) {}

  // The first intact block that ends at or behind `offset`, or at or behind `position`; null: none.
  Result<BlockPtr> at(Offset offset);
  Result<BlockPtr> at(Position position);
  // What is held, an epoch each: "7/1 to 7/5, 9/1 to 9/1"; "" when there is nothing.
  Result<std::string> text();
  // Why `position` is not held, in a sentence that says what is; nothing: it is.
  Result<std::optional<std::string>> missing(Position position);

 private:
  journal::Inspector& inspector_;
  const journal::Recovered& stream_;
};

}  // namespace spillway::cli
