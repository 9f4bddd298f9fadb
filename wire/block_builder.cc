// Blocks made from batches.
#include <algorithm>

#include "base/invariant.h"
#include "wire/batch.h"

namespace spillway::wire {

BlockPtr make_block(Offset first, const BatchView& batch, std::span<const RecordShape> shapes,
                    std::int64_t received_ms, std::uint64_t running_bytes_before) {
  auto block = std::make_shared<Block>();
  block->first = first;
  block->position = batch.first();
  block->count = batch.count;
  block->skip = batch.skip;
  block->received_ms = received_ms;
  block->running_bytes = running_bytes_before + batch.records.size();
  if (batch.skip) return block;
  INVARIANT(shapes.size() == batch.count);
  block->starts_clean = !shapes.front().continues;
  block->ends_clean = !shapes.back().open;
  auto storage = std::make_shared_for_overwrite<std::byte[]>(batch.records.size());
  std::copy(batch.records.begin(), batch.records.end(), storage.get());
  block->records = {storage.get(), batch.records.size()};
  block->storage = std::move(storage);
  return block;
}

bool BlockBuilder::fits(const BatchView& batch) const {
  if (empty()) return true;
  return !skip_ && !batch.skip && batch.epoch == position_.epoch &&
         batch.first_sequence == position_.sequence + count_ &&
         buffer_.size() + batch.records.size() <= kBlockTargetBytes;
}

void BlockBuilder::append(const BatchView& batch, std::span<const RecordShape> shapes,
                          std::int64_t received_ms) {
  INVARIANT(fits(batch));
  INVARIANT(batch.skip || shapes.size() == batch.count);
  if (empty()) {
    position_ = batch.first();
    received_ms_ = received_ms;
    skip_ = batch.skip;
    starts_clean_ = batch.skip || !shapes.front().continues;
  }
  buffer_.insert(buffer_.end(), batch.records.begin(), batch.records.end());
  ends_clean_ = batch.skip || !shapes.back().open;
  count_ += batch.count;
}

BlockPtr BlockBuilder::take(Offset first, std::uint64_t running_bytes_before) {
  INVARIANT(!empty());
  auto block = std::make_shared<Block>();
  block->first = first;
  block->position = position_;
  block->count = count_;
  block->skip = skip_;
  block->received_ms = received_ms_;
  block->running_bytes = running_bytes_before + buffer_.size();
  block->starts_clean = starts_clean_;
  block->ends_clean = ends_clean_;
  if (!skip_) {
    auto storage = std::make_shared_for_overwrite<std::byte[]>(buffer_.size());
    std::copy(buffer_.begin(), buffer_.end(), storage.get());
    block->records = {storage.get(), buffer_.size()};
    block->storage = std::move(storage);
  }
  buffer_.clear();
  // One large batch must not keep its memory here for ever.
  if (buffer_.capacity() > 2 * kBlockTargetBytes) buffer_ = {};
  count_ = 0;
  return block;
}

}  // namespace spillway::wire
