#include "broker/run.h"

#include <algorithm>
#include <cstring>

#include "base/invariant.h"

namespace spillway::broker {

bool Run::fits(const wire::BatchView& batch) const {
  if (views_.empty()) return true;
  const wire::BatchView& last = views_.back();
  return !last.skip && !batch.skip && !batch.previous && batch.epoch == last.epoch &&
         batch.first_sequence == last.first_sequence + last.count &&
         bytes_ + batch.records.size() <= kRunBytes;
}

void Run::append(const wire::BatchView& batch, std::span<const wire::RecordShape> shapes,
                 const std::optional<wire::NewestMark>& mark) {
  INVARIANT(fits(batch));
  if (mark) {
    mark_index_ = count_ + mark->index;
    mark_ = mark->mark;
  }
  for (const wire::RecordShape& shape : shapes) {
    infos_.push_back({shape.bytes, shape.continues, shape.open, shape.inside_record});
  }
  views_.push_back(batch);
  count_ += batch.count;
  bytes_ += batch.records.size();
}

void Run::clear() {
  views_.clear();
  infos_.clear();
  count_ = bytes_ = 0;
  mark_index_.reset();
  mark_ = {};
}

recovery::event::BatchCame Run::event(SessionId session) const {
  recovery::event::BatchCame event;
  event.session = session;
  event.first = first();
  event.count = count_;
  event.bytes = bytes_;
  event.skip = views_.front().skip;
  event.previous = views_.front().previous;
  event.records = infos_;
  event.mark_index = mark_index_;
  event.mark = {reinterpret_cast<const char*>(mark_.data()), mark_.size()};
  return event;
}

BlockPtr Run::block(std::uint64_t skip, std::uint64_t count, Offset first, Position position,
                    std::uint64_t running_bytes, std::int64_t received_ms) const {
  INVARIANT(count > 0 && skip + count <= count_);
  auto block = std::make_shared<Block>();
  block->first = first;
  block->position = position;
  block->count = count;
  block->skip = views_.front().skip;
  block->received_ms = received_ms;
  block->running_bytes = running_bytes;
  if (block->skip) return block;
  std::uint64_t begin = 0;
  for (std::uint64_t i = 0; i < skip; ++i) begin += infos_[i].bytes;
  std::uint64_t size = bytes_ - begin;
  if (skip + count < count_) {
    size = 0;
    for (std::uint64_t i = skip; i < skip + count; ++i) size += infos_[i].bytes;
  }
  const auto storage = std::make_shared_for_overwrite<std::byte[]>(size);
  std::uint64_t skipped = 0;
  std::uint64_t copied = 0;
  for (const wire::BatchView& view : views_) {
    const std::uint64_t from = std::min<std::uint64_t>(begin - skipped, view.records.size());
    skipped += from;
    const std::uint64_t length = std::min<std::uint64_t>(view.records.size() - from, size - copied);
    if (length > 0) std::memcpy(storage.get() + copied, view.records.data() + from, length);
    copied += length;
  }
  INVARIANT(copied == size);
  block->starts_clean = !infos_[skip].continues;
  block->ends_clean = !infos_[skip + count - 1].open;
  block->records = {storage.get(), size};
  block->storage = storage;
  return block;
}

std::optional<Position> Run::fork_in(const Window& window, Offset first, Offset last) const {
  // One skip may stand for more records than anybody can count one by one.
  if (views_.front().skip || window.empty()) return std::nullopt;
  for (Offset next = std::max(first, window.first()); next <= last;) {
    const Block* const block = window.find(next);
    if (block == nullptr) return std::nullopt;
    const Offset end = std::min(last, block->last());
    if (auto fork = first_difference(next - first, end - next + 1, *block, next)) return fork;
    next = end + 1;
  }
  return std::nullopt;
}

std::optional<Position> Run::first_difference(std::uint64_t index, std::uint64_t count,
                                              const Block& block, Offset offset) const {
  if (views_.front().skip || block.skip) return std::nullopt;  // nothing to compare
  wire::RecordReader held(block.records, block.position);
  wire::RecordView ours;
  for (Offset at = block.first; at < offset; ++at) {
    if (!held.next(ours)) return std::nullopt;
  }
  std::uint64_t at = 0;
  wire::RecordView theirs;
  for (const wire::BatchView& view : views_) {
    wire::RecordReader records(view.records, view.first());
    while (records.next(theirs)) {
      if (at++ < index) continue;
      if (at > index + count || !held.next(ours)) return std::nullopt;
      if (theirs.crc32c != ours.crc32c) return theirs.position;
    }
  }
  return std::nullopt;
}

}  // namespace spillway::broker
