// Batches and blocks: reading, checking, cutting, joining and sending records without building
// messages.
//
// Everything here works on the bytes as they came. Nothing allocates per record.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/block.h"
#include "base/position.h"
#include "base/result.h"
#include "wire/record.h"
#include "wire/reject.h"

namespace spillway::wire {

// Length prefix, Frame tag and Batch header together are never longer than this.
inline constexpr std::size_t kMaxBatchHeaderBytes = 128;

// One Batch. `records` and the frame that it points into must outlive it.
struct BatchView {
  std::uint64_t epoch = 0;
  std::uint64_t first_sequence = 0;
  std::uint64_t count = 0;             // records, or records that a skip stands for; at least 1
  std::optional<Position> previous;    // the last position before this epoch
  std::optional<LossReason> skip;      // then there are no records
  std::span<const std::byte> records;  // `count` times {tag, varint length, Record}

  Position first() const { return {epoch, first_sequence}; }
  Position last() const { return {epoch, first_sequence + count - 1}; }
};

// The Batch message of a frame for which is_batch() is true.
Result<std::span<const std::byte>> batch_of(std::span<const std::byte> frame);

// The header only: fields once each, ascending, before the records. Every error is MALFORMED. A
// reason of skip that is not known is read as LossReason::upstream.
Result<BatchView> parse_batch(std::span<const std::byte> batch);

// What admission must know of a record.
struct RecordShape {
  std::uint32_t bytes = 0;     // tag, length and record
  bool continues = false;      // it continues a group, or it is a part that is not the first
  bool open = false;           // after it a group or a record in parts is unfinished
  bool inside_record = false;  // after it a record in parts is unfinished
};

// Follows records in parts from batch to batch: keep one per stream, and a copy when a scan may be
// undone. A new one does not know where it starts, and takes any part.
struct PartState {
  bool known = false;
  std::uint64_t next_part = 0;     // 0: no record in parts is unfinished
  std::uint64_t record_bytes = 0;  // of the parts so far
};

struct NewestMark {
  std::uint64_t index = 0;  // of its record in the batch
  std::span<const std::byte> mark;
};

// One pass over the records of a batch that is not a skip: structure, count, sizes, parts, and
// every CRC. `shapes` is cleared and filled; `mark` becomes the newest one, or nothing. Nothing is
// returned when all is well. `max_record_bytes` bounds a record, parts taken together.
std::optional<Refusal> scan_records(const BatchView& batch, std::uint64_t max_record_bytes,
                                    PartState& parts, std::vector<RecordShape>& shapes,
                                    std::optional<NewestMark>& mark);

// The records [index, index + count) of a scanned batch (or of a skip: then `shapes` is empty).
// Keeps `previous` only if index is 0.
BatchView sub_batch(const BatchView& batch, std::span<const RecordShape> shapes,
                    std::uint64_t index, std::uint64_t count);

// The records [first, last] of a block; shares its storage. The block itself if that is all of it.
// Requires first <= last, both in the block.
BlockPtr slice(const BlockPtr& block, Offset first, Offset last);

// Whether the last record of the block is a part that another one follows.
bool ends_inside_record(const Block& block);

// Everything of a Batch frame but the records: length prefix, frame tag and header. Written before
// block.records it is a whole frame. `previous`: set it for the first block of an epoch.
std::string batch_frame_header(const Block& block, std::optional<Position> previous);
// The same for records that are not in a block.
std::string batch_frame_header(Position first, std::uint64_t count, std::uint64_t record_bytes,
                               std::optional<LossReason> skip, std::optional<Position> previous);

}  // namespace spillway::wire
