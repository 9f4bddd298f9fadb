// AckMap: turns what a receiver counts (records, or bytes) into offsets.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "base/position.h"

namespace spillway::broker {

// What was sent on one connection, in order, as runs of units. Memory: one entry per change of
// kind, so plain records cost nothing each. Not thread-safe.
class AckMap {
 public:
  // The record at `offset`: one unit.
  void add(Offset offset);
  // Everything after the last offset added, through `last`: taken once all of `units` are. A skip
  // has 0.
  void add_group(std::uint64_t units, Offset last);

  std::uint64_t added() const { return added_; }  // units so far
  std::uint64_t taken() const { return taken_; }
  bool all_taken() const { return runs_.empty(); }

  // The receiver has taken this many units altogether. Returns the offset through which everything
  // is taken, if that has moved. Requires taken() <= units <= added().
  std::optional<Offset> take(std::uint64_t units);

 private:
  struct Run {
    std::uint64_t units;
    Offset last;
    bool single;  // each unit is one offset, the last one being `last`
  };
  std::deque<Run> runs_;
  std::uint64_t added_ = 0;
  std::uint64_t taken_ = 0;
};

}  // namespace spillway::broker
