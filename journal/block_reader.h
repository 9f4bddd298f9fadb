// Finding and checking blocks in an open store. Each call makes a fresh iterator: a held one would
// keep deleted files on disk.
#pragma once

#include <rocksdb/db.h>

#include <functional>
#include <optional>
#include <utility>

#include "journal/journal.h"

namespace spillway::journal {

// What asking again does not mend: bytes that are not as they were written, or a file that is not
// there. When its folder is not either, that may be a mount that comes back.
bool is_damage(const rocksdb::DB& db, const rocksdb::Status& status);

// What it may: the device failed, and what was asked for may be there.
bool read_failed(const rocksdb::DB& db, const rocksdb::Status& status);

// Reads blocks of `family` as Journal::read() promises. `end` is the stream's last offset.
ReadResult read_blocks(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family, Offset from,
                       Offset through, std::uint64_t max_bytes, Offset end);

// As Journal::locate() promises.
Result<std::optional<Location>> locate_cut(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family,
                                           Offset watermark, Offset end, Offset offset_min,
                                           std::uint64_t bytes_min, std::int64_t received_min_ms);

// The key of the block that contains `offset`, or else `offset` itself: everything before it holds
// nothing at or after `offset`. Nothing where that cannot be told.
std::optional<Offset> first_key_needed(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family,
                                       Offset offset);

// Where the last block that can be read ends, 0 when there is none. One that is damaged inside
// counts as one record; `damage` says so then, and where what is behind cannot be read.
struct End {
  Offset last = 0;
  bool clean = false;               // no group is unfinished there; false where nobody can say
  std::uint64_t running_bytes = 0;  // through the last block that can be read
};
End last_end(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family,
             std::optional<std::string>& damage, rocksdb::Status& status);

}  // namespace spillway::journal
