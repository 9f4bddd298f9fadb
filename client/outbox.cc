#include "client/outbox.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/invariant.h"

namespace spillway::client {
namespace {

// Chunks kept for the next records instead of being given back.
constexpr std::size_t kSpareChunks = 8;

bool continues(const wire::RecordFields& fields) {
  return fields.group == wire::Group::continues || fields.group == wire::Group::ends ||
         fields.part.value_or(0) > 0;
}

}  // namespace

void Outbox::begin_at(Position first, std::optional<Position> previous) {
  if (!segments_.empty() && segments_.back().first > last_) segments_.pop_back();
  segments_.push_back({last_ + 1, first, previous});
}

void Outbox::make_room(std::size_t bytes) {
  if (!chunks_.empty() && chunks_.back().capacity - chunks_.back().used >= bytes) return;
  if (bytes <= kChunkBytes && !spare_.empty()) {
    chunks_.push_back(std::move(spare_.back()));
    spare_.pop_back();
  } else {
    Chunk& chunk = chunks_.emplace_back();
    chunk.capacity = std::max(bytes, kChunkBytes);
    chunk.bytes = std::make_unique_for_overwrite<std::byte[]>(chunk.capacity);
  }
  Chunk& chunk = chunks_.back();
  chunk.used = 0;
  chunk.entries.clear();
  chunk.first = last_ + 1;
  chunk.bytes_before = total_bytes_;
}

Position Outbox::append(const wire::RecordFields& fields) {
  INVARIANT(ready());
  const std::size_t bytes = wire::encoded_bytes(fields);
  INVARIANT(bytes <= std::numeric_limits<std::uint32_t>::max());
  make_room(bytes);
  Chunk& chunk = chunks_.back();
  const Segment& segment = segments_.back();
  Position position = segment.position;
  position.sequence += last_ + 1 - segment.first;
  wire::encode_record(fields, position, chunk.bytes.get() + chunk.used);
  chunk.used += bytes;
  chunk.entries.push_back({static_cast<std::uint32_t>(chunk.used), continues(fields)});
  total_bytes_ += bytes;
  ++last_;
  return position;
}

const Outbox::Segment& Outbox::segment_of(Index index) const {
  auto it = std::ranges::upper_bound(segments_, index, {}, &Segment::first);
  INVARIANT(it != segments_.begin());
  return *std::prev(it);
}

const Outbox::Chunk* Outbox::chunk_of(Index index) const {
  auto it = std::ranges::upper_bound(chunks_, index, {}, &Chunk::first);
  return it == chunks_.begin() ? nullptr : &*std::prev(it);
}

std::uint64_t Outbox::bytes_through(Index index) const {
  if (index == last_) return total_bytes_;
  if (index == acknowledged_) return acknowledged_bytes_;
  INVARIANT(index > acknowledged_);
  const Chunk* chunk = chunk_of(index);
  INVARIANT(chunk != nullptr);
  return chunk->bytes_before + chunk->entries[index - chunk->first].end;
}

Position Outbox::next_position() const {
  const Segment& segment = segments_.back();
  return {segment.position.epoch, segment.position.sequence + (last_ + 1 - segment.first)};
}

Position Outbox::position_of(Index index) const {
  const Segment& segment = segment_of(index);
  return {segment.position.epoch, segment.position.sequence + (index - segment.first)};
}

Index Outbox::index_of(Position position) const {
  for (const Renumbered& old : renumbered_) {
    if (old.from.epoch == position.epoch && position.sequence >= old.from.sequence) {
      return std::min(old.last, old.first + (position.sequence - old.from.sequence));
    }
  }
  auto it = std::ranges::upper_bound(segments_, position, {}, &Segment::position);
  if (it == segments_.begin()) return segments_.empty() ? 0 : segments_.front().first - 1;
  const Segment& segment = *std::prev(it);
  const Index end = it == segments_.end() ? last_ : it->first - 1;
  if (end < segment.first || position.epoch > segment.position.epoch) return end;
  const std::uint64_t distance = position.sequence - segment.position.sequence;
  return distance > end - segment.first ? end : segment.first + distance;
}

void Outbox::acknowledge(Index index) {
  INVARIANT(index <= last_);
  if (index <= acknowledged_) return;
  acknowledged_bytes_ = bytes_through(index);
  acknowledged_ = index;
  release();
}

void Outbox::unpin() {
  pinned_.reset();
  release();
}

void Outbox::release() {
  while (!chunks_.empty() && chunks_.front().last() <= acknowledged_) {
    if (pinned_ && chunks_.front().last() > *pinned_) return;
    // The chunk that is being filled starts again from its beginning.
    Chunk chunk = std::move(chunks_.front());
    chunks_.pop_front();
    if (chunk.capacity == kChunkBytes && spare_.size() < kSpareChunks) {
      spare_.push_back(std::move(chunk));
    }
  }
}

std::optional<RecordRun> Outbox::run_after(Index sent, std::uint64_t max_bytes, bool at_least_one,
                                     bool only_continuing) const {
  if (sent >= last_) return std::nullopt;
  INVARIANT(sent >= acknowledged_);
  const Chunk* chunk = chunk_of(sent + 1);
  INVARIANT(chunk != nullptr);
  const std::size_t skipped = sent + 1 - chunk->first;
  const std::size_t begin = skipped == 0 ? 0 : chunk->entries[skipped - 1].end;
  const Segment& segment = segment_of(sent + 1);
  const Segment* next = &segment == &segments_.back() ? nullptr : &segment + 1;
  RecordRun run;
  std::size_t end = begin;
  for (std::size_t i = skipped; i < chunk->entries.size(); ++i) {
    const Entry& entry = chunk->entries[i];
    if (only_continuing && !entry.continues) break;
    if (next != nullptr && chunk->first + i >= next->first) break;
    const bool must = at_least_one && run.count == 0;
    if (entry.end - begin > max_bytes && !must) break;
    end = entry.end;
    ++run.count;
  }
  if (run.count == 0) return std::nullopt;
  run.last = sent + run.count;
  run.first = position_of(sent + 1);
  if (sent + 1 == segment.first && segment.position.sequence == 1) run.previous = segment.previous;
  run.records = {chunk->bytes.get() + begin, end - begin};
  return run;
}

void Outbox::renumber_after(Index index, std::uint64_t epoch, std::optional<Position> previous) {
  INVARIANT(!pinned_);
  INVARIANT(index >= acknowledged_);
  if (index < last_) renumbered_.push_back({position_of(index + 1), index + 1, last_});
  while (!segments_.empty() && segments_.back().first > index) segments_.pop_back();
  segments_.push_back({index + 1, {epoch, 1}, previous});
  for (Chunk& chunk : chunks_) {
    if (chunk.last() <= index) continue;
    const std::size_t skipped = index < chunk.first ? 0 : index + 1 - chunk.first;
    const std::size_t begin = skipped == 0 ? 0 : chunk.entries[skipped - 1].end;
    wire::renumber_records({chunk.bytes.get() + begin, chunk.used - begin},
                           position_of(chunk.first + skipped));
  }
}

}  // namespace spillway::client
