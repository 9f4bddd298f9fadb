// Block: a run of consecutive records exactly as they were framed on the wire; the unit of every
// queue, write, read and send.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/loss.h"
#include "base/position.h"

namespace spillway {

// Shared as BlockPtr and never changed after it is made, so any thread may read it.
// A block lies in one epoch. A skip block (`skip` set) has no bytes: it stands for `count` records
// that are missing by policy, and is delivered in order like any other.
struct Block {
  Offset first = 0;          // of the first record
  Position position;         // of the first record
  std::uint64_t count = 0;   // records, at least 1
  std::optional<LossReason> skip;
  std::int64_t received_ms = 0;     // wall clock at receipt, milliseconds since 1970
  std::uint64_t running_bytes = 0;  // record bytes of the stream through the end of this block
  bool starts_clean = true;  // the first record begins a group or stands alone
  bool ends_clean = true;    // no group and no multi-part record is unfinished after the last

  // `count` times {tag, varint length, Record}: field 15 of wire's Batch. Points into `storage`.
  std::span<const std::byte> records;
  std::shared_ptr<const std::byte[]> storage;

  Offset last() const { return first + count - 1; }
  Position last_position() const { return {position.epoch, position.sequence + count - 1}; }
  std::uint64_t bytes() const { return records.size(); }
};

using BlockPtr = std::shared_ptr<const Block>;

}  // namespace spillway
