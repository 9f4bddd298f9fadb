// Counts published and acknowledged records by their positions, also when a record took several
// sequences (parts) and when the broker gave records other positions (a new epoch).
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <vector>

#include "base/position.h"
#include "client/client.h"

namespace spillway::cli {

// Any thread. Memory: one entry for each run of records without parts, so usually one.
class Tally {
 public:
  struct Counts {
    std::uint64_t published = 0;
    std::uint64_t acknowledged = 0;
    std::optional<Position> first;  // of the records that were published
    std::optional<Position> last;
  };

  // A record whose last part has `position`. In the order of publishing.
  void published(Position position, std::uint64_t parts);
  void acknowledged(Position safe);
  void renumbered(const client::EpochChange& change);
  Counts counts() const;

 private:
  struct Run {
    Position first;
    std::uint64_t sequences = 0;
    std::uint64_t records = 0;  // as many as sequences, or one
    Position last() const { return {first.epoch, first.sequence + sequences - 1}; }
  };
  void take(const Run& run);
  void settle();

  mutable std::mutex mutex_;
  Counts counts_;
  Position safe_;
  std::deque<Run> open_;  // not acknowledged, ascending
  std::vector<client::EpochChange> changes_;
};

}  // namespace spillway::cli
