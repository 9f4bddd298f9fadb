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

// A seek that ends on a block at or after `offset`, or nothing.
std::optional<Offset> seek(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family, Offset offset,
                           rocksdb::Status& status) {
  const Iterator it(db.NewIterator(point_options(), family));
  const Key key = key_of(offset);
  it->Seek(slice(key));
  status = it->status();
  if (!it->Valid()) return std::nullopt;
  return offset_at(*it);
}

// The first key after `bad` that can be read. Nothing up to `end` inclusive: end + 1. It is worth
// nothing where `status` says that the device failed.
Offset next_key(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family, Offset bad, Offset end,
                rocksdb::Status& status) {
  const Offset at = next_readable(bad, end, [&](Offset offset) {
    if (!read_failed(db, status)) seek(db, family, offset, status);
    return !is_damage(db, status);
  });
  if (at > end || read_failed(db, status)) return end + 1;
  const std::optional<Offset> found = seek(db, family, at, status);
  return found && *found <= end ? *found : end + 1;
}

// Whether the block that `it` is on reaches `from`. A header that cannot be read says nothing of
// its end: the caller looks at it.
bool reaches(rocksdb::Iterator& it, Offset from) {
  const auto block = decode_header(offset_at(it), it.value().ToStringView());
  return !block || block->last() >= from;
}

// The last key before `from`, found by seeks to offsets before it alone: going backwards reads one
// block more, and that may be damaged.
std::optional<Offset> last_key_before(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family,
                                      Offset from, rocksdb::Status& status) {
  seek(db, family, from, status);
  const bool readable = status.ok();
  // Behind the key that is looked for, a seek ends as one to `from` does.
  const auto behind = [&](Offset offset) {
    if (read_failed(db, status)) return true;
    const std::optional<Offset> at = seek(db, family, offset, status);
    return at ? *at >= from : status.ok() == readable;
  };
  Offset low = 0;
  for (Offset step = 1; low == 0 && step < from; step *= 2) {
    if (!behind(from - step)) low = from - step;
  }
  for (Offset high = from; high - low > 1;) {
    const Offset middle = low + (high - low) / 2;
    (behind(middle) ? high : low) = middle;
  }
  if (read_failed(db, status)) return std::nullopt;
  const std::optional<Offset> found = seek(db, family, low, status);
  return found && *found < from ? found : std::nullopt;
}

// Moves to the block that contains `from`, or else to the first one after it. Where the device
// fails, and says so, nothing is known of either. `options` are those that `it` was made with: one
// that has met damage may meet it again wherever it is moved, and is made anew.
rocksdb::Status seek_containing(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family,
                                const rocksdb::ReadOptions& options, Iterator& it, Offset from) {
  const Key key = key_of(from);
  it->Seek(slice(key));
  // Most reads begin where a block does. Seeking backwards also reads the block before, and would
  // give up this one for damage in that.
  if (read_failed(db, it->status()) || (it->Valid() && offset_at(*it) == from)) return it->status();
  it->SeekForPrev(slice(key));
  rocksdb::Status status = it->status();
  if (status.ok() && it->Valid() && reaches(*it, from)) return status;
  if (is_damage(db, status)) {
    it.reset(db.NewIterator(options, family));
    if (const auto before = last_key_before(db, family, from, status)) {
      const Key key_before = key_of(*before);
      it->Seek(slice(key_before));
      status = it->status();
      if (status.ok() && it->Valid() && reaches(*it, from)) return status;
    }
  }
  if (read_failed(db, status)) return status;
  it->Seek(slice(key));
  return it->status();
}

}  // namespace

bool is_damage(const rocksdb::DB& db, const rocksdb::Status& status) {
  return status.IsCorruption() ||
         (status.IsPathNotFound() && db.GetEnv()->FileExists(db.GetName()).ok());
}

