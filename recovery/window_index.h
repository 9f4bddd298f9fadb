// WindowIndex: sizes, times and boundaries of the blocks in a stream's window, without their bytes.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "base/position.h"
#include "recovery/time.h"

namespace spillway::recovery {

struct BlockInfo {
  Offset first = 0;
  Offset last = 0;
  std::uint64_t bytes = 0;
  std::uint64_t running_bytes = 0;  // through `last`
  Instant arrived{};
  WallMs received = 0;
  bool starts_clean = true;    // its first record continues no group and no record
  bool ends_clean = true;      // no group or record is unfinished after it
  bool inside_record = false;  // a multi-part record is unfinished after it

  // The running byte count through `offset`, interpolated inside the block.
  std::uint64_t running_at(Offset offset) const {
    if (offset >= last) return running_bytes;
    if (offset < first) return running_bytes - bytes;
    return running_bytes - bytes / (last - first + 1) * (last - offset);
  }
};

// Blocks follow one another without a gap. Not thread-safe.
class WindowIndex {
 public:
  bool empty() const { return blocks_.empty(); }
  // The first record in memory; one after `head` when there is none.
  Offset first() const { return blocks_.empty() ? next_ : blocks_.front().first; }
  std::uint64_t bytes() const { return bytes_; }
  const BlockInfo& front() const { return blocks_.front(); }
  const std::deque<BlockInfo>& blocks() const { return blocks_; }

  // Forgets everything: the next block begins at `next`.
  void clear(Offset next);
  void push(const BlockInfo& block);
  // No record will come that continues what the last block left unfinished.
  void end_group();
  void pop();
  // The block that holds `offset`; nullptr outside the window. Valid until the next change.
  const BlockInfo* find(Offset offset) const;

 private:
  std::deque<BlockInfo> blocks_;
  Offset next_ = 1;
  std::uint64_t bytes_ = 0;
};

}  // namespace spillway::recovery
