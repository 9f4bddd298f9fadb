// EpochTable: translates between positions and offsets. Not thread-safe; lives in the stream
// machine.
#pragma once

#include <optional>
#include <vector>

#include "base/position.h"
#include "recovery/durable_state.h"

namespace spillway::recovery {

inline constexpr std::size_t kMaxEpochs = 1024;  // the oldest ones are forgotten beyond it

class EpochTable {
 public:
  explicit EpochTable(std::vector<Epoch>& epochs) : epochs_(epochs) {}

  bool empty() const { return epochs_.empty(); }
  std::uint64_t current() const { return epochs_.empty() ? 0 : epochs_.back().number; }
  Offset current_base() const { return epochs_.empty() ? 0 : epochs_.back().base; }
  bool knows(std::uint64_t epoch) const;
  bool older_than_all(std::uint64_t epoch) const;

  // The record at `offset`; {epoch, 0} of the first epoch, or {0, 0}, before the first record.
  Position position_of(Offset offset) const;
  // The place after which the next record comes when `head` is the last one: {current, 0} when an
  // epoch has just begun there.
  Position place_of(Offset head) const;
  // Clamped to where its epoch ends. Nothing for an epoch that is not in the table.
  std::optional<Offset> offset_of(Position position) const;

  // Opens `number`, newer than the current one, after `head`.
  void open(std::uint64_t number, Offset head);
  // Forgets epochs that end at or before `watermark` once there are too many.
  void forget_before(Offset watermark);

 private:
  std::vector<Epoch>& epochs_;
};

}  // namespace spillway::recovery
