#include "wire/batch.h"

#include <array>
#include <cstring>
#include <limits>

#include "base/invariant.h"
#include "wire/varint.h"

namespace spillway::wire {
namespace {

using Bytes = std::span<const std::byte>;

constexpr std::byte kBatchTag = tag_of(3, WireType::bytes);  // in Frame
constexpr std::byte kEpochTag = tag_of(1, WireType::varint);
constexpr std::byte kFirstTag = tag_of(2, WireType::varint);
constexpr std::byte kCountTag = tag_of(3, WireType::varint);
constexpr std::byte kPreviousTag = tag_of(4, WireType::bytes);
constexpr std::byte kSkipTag = tag_of(5, WireType::bytes);
static_assert(kRecordTag == tag_of(15, WireType::bytes));

// Takes {tag, varint} off the front; false, and `value` 0, if `tag` is not what comes next.
bool take_number(std::byte tag, Bytes& rest, std::uint64_t& value) {
  value = 0;
  if (rest.empty() || rest[0] != tag) return false;
  Bytes after = rest.subspan(1);
  if (!read_varint(after, value)) return false;
  rest = after;
  return true;
}

bool take_message(std::byte tag, Bytes& rest, Bytes& message) {
  if (rest.empty() || rest[0] != tag) return false;
  Bytes after = rest.subspan(1);
  if (!read_bytes(after, message)) return false;
  rest = after;
  return true;
}

// A message of up to two numbers, fields 1 and 2, as Position and Skip are.
bool read_pair(Bytes message, std::uint64_t& one, std::uint64_t& two) {
  take_number(tag_of(1, WireType::varint), message, one);
  take_number(tag_of(2, WireType::varint), message, two);
  return message.empty();
}

LossReason reason_of(std::uint64_t number) {
  return number >= 1 && number <= kLossReasons ? static_cast<LossReason>(number)
                                               : LossReason::upstream;
}

// What is wrong with this record as the next one, as far as parts go; nullptr: nothing.
const char* follow_parts(const RecordView& record, PartState& parts) {
  const std::uint64_t part = record.part.value_or(0);
  if (part > 0 && parts.known && part != parts.next_part) {
    return "a part that does not follow the one before it";
  }
  // A record in parts that is not finished is abandoned when another record begins.
  parts.record_bytes = (part > 0 ? parts.record_bytes : 0) + record.record.size();
  parts.next_part = record.completes() ? 0 : part + 1;
  parts.known = true;
  return nullptr;
}

}  // namespace

Result<Bytes> batch_of(Bytes frame) {
  Bytes batch;
  if (!take_message(kBatchTag, frame, batch)) return Error{"a batch that is longer than its frame"};
  if (!frame.empty()) return Error{"something after the batch in its frame"};
  return batch;
}

Result<BatchView> parse_batch(Bytes rest) {
  BatchView batch;
  if (!take_number(kEpochTag, rest, batch.epoch) || batch.epoch == 0) {
    return Error{"a batch that does not begin with its epoch"};
  }
  if (!take_number(kFirstTag, rest, batch.first_sequence) || batch.first_sequence == 0) {
    return Error{"a batch without first_sequence after epoch"};
  }
  if (!take_number(kCountTag, rest, batch.count) || batch.count == 0) {
    return Error{"a batch without count after first_sequence"};
  }
  if (batch.first_sequence > kMaxOffset || batch.count - 1 > kMaxOffset - batch.first_sequence) {
    return Error{"a batch whose sequences do not fit 63 bits"};
  }
  Bytes message;
  if (take_message(kPreviousTag, rest, message)) {
    Position previous;
    if (!read_pair(message, previous.epoch, previous.sequence)) {
      return Error{"a batch with a malformed previous"};
    }
    if (previous.epoch >= batch.epoch || batch.first_sequence != 1) {
      return Error{"previous in a batch that does not begin an epoch"};
    }
    batch.previous = previous;
  }
  if (take_message(kSkipTag, rest, message)) {
    std::uint64_t through = 0;
    std::uint64_t reason = 0;
    if (!read_pair(message, through, reason)) return Error{"a batch with a malformed skip"};
    if (through != batch.first_sequence + batch.count - 1) {
      return Error{"a skip that does not end where its count says"};
    }
    if (!rest.empty()) return Error{"a batch with records or other fields after skip"};
    batch.skip = reason_of(reason);
    return batch;
  }
  if (rest.empty()) return Error{"a batch with neither records nor skip"};
  if (rest[0] != kRecordTag) return Error{"a batch with fields unknown, repeated or out of order"};
  batch.records = rest;
  return batch;
}

std::optional<Refusal> scan_records(const BatchView& batch, std::uint64_t max_record_bytes,
                                    PartState& parts, std::vector<RecordShape>& shapes,
                                    std::optional<NewestMark>& mark) {
  shapes.clear();
  mark.reset();
  RecordReader reader(batch.records, batch.first());
  RecordView record;
  std::size_t left = batch.records.size();
  const auto refuse = [&](RejectCode code, const char* text) {
    return Refusal{code, text, Position{batch.epoch, batch.first_sequence + shapes.size()}};
  };
  while (reader.next(record)) {
    if (shapes.size() == batch.count) {
      return refuse(RejectCode::malformed, "more records in a batch than it counts");
    }
    if (!crc_matches(record)) {
      return refuse(RejectCode::corrupt, "a record that does not match its crc32c");
    }
    if (const char* wrong = follow_parts(record, parts)) {
      return refuse(RejectCode::malformed, wrong);
    }
    if (parts.record_bytes > max_record_bytes) {
      return refuse(RejectCode::too_large, "a record over max_record_bytes");
    }
    if (!record.mark.empty()) mark = NewestMark{shapes.size(), record.mark};
    const std::size_t bytes = left - reader.rest().size();
    left -= bytes;
    shapes.push_back({static_cast<std::uint32_t>(bytes), record.continues(), record.open(),
                      !record.completes()});
  }
  if (reader.error() != nullptr) return refuse(RejectCode::malformed, reader.error());
  if (shapes.size() != batch.count) {
    return refuse(RejectCode::malformed, "fewer records in a batch than it counts");
  }
  return std::nullopt;
}

BatchView sub_batch(const BatchView& batch, std::span<const RecordShape> shapes,
                    std::uint64_t index, std::uint64_t count) {
  INVARIANT(count > 0);
  INVARIANT(index < batch.count);
  INVARIANT(count <= batch.count - index);
  BatchView part = batch;
  part.first_sequence += index;
  part.count = count;
  if (index > 0) part.previous.reset();
  if (batch.skip) return part;
  INVARIANT(shapes.size() == batch.count);
  std::size_t before = 0;
  std::size_t size = 0;
  for (std::uint64_t i = 0; i < index; ++i) before += shapes[i].bytes;
  for (std::uint64_t i = index; i < index + count; ++i) size += shapes[i].bytes;
  part.records = batch.records.subspan(before, size);
  return part;
}

BlockPtr slice(const BlockPtr& block, Offset first, Offset last) {
  INVARIANT(first <= last);
  INVARIANT(first >= block->first);
  INVARIANT(last <= block->last());
  if (first == block->first && last == block->last()) return block;
  auto part = std::make_shared<Block>(*block);
  part->first = first;
  part->position.sequence += first - block->first;
  part->count = last - first + 1;
  if (block->skip) return part;
  RecordReader reader(block->records, block->position);
  RecordView record;
  Bytes begin = block->records;
  for (Offset offset = block->first; offset <= last; ++offset) {
    if (offset == first) begin = reader.rest();
    const bool read = reader.next(record);
    INVARIANT(read);
    if (offset == first) part->starts_clean = !record.continues();
  }
  part->ends_clean = !record.open();
  part->records = begin.first(begin.size() - reader.rest().size());
  part->running_bytes -= reader.rest().size();
  return part;
}

std::string batch_frame_header(Position first, std::uint64_t count, std::uint64_t record_bytes,
                               std::optional<LossReason> skip, std::optional<Position> previous) {
  std::array<std::byte, kMaxBatchHeaderBytes> header;
  std::byte* out = header.data();
  const auto number = [&out](std::byte tag, std::uint64_t value) {
    *out++ = tag;
    out = write_varint(value, out);
  };
  const auto pair = [&](std::byte tag, std::uint64_t one, std::uint64_t two) {
    *out++ = tag;
    *out++ = static_cast<std::byte>(2 + varint_bytes(one) + varint_bytes(two));
    number(tag_of(1, WireType::varint), one);
    number(tag_of(2, WireType::varint), two);
  };
  number(kEpochTag, first.epoch);
  number(kFirstTag, first.sequence);
  number(kCountTag, count);
  if (previous) pair(kPreviousTag, previous->epoch, previous->sequence);
  if (skip) pair(kSkipTag, first.sequence + count - 1, static_cast<std::uint64_t>(*skip));
  const auto header_bytes = static_cast<std::size_t>(out - header.data());
  const std::uint64_t batch_bytes = header_bytes + record_bytes;
  const std::uint64_t frame_bytes = 1 + varint_bytes(batch_bytes) + batch_bytes;
  INVARIANT(frame_bytes <= std::numeric_limits<std::uint32_t>::max());

  std::array<std::byte, 4 + 1 + kMaxVarintBytes> prefix;
  std::byte* p = prefix.data();
  for (int i = 0; i < 4; ++i) *p++ = static_cast<std::byte>(frame_bytes >> (8 * i));
  *p++ = kBatchTag;
  p = write_varint(batch_bytes, p);
  std::string result;
  result.reserve(kMaxBatchHeaderBytes);
  result.append(reinterpret_cast<const char*>(prefix.data()),
                static_cast<std::size_t>(p - prefix.data()));
  result.append(reinterpret_cast<const char*>(header.data()), header_bytes);
  return result;
}

bool ends_inside_record(const Block& block) {
  if (block.ends_clean || block.skip) return false;
  RecordReader reader(block.records, block.position);
  bool inside = false;
  for (RecordView record; reader.next(record);) inside = !record.completes();
  return inside;
}

std::string batch_frame_header(const Block& block, std::optional<Position> previous) {
  return batch_frame_header(block.position, block.count, block.records.size(), block.skip,
                            previous);
}

}  // namespace spillway::wire
