#include "journal/block_reader.h"

#include <algorithm>
#include <memory>

#include "journal/format.h"
#include "journal/next_readable.h"

namespace spillway::journal {

namespace {

using Iterator = std::unique_ptr<rocksdb::Iterator>;

constexpr std::uint64_t kReadAheadFrom = std::uint64_t{64} << 10;
constexpr std::uint64_t kMostReadAhead = std::uint64_t{2} << 20;

rocksdb::Slice slice(const Key& key) { return {key.data(), key.size()}; }
Offset offset_at(const rocksdb::Iterator& it) { return offset_of(it.key().ToStringView()); }

rocksdb::ReadOptions point_options() {
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  return options;
}

// A seek that ends on a block at or after `offset`, or nothing; `readable` is false when it met
// damage.
std::optional<Offset> seek(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family, Offset offset,
                           bool& readable) {
  const Iterator it(db.NewIterator(point_options(), family));
  const Key key = key_of(offset);
  it->Seek(slice(key));
  readable = it->status().ok();
  if (!it->Valid()) return std::nullopt;
  return offset_at(*it);
}

// The first key after `bad` that can be read. Nothing up to `end` inclusive: end + 1.
Offset next_key(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family, Offset bad, Offset end) {
  bool readable = false;
  const Offset at = next_readable(bad, end, [&](Offset offset) {
    seek(db, family, offset, readable);
    return readable;
  });
  if (at > end) return end + 1;
  const std::optional<Offset> found = seek(db, family, at, readable);
  return found && *found <= end ? *found : end + 1;
}

// Whether the block that `it` is on reaches `from`. A header that cannot be read says nothing of
// its end: the caller looks at it.
bool reaches(rocksdb::Iterator& it, Offset from) {
  const auto block = decode_header(offset_at(it), it.value().ToStringView());
  return !block || block->last() >= from;
}

// The key of the block that contains `from`, found from before it: going backwards reads one block
// more, and that may be damaged.
std::optional<Offset> find_from_before(rocksdb::Iterator& it, Offset from) {
  for (Offset step = 1; step < from && step <= kStepsOfOne; step *= 2) {
    const Key key = key_of(from - step);
    it.Seek(slice(key));
    if (!it.Valid() || offset_at(it) >= from) continue;
    std::optional<Offset> found;
    for (; it.Valid() && offset_at(it) < from; it.Next()) {
      if (reaches(it, from)) found = offset_at(it);
    }
    return found;
  }
  return std::nullopt;
}

// Moves to the block that contains `from`, or else to the first one after it.
void seek_containing(rocksdb::Iterator& it, Offset from) {
  const Key key = key_of(from);
  it.Seek(slice(key));
  // Most reads begin where a block does. Seeking backwards also reads the block before, and would
  // give up this one for damage in that.
  if (it.Valid() && offset_at(it) == from) return;
  it.SeekForPrev(slice(key));
  if (it.status().ok()) {
    if (it.Valid() && reaches(it, from)) return;
  } else if (const auto found = find_from_before(it, from)) {
    const Key before = key_of(*found);
    it.Seek(slice(before));
    return;
  }
  it.Seek(slice(key));
}

}  // namespace

bool is_damage(const rocksdb::DB& db, const rocksdb::Status& status) {
  return status.IsCorruption() ||
         (status.IsPathNotFound() && db.GetEnv()->FileExists(db.GetName()).ok());
}

ReadResult read_blocks(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family, Offset from,
                       Offset through, std::uint64_t max_bytes, Offset end) {
  ReadResult result;
  through = std::min(through, end);
  if (from > through) {
    result.ok = true;
    return result;
  }
  const Key upper_key = key_of(through + 1);
  const rocksdb::Slice upper = slice(upper_key);
  rocksdb::ReadOptions options = point_options();
  options.iterate_upper_bound = &upper;
  // One read of the file for all that is asked for: what this finds beyond it is read again.
  if (max_bytes >= kReadAheadFrom) {
    options.readahead_size = std::min(max_bytes, kMostReadAhead) * 9 / 8;
  }
  const Iterator it(db.NewIterator(options, family));
  seek_containing(*it, from);

  Offset expected = from;
  std::uint64_t bytes = 0;
  while (expected <= through && (result.blocks.empty() || bytes < max_bytes)) {
    if (!it->Valid()) {
      if (it->status().ok()) {
        result.lost = {expected, through};
      } else if (is_damage(db, it->status())) {
        result.lost = {expected, next_key(db, family, expected, end) - 1};
        result.error = it->status().ToString();
      } else {
        result.retryable = true;
        result.error = it->status().ToString();
        return result;
      }
      break;
    }
    const Offset first = offset_at(*it);
    if (first > expected) {
      result.lost = {expected, first - 1};
      break;
    }
    BlockPtr block = decode_block(first, it->value().ToStringView());
    const bool follows = result.blocks.empty() ? block && block->last() >= from : first == expected;
    if (!block || !follows) {
      // Its length cannot be believed; the next key can.
      bool readable = false;
      const std::optional<Offset> next = seek(db, family, std::max(first, expected) + 1, readable);
      result.lost = {expected, readable ? (next ? *next : end + 1) - 1
                                        : next_key(db, family, expected, end) - 1};
      break;
    }
    expected = block->last() + 1;
    bytes += block->bytes();
    result.blocks.push_back(std::move(block));
    if (bytes < max_bytes) it->Next();  // not beyond: that would read as much again
  }
  result.ok = true;
  return result;
}

namespace {

// The first block for which `reached` holds, given that it holds for all blocks after one for which
// it does: by halving the range of offsets. Leaves `it` on it, or invalid.
template <class Reached>
void seek_first(rocksdb::Iterator& it, Offset low, Offset high, rocksdb::Status& status,
                const Reached& reached) {
  while (low < high) {
    const Offset middle = low + (high - low) / 2;
    seek_containing(it, middle);
    if (!it.Valid()) {
      if (status.ok()) status = it.status();
      high = middle;
      continue;
    }
    const auto block = decode_header(offset_at(it), it.value().ToStringView());
    if (block && !reached(*block)) {
      low = std::max(middle, block->last()) + 1;
    } else if (offset_at(it) > middle) {
      high = middle;  // nothing lies between
    } else {
      high = offset_at(it);
    }
  }
  seek_containing(it, low);
}

// The running byte count before the block at `it`.
std::uint64_t running_before(const rocksdb::Iterator& it) {
  const auto block = decode_header(offset_at(it), it.value().ToStringView());
  return block ? block->running_bytes - (it.value().size() - kHeaderBytes) : 0;
}

// As locate_cut(); `status` is the first thing that could not be read.
std::optional<Location> find_cut(const Iterator& it, Offset watermark, Offset end,
                                 Offset offset_min, std::uint64_t bytes_min,
                                 std::int64_t received_min_ms, rocksdb::Status& status) {
  const Offset low = watermark + 1;
  Offset least = std::max(offset_min, watermark);
  seek_first(*it, low, end + 1, status,
             [&](const Block& block) { return block.running_bytes >= bytes_min; });
  if (!it->Valid()) {
    least = std::max(least, end);
  } else if (offset_at(*it) > low || running_before(*it) < bytes_min) {
    least = std::max(least, offset_at(*it));
  }
  // The cut lies before the first block that is young enough.
  seek_first(*it, low, end + 1, status,
             [&](const Block& block) { return block.received_ms >= received_min_ms; });
  least = std::max(least, it->Valid() ? offset_at(*it) - 1 : end);

  if (least == watermark) {
    // Nothing has to go: the cut is where the stream already begins, unless that is inside a block.
    seek_containing(*it, low);
    const auto block =
        it->Valid() ? decode_header(offset_at(*it), it->value().ToStringView()) : std::nullopt;
    if (!block) return std::nullopt;
    if (block->first == low) {
      return Location{watermark, running_before(*it), block->received_ms};
    }
    least = low;
  }
  std::optional<Block> before;  // ends inside a group, unless what follows begins another
  for (seek_containing(*it, least); it->Valid(); it->Next()) {
    const auto block = decode_header(offset_at(*it), it->value().ToStringView());
    if (before && block && block->starts_clean) {  // a producer left its group unfinished
      return Location{before->last(), before->running_bytes, block->received_ms};
    }
    before.reset();
    if (!block || block->last() < least) continue;
    if (!block->ends_clean) {
      before = block;
      continue;
    }
    Location location{block->last(), block->running_bytes, 0};
    it->Next();
    if (it->Valid()) {
      const auto next = decode_header(offset_at(*it), it->value().ToStringView());
      if (next) location.received_ms = next->received_ms;
    }
    return location;
  }
  if (status.ok()) status = it->status();
  return std::nullopt;
}

}  // namespace

Result<std::optional<Location>> locate_cut(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family,
                                           Offset watermark, Offset end, Offset offset_min,
                                           std::uint64_t bytes_min, std::int64_t received_min_ms) {
  const Iterator it(db.NewIterator(point_options(), family));
  rocksdb::Status status;
  const auto location =
      find_cut(it, watermark, end, offset_min, bytes_min, received_min_ms, status);
  if (status.ok() || is_damage(db, status)) return location;
  return Error{"the journal cannot be read: " + status.ToString()};
}

Offset first_key_needed(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family, Offset offset) {
  const Iterator it(db.NewIterator(point_options(), family));
  const Key key = key_of(offset);
  it->SeekForPrev(slice(key));
  if (!it->Valid()) return offset;
  const auto block = decode_header(offset_at(*it), it->value().ToStringView());
  return !block || block->last() >= offset ? offset_at(*it) : offset;
}

End last_end(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family,
             std::optional<std::string>& damage, rocksdb::Status& status) {
  const Iterator it(db.NewIterator(point_options(), family));
  it->SeekToLast();
  status = it->status();
  if (!it->Valid()) {
    if (!status.ok()) damage = "its last block cannot be read: " + status.ToString();
    return {};
  }
  const BlockPtr block = decode_block(offset_at(*it), it->value().ToStringView());
  if (block) return {block->last(), block->ends_clean};
  damage = "its last block, at offset " + std::to_string(offset_at(*it)) + ", is damaged";
  return {offset_at(*it), false};
}

}  // namespace spillway::journal
