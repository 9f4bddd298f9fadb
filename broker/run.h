// Run: batches that came in together and follow one another, taken as one block.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/block.h"
#include "base/position.h"
#include "base/result.h"
#include "broker/window.h"
#include "recovery/event.h"
#include "wire/batch.h"

namespace spillway::broker {

// Small batches are joined up to this many bytes; a single batch may be larger.
inline constexpr std::uint64_t kRunBytes = std::uint64_t{64} << 10;

// Holds views into the reader's buffer: use it up before the next read. Not thread-safe.
class Run {
 public:
  bool empty() const { return views_.empty(); }
  // Whether a batch may join: it follows in the same epoch, neither is a skip, and it is not too
  // much.
  bool fits(const wire::BatchView& batch) const;
  // Requires fits(). `shapes` and `mark` as scan_records() filled them.
  void append(const wire::BatchView& batch, std::span<const wire::RecordShape> shapes,
              const std::optional<wire::NewestMark>& mark);
  void clear();

  Position first() const { return views_.front().first(); }
  std::uint64_t count() const { return count_; }
  std::uint64_t bytes() const { return bytes_; }
  // What the machine must know of it; points into this.
  recovery::event::BatchCame event(SessionId session) const;

  // The records [skip, skip + count) as a block of their own, copied once. `running_bytes` is that
  // through the last of them.
  BlockPtr block(std::uint64_t skip, std::uint64_t count, Offset first, Position position,
                 std::uint64_t running_bytes, std::int64_t received_ms) const;
  // The first record that differs from the one that `window` has under its offset. Of the records
  // at the offsets [first, last], where `first` is that of the run's first; what is no longer in
  // memory is taken on trust.
  std::optional<Position> fork_in(const Window& window, Offset first, Offset last) const;
  // The first record of [index, index + count) whose CRC is not that of the same record in `block`,
  // which holds `offset` as the record `index` of this run. Ends where the block ends.
  std::optional<Position> first_difference(std::uint64_t index, std::uint64_t count,
                                           const Block& block, Offset offset) const;

 private:
  std::vector<wire::BatchView> views_;
  std::vector<recovery::RecordInfo> infos_;
  std::uint64_t count_ = 0;
  std::uint64_t bytes_ = 0;
  std::optional<std::uint64_t> mark_index_;
  std::span<const std::byte> mark_;
};

}  // namespace spillway::broker
