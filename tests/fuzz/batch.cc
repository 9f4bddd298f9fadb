#include "wire/batch.h"

#include <algorithm>
#include <memory>
#include <string>

#include "base/invariant.h"
#include "tests/fuzz/targets.h"
#include "tests/wire/make_block.h"
#include "wire/frame.h"

namespace spillway::fuzz {

namespace {

using wire::BatchView;

constexpr std::uint64_t kMaxRecord = 64 << 10;

// Every way to cut a block gives the records that were in it.
void cut(const BlockPtr& block) {
  const Offset middle = block->first + block->count / 2;
  const BlockPtr tail = wire::slice(block, middle, block->last());
  INVARIANT(tail->last() == block->last() && tail->count == block->last() - middle + 1);
  if (middle == block->first) return;
  const BlockPtr head = wire::slice(block, block->first, middle - 1);
  INVARIANT(head->bytes() + tail->bytes() == block->bytes());
  INVARIANT(head->running_bytes + tail->bytes() == tail->running_bytes);
}

void take(const BatchView& batch, const std::string& message) {
  wire::PartState parts;
  std::vector<wire::RecordShape> shapes;
  std::optional<wire::NewestMark> mark;
  if (wire::scan_records(batch, kMaxRecord, parts, shapes, mark)) return;
  INVARIANT(shapes.size() == batch.count);
  // Protobuf's own reader sees the same.
  v1::Batch other;
  INVARIANT(other.ParseFromString(message));
  INVARIANT(other.epoch() == batch.epoch && other.first_sequence() == batch.first_sequence);
  INVARIANT(static_cast<std::uint64_t>(other.records_size()) == batch.count);
  if (mark) {
    const std::string& text = other.records(static_cast<int>(mark->index)).mark();
    INVARIANT(std::ranges::equal(std::as_bytes(std::span(text)), mark->mark));
  }
  cut(wire::make_block(1, batch, shapes, 0, 0));
}

}  // namespace

void batch(Bytes input) {
  // A copy of its own, so that one byte too far is noticed; and to be changed.
  const auto copy = std::make_unique<std::byte[]>(input.size());
  const std::span<std::byte> bytes(copy.get(), input.size());
  std::ranges::copy(std::as_bytes(input), bytes.begin());
  const auto batch = wire::parse_batch(bytes);
  if (!batch) return;
  INVARIANT(batch->count > 0);
  if (batch->skip) {
    INVARIANT(batch->records.empty());
    return;
  }
  wire::RecordReader reader(batch->records, batch->first());
  std::uint64_t records = 0;
  for (wire::RecordView record; reader.next(record); ++records) (void)record.headers();
  if (reader.error() == nullptr) {
    // What no chance would ever find: checksums that match.
    const auto offset = static_cast<std::size_t>(batch->records.data() - bytes.data());
    wire::renumber_records(bytes.subspan(offset, batch->records.size()), batch->first());
  }
  take(*batch, std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

}  // namespace spillway::fuzz