bool read_failed(const rocksdb::DB& db, const rocksdb::Status& status) {
  return !status.ok() && !is_damage(db, status);
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
  Iterator it(db.NewIterator(options, family));
  rocksdb::Status status = seek_containing(db, family, options, it, from);

  const auto device_failed = [&result](const rocksdb::Status& why) {
    result.retryable = true;
    result.lost.reset();
    result.error = why.ToString();
    return result;
  };
  if (read_failed(db, status)) return device_failed(status);
  Offset expected = from;
  std::uint64_t bytes = 0;
  while (expected <= through && (result.blocks.empty() || bytes < max_bytes)) {
    if (!it->Valid()) {
      if (read_failed(db, it->status())) return device_failed(it->status());
      result.lost = {expected, through};
      if (it->status().ok()) break;
      result.error = it->status().ToString();
      result.lost->second = next_key(db, family, expected, end, status) - 1;
      if (read_failed(db, status)) return device_failed(status);
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
      std::optional<Offset> next = seek(db, family, std::max(first, expected) + 1, status);
      if (is_damage(db, status)) next = next_key(db, family, expected, end, status);
      if (read_failed(db, status)) return device_failed(status);
      result.lost = {expected, next.value_or(end + 1) - 1};
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

// Goes from block to block, around those that are damaged.
class Walk {
 public:
  Walk(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family, Offset end)
      : db_(db), family_(family), end_(end) {}

  // To the block that contains `from`, or else to the first one after it that can be read.
  void go(Offset from) {
    if (!it_) it_.reset(db_.NewIterator(options_, family_));
    status_ = seek_containing(db_, family_, options_, it_, from);
    if (is_damage(db_, status_)) go_around(from);
    if (device_failed()) it_.reset();
  }

  // To the next one that can be read.
  void next() {
    const auto here = block();
    const Offset after = here ? here->last() + 1 : first() + 1;
    it_->Next();
    status_ = it_->status();
    if (is_damage(db_, status_)) go_around(after);
    if (device_failed()) it_.reset();
  }

  // To the first block for which `reached` holds, given that it holds for all blocks after one for
  // which it does: by halving the range of offsets.
  template <class Reached>
  void go_to_first(Offset low, Offset high, const Reached& reached) {
    while (low < high && !device_failed()) {
      const Offset middle = low + (high - low) / 2;
      go(middle);
      const auto here = block();
      if (here && !reached(*here)) {
        low = std::max(middle, here->last()) + 1;
      } else if (!valid() || first() > middle) {
        high = middle;  // nothing lies between
      } else {
        high = first();
      }
    }
    if (!device_failed()) go(low);
  }

  bool valid() const { return it_ && it_->Valid(); }
  Offset first() const { return offset_at(*it_); }
  // Without its records. Nothing behind the last one, or where its header cannot be read.
  std::optional<Block> block() const {
    return valid() ? decode_header(first(), it_->value().ToStringView()) : std::nullopt;
  }
  // The running byte count before it.
  std::uint64_t running_before() const {
    const auto here = block();
    return here ? here->running_bytes - (it_->value().size() - kHeaderBytes) : 0;
  }
  // What has been found is worth nothing then.
  bool device_failed() const { return read_failed(db_, status_); }
  const rocksdb::Status& status() const { return status_; }

 private:
  void go_around(Offset bad) {
    it_.reset(db_.NewIterator(options_, family_));
    const Offset at = next_key(db_, family_, bad, end_, status_);
    if (at > end_ || device_failed()) return;
    const Key key = key_of(at);
    it_->Seek(slice(key));
    status_ = it_->status();
  }

  rocksdb::DB& db_;
  rocksdb::ColumnFamilyHandle* family_;
  Offset end_;
  rocksdb::ReadOptions options_ = point_options();
  Iterator it_;
  rocksdb::Status status_;
};

std::optional<Location> find_cut(Walk& walk, Offset watermark, Offset end, Offset offset_min,
                                 std::uint64_t bytes_min, std::int64_t received_min_ms) {
  const Offset low = watermark + 1;
  Offset least = std::max(offset_min, watermark);
  walk.go_to_first(low, end + 1,
                   [&](const Block& block) { return block.running_bytes >= bytes_min; });
  if (walk.device_failed()) return std::nullopt;
  if (!walk.valid()) {
    least = std::max(least, end);
  } else if (walk.first() > low || walk.running_before() < bytes_min) {
    least = std::max(least, walk.first());
  }
  // The cut lies before the first block that is young enough.
  walk.go_to_first(low, end + 1,
                   [&](const Block& block) { return block.received_ms >= received_min_ms; });
  if (walk.device_failed()) return std::nullopt;
  least = std::max(least, walk.valid() ? walk.first() - 1 : end);

  if (least == watermark) {
    // Nothing has to go: the cut is where the stream already begins, unless that is inside a block.
    walk.go(low);
    const auto block = walk.block();
    if (!block) return std::nullopt;
    if (block->first == low) {
      return Location{watermark, walk.running_before(), block->received_ms};
    }
    least = low;
  }
  std::optional<Block> before;  // ends inside a group, unless what follows begins another
  for (walk.go(least); walk.valid(); walk.next()) {
    const auto block = walk.block();
    const bool follows = before && block && block->first == before->last() + 1;
    if (follows && block->starts_clean) {  // a producer left its group unfinished
      return Location{before->last(), before->running_bytes, block->received_ms};
    }
    before.reset();
    if (!block || block->last() < least) continue;
    if (!block->ends_clean) {
      before = block;
      continue;
    }
    Location location{block->last(), block->running_bytes, 0};
    walk.next();
    if (const auto next = walk.block()) location.received_ms = next->received_ms;
    return location;
  }
  return std::nullopt;
}

}  // namespace

Result<std::optional<Location>> locate_cut(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family,
                                           Offset watermark, Offset end, Offset offset_min,
                                           std::uint64_t bytes_min, std::int64_t received_min_ms) {
  Walk walk(db, family, end);
  const auto location = find_cut(walk, watermark, end, offset_min, bytes_min, received_min_ms);
  if (!walk.device_failed()) return location;
  return Error{"the journal cannot be read: " + walk.status().ToString()};
}

std::optional<Offset> first_key_needed(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family,
                                       Offset offset) {
  Iterator it(db.NewIterator(point_options(), family));
  const Key key = key_of(offset);
  it->Seek(slice(key));
  if (it->Valid() && offset_at(*it) == offset) return offset;
  it->SeekForPrev(slice(key));
  rocksdb::Status status = it->status();
  if (is_damage(db, status)) {
    const auto before = last_key_before(db, family, offset, status);
    if (!before) return std::nullopt;
    it.reset(db.NewIterator(point_options(), family));
    const Key key_before = key_of(*before);
    it->Seek(slice(key_before));
    status = it->status();
  }
  if (!status.ok()) return std::nullopt;
  return it->Valid() && reaches(*it, offset) ? offset_at(*it) : offset;
}

namespace {

// The key of the last block that can be read, whatever is damaged before it and behind it: by seeks
// forward alone.
std::optional<Offset> last_readable(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family,
                                    rocksdb::Status& status) {
  std::optional<Offset> last;
  Offset low = 0;
  Offset high = kMaxOffset + 1;  // nothing from there on can be read
  seek(db, family, high, status);
  if (!status.ok()) return last;  // a table that every read opens cannot be opened
  while (low < high) {
    const Offset middle = low + (high - low) / 2;
    std::optional<Offset> at = seek(db, family, middle, status);
    if (is_damage(db, status)) {
      const Offset next = next_key(db, family, middle, kMaxOffset, status);
      if (next <= kMaxOffset) at = next;
    }
    if (read_failed(db, status)) return std::nullopt;
    if (at) {
      last = at;
      low = *at + 1;
    } else {
      high = middle;
    }
  }
  return last;
}

}  // namespace

End last_end(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family,
             std::optional<std::string>& damage, rocksdb::Status& status) {
  Iterator it(db.NewIterator(point_options(), family));
  it->SeekToLast();
  status = it->status();
  if (is_damage(db, status)) {
    // Going backwards also reads what is before the last block, and fails for damage in that.
    rocksdb::Status meanwhile;
    if (const std::optional<Offset> last = last_readable(db, family, meanwhile)) {
      seek(db, family, *last + 1, status);
      it.reset(db.NewIterator(point_options(), family));
      const Key key = key_of(*last);
      it->Seek(slice(key));
      if (!it->status().ok()) status = it->status();
    } else if (read_failed(db, meanwhile)) {
      status = meanwhile;
    }
  }
  if (!status.ok()) damage = "its last block cannot be read: " + status.ToString();
  if (!it->Valid()) return {};
  const BlockPtr block = decode_block(offset_at(*it), it->value().ToStringView());
  if (block) return {block->last(), block->ends_clean, block->running_bytes};
  damage = "its last block, at offset " + std::to_string(offset_at(*it)) + ", is damaged";
  const auto header = decode_header(offset_at(*it), it->value().ToStringView());
  return {offset_at(*it), false, header ? header->running_bytes : 0};
}

}  // namespace spillway::journal
