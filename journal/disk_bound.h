// Whether a group may be written: keeps what `du` shows of data_dir at or below max_disk_bytes at
// any moment, and min_free_disk free. It looks at the disk at least once a second and counts the
// journal's own writes in between at their worst, so its answer is never too kind.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>

#include "journal/data_dir.h"
#include "journal/journal.h"

namespace spillway::journal {

// What the disk looks like. `unflushed` is taken before the disk is walked, so that what a flush
// moves from one to the other meanwhile is counted twice rather than never.
struct DiskState {
  DiskUse use;
  std::uint64_t unflushed = 0;   // bytes in memtables: they come to the disk again as files
  std::uint64_t rewritable = 0;  // bytes that a compaction may hold twice for a while
  std::uint64_t free = 0;
};

// Not thread-safe.
class DiskBound {
 public:
  struct Limits {
    std::uint64_t max_disk_bytes;
    std::uint64_t min_free_disk;
    std::uint64_t headroom;
  };
  using Clock = std::function<std::chrono::steady_clock::time_point()>;

  // Where `look` gives nothing, what was seen last stays, and what was written since counts on.
  DiskBound(Limits limits, std::function<std::optional<DiskState>()> look, Clock clock);

  // Whether `bytes` of values may be written with `reserve` still left after them.
  Outcome check(std::uint64_t bytes, std::uint64_t reserve);
  void stages(std::uint64_t bytes);  // values that go into the group being made
  void wrote();                      // that group, to the WAL
  void look();                       // at the disk, now
  const DiskState& state() const { return state_; }
  std::uint64_t written() const { return written_; }  // since that look, at its worst
  // What the bound has left for values after `reserve`, as far as is known.
  std::uint64_t left(std::uint64_t reserve) const;
  std::chrono::steady_clock::time_point looked_at() const { return looked_at_; }

 private:
  Outcome judge(std::uint64_t bytes, std::uint64_t reserve) const;
  std::uint64_t projected() const;

  Limits limits_;
  std::function<std::optional<DiskState>()> look_;
  Clock clock_;
  DiskState state_;
  std::uint64_t written_ = 0;  // since the disk was looked at, at its worst
  std::uint64_t staged_ = 0;   // no look at the disk shows it yet
  std::chrono::steady_clock::time_point looked_at_{};
};

}  // namespace spillway::journal
