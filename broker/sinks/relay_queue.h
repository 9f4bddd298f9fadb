// RelayQueue: which bytes a relay sends next, and which offsets a receiver's word covers.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "base/block.h"
#include "base/position.h"

namespace spillway::broker {

// Sans-IO half of a SpillwayConnection, from its Welcome on. Records through `held` are not sent,
// because the receiver has them; they are followed until they are safe like all others. Not
// thread-safe.
class RelayQueue {
 public:
  struct Limits {
    std::uint64_t frame_bytes = 0;      // for the records of one frame
    std::uint64_t in_flight_bytes = 0;  // sent and not safe; one piece alone may exceed it
  };
  // One frame: the block's records behind a header that names `previous`.
  struct Piece {
    BlockPtr block;
    std::optional<Position> previous;  // set with the first record of an epoch that follows another
  };

  RelayQueue() = default;
  RelayQueue(Position held, Position safe, Limits limits);

  void push(const std::vector<BlockPtr>& blocks);
  // The next frame; nothing if there is none or it has to wait for an acknowledgement.
  std::optional<Piece> next();
  // Set when next() met a record that fits no frame: it will not go on.
  const std::optional<Position>& too_large() const { return too_large_; }

  // The receiver's `safe`. Returns what is wrong with it, if anything.
  std::optional<std::string> take_safe(Position safe);
  // The offset through which everything is safe, if that has moved since the last call.
  std::optional<Offset> settle();
  // Of a record that is on its way.
  std::optional<Offset> offset_of(Position position) const;

 private:
  struct Run {
    Position first;
    std::uint64_t count;
    Offset offset;
    std::uint64_t bytes;

    Position last() const { return {first.epoch, first.sequence + count - 1}; }
  };

  BlockPtr take_piece(Offset last);
  std::optional<Position> previous_of(const Block& block) const;

  Position held_;
  Position safe_;
  Limits limits_;
  std::deque<BlockPtr> queue_;
  std::deque<Run> runs_;         // sent, or held, and not safe
  std::uint64_t in_flight_ = 0;  // bytes of runs_
  std::optional<Position> last_sent_;
  std::optional<Position> too_large_;
  std::optional<Offset> partly_;  // reported inside runs_.front()
};

}  // namespace spillway::broker
