// Blocks made from scanned batches, for tests.
#pragma once

#include <algorithm>
#include <memory>
#include <span>

#include "base/block.h"
#include "wire/batch.h"

namespace spillway::wire {

// With a copy of the records. `shapes` as scan_records() filled it for this batch.
// `running_bytes_before` is Block::running_bytes of the block before.
inline BlockPtr make_block(Offset first, const BatchView& batch,
                           std::span<const RecordShape> shapes, std::int64_t received_ms,
                           std::uint64_t running_bytes_before) {
  auto block = std::make_shared<Block>();
  block->first = first;
  block->position = batch.first();
  block->count = batch.count;
  block->received_ms = received_ms;
  block->running_bytes = running_bytes_before + batch.records.size();
  block->starts_clean = !shapes.front().continues;
  block->ends_clean = !shapes.back().open;
  auto storage = std::make_shared_for_overwrite<std::byte[]>(batch.records.size());
  std::ranges::copy(batch.records, storage.get());
  block->records = {storage.get(), batch.records.size()};
  block->storage = std::move(storage);
  return block;
}

}  // namespace spillway::wire
