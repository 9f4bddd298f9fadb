// Outbox: the records that a producer published and that are not acknowledged, encoded once, in
// order.
//
// Sans-IO and not thread-safe: the client guards it with its mutex. The one exception is the memory
// behind a RecordRun, which may be read without the mutex until the RecordRun is over: appending
// never touches bytes that were written, and release() never frees them (see pin()).
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/position.h"
#include "wire/record.h"

namespace spillway::client {

// A record (or part) counted from 1 over the life of a client, whatever its epoch. 0: before the
// first.
using Index = std::uint64_t;

// Consecutive records of one epoch that lie together in memory: what one Batch carries.
struct RecordRun {
  Index last = 0;
  Position first;
  std::uint64_t count = 0;
  std::optional<Position> previous;  // set if the run begins an epoch
  std::span<const std::byte> records;
};

class Outbox {
 public:
  // Memory comes in pieces of this size; a run is never larger, but for one large record.
  static constexpr std::size_t kChunkBytes = std::size_t{256} << 10;

  // Records from here on have `first` as their position, counting up. `previous` is the position
  // before, if `first` begins an epoch after another one.
  void begin_at(Position first, std::optional<Position> previous);
  bool ready() const { return !segments_.empty(); }

  // Requires ready(). The record's position.
  Position append(const wire::RecordFields& fields);

  Index last() const { return last_; }
  Index acknowledged() const { return acknowledged_; }
  std::uint64_t kept_bytes() const { return bytes_through(last_) - bytes_through(acknowledged_); }
  // Encoded bytes of [1, index]; index must not lie before acknowledged().
  std::uint64_t bytes_through(Index index) const;
  Position position_of(Index index) const;
  // Of the record that is appended next. Requires ready().
  Position next_position() const;
  // The newest record at or before a position; 0 if it lies before all of them. Positions of an
  // epoch that was renumbered mean the records as they are counted now.
  Index index_of(Position position) const;

  // Records through `index` are needed no more. Their memory is kept while it is pinned.
  void acknowledge(Index index);
  // Records after `index` are in use by a write, until unpin().
  void pin(Index index) { pinned_ = index; }
  void unpin();

  // The next records after `sent`, as many as fit `max_bytes` (but at least one if `at_least_one`).
  // With `only_continuing`, only those that continue a group or a record in parts. Nothing if there
  // are none.
  std::optional<RecordRun> run_after(Index sent, std::uint64_t max_bytes, bool at_least_one,
                               bool only_continuing) const;

  // Gives the records after `index` positions from {epoch, 1} on. Nothing may be pinned.
  void renumber_after(Index index, std::uint64_t epoch, std::optional<Position> previous);

 private:
  struct Entry {
    std::uint32_t end = 0;  // of the record in its chunk
    bool continues = false;
  };
  struct Chunk {
    std::unique_ptr<std::byte[]> bytes;
    std::size_t capacity = 0;
    std::size_t used = 0;
    Index first = 0;
    std::uint64_t bytes_before = 0;  // of all records before this chunk
    std::vector<Entry> entries;
    Index last() const { return first + entries.size() - 1; }
  };
  // Records from `first` on have positions from `position` on.
  struct Segment {
    Index first = 0;
    Position position;
    std::optional<Position> previous;
  };
  // Positions from `from` to the end of its epoch were given up for those of records from `first`
  // on.
  struct Renumbered {
    Position from;
    Index first = 0;
    Index last = 0;
  };

  void make_room(std::size_t bytes);
  void release();
  const Segment& segment_of(Index index) const;
  const Chunk* chunk_of(Index index) const;

  std::deque<Chunk> chunks_;
  std::vector<Chunk> spare_;
  std::vector<Segment> segments_;
  std::vector<Renumbered> renumbered_;
  Index last_ = 0;
  Index acknowledged_ = 0;
  std::uint64_t acknowledged_bytes_ = 0;
  std::uint64_t total_bytes_ = 0;
  std::optional<Index> pinned_;
};

}  // namespace spillway::client
