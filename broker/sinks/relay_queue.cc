#include "broker/sinks/relay_queue.h"

#include <algorithm>
#include <utility>

#include "base/invariant.h"
#include "wire/batch.h"
#include "wire/record.h"

namespace spillway::broker {

namespace {

// How many records from the front are at most `bytes` together, but at least one.
std::uint64_t records_within(const Block& block, std::uint64_t bytes) {
  wire::RecordReader reader(block.records, block.position);
  std::uint64_t count = 0;
  for (wire::RecordView record; reader.next(record); ++count) {
    if (count > 0 && block.bytes() - reader.rest().size() > bytes) {
      break;
    }
  }
  INVARIANT(count > 0);
  return count;
}

}  // namespace

RelayQueue::RelayQueue(Position held, Position safe, Limits limits)
    : held_(held), safe_(safe), limits_(limits) {}

void RelayQueue::push(const std::vector<BlockPtr>& blocks) {
  queue_.insert(queue_.end(), blocks.begin(), blocks.end());
}

std::optional<RelayQueue::Piece> RelayQueue::next() {
  while (!queue_.empty() && queue_.front()->position <= held_) {
    const Block& block = *queue_.front();
    const bool all = block.last_position() <= held_;
    take_piece(all ? block.last() : block.first + (held_.sequence - block.position.sequence));
  }
  if (queue_.empty()) {
    return {};
  }
  const Block& block = *queue_.front();
  Offset last = block.last();
  std::uint64_t bytes = block.bytes();
  const std::uint64_t most = std::min(limits_.frame_bytes, limits_.in_flight_bytes);
  if (bytes > most) {
    const std::uint64_t count = records_within(block, most);
    last = block.first + count - 1;
    bytes = wire::slice(queue_.front(), block.first, last)->bytes();
    if (bytes > limits_.frame_bytes) {
      too_large_ = block.position;
      return {};
    }
  }
  if (in_flight_ > 0 && in_flight_ + bytes > limits_.in_flight_bytes) {
    return {};
  }
  Piece piece{take_piece(last), {}};
  piece.previous = previous_of(*piece.block);
  last_sent_ = piece.block->last_position();
  return piece;
}

// Moves the front of the queue, through `last`, to what is on its way.
BlockPtr RelayQueue::take_piece(Offset last) {
  const BlockPtr block = std::move(queue_.front());
  BlockPtr piece = wire::slice(block, block->first, last);
  if (last == block->last()) {
    queue_.pop_front();
  } else {
    queue_.front() = wire::slice(block, last + 1, block->last());
  }
  runs_.push_back({piece->position, piece->count, piece->first, piece->bytes()});
  in_flight_ += piece->bytes();
  return piece;
}

// The receiver is where it said it was, or at what it was sent last.
std::optional<Position> RelayQueue::previous_of(const Block& block) const {
  const Position previous = last_sent_.value_or(held_);
  if (block.position.sequence != 1 || previous.epoch == block.position.epoch ||
      previous == Position{}) {
    return {};
  }
  return previous;
}

std::optional<std::string> RelayQueue::take_safe(Position safe) {
  if (safe < safe_) {
    return "the acknowledgement went back from " + to_string(safe_) + " to " + to_string(safe);
  }
  if (safe > std::max(held_, last_sent_.value_or(Position{}))) {
    return "the receiver acknowledges " + to_string(safe) + ", which it was never sent";
  }
  safe_ = safe;
  return {};
}

std::optional<Offset> RelayQueue::settle() {
  std::optional<Offset> through;
  while (!runs_.empty() && runs_.front().first <= safe_) {
    const Run& run = runs_.front();
    if (run.last() > safe_) {
      const Offset inside = run.offset + (safe_.sequence - run.first.sequence);
      if (std::exchange(partly_, inside) != inside) {
        through = inside;
      }
      break;
    }
    through = run.offset + run.count - 1;
    in_flight_ -= run.bytes;
    partly_.reset();
    runs_.pop_front();
  }
  return through;
}

std::optional<Offset> RelayQueue::offset_of(Position position) const {
  for (const Run& run : runs_) {
    if (run.first <= position && position <= run.last()) {
      return run.offset + (position.sequence - run.first.sequence);
    }
  }
  return {};
}

}  // namespace spillway::broker
