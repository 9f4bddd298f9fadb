// Script: what a producer has to say, by position, and what became of it.
#pragma once

#include <optional>
#include <vector>

#include "tests/simulation/plan.h"
#include "tests/simulation/record.h"

namespace spillway::simulation {

class Script {
 public:
  Script(const ProducerPlan& plan, std::uint64_t seed) : plan_(plan), seed_(seed) {}

  struct Epoch {
    std::uint64_t number = 0;
    std::vector<Record> records;       // sequence 1 first
    std::optional<std::uint64_t> end;  // its last sequence, once the next one began
    std::uint64_t fresh = 0;           // after this many a new life began, in no group
  };

  // The record at `position`, made up if it was never asked for. nullptr beyond the epoch's end.
  const Record* at(Position position);
  // The same, but only if it exists already.
  const Record* known(Position position) const;
  // A new epoch, begun by a broker or by this producer; the one before it ends at `end`.
  void begin(std::uint64_t number, std::optional<std::uint64_t> end);
  // Goes on in `number`: the epochs after it went with a store.
  void reopen(std::uint64_t number);
  bool knows(std::uint64_t number) const;
  const std::vector<Epoch>& epochs() const { return epochs_; }
  // The place after `position`: in the next epoch where this one has ended.
  Position after(Position position) const;
  // A producer without memory goes on from here with other content.
  void rewrite_after(Position position);
  std::uint64_t total() const { return total_; }

 private:
  Epoch* find(std::uint64_t number);
  const Epoch* find(std::uint64_t number) const;
  void extend(Epoch& epoch);

  const ProducerPlan& plan_;
  const std::uint64_t seed_;
  std::vector<Epoch> epochs_;  // ascending
  std::uint64_t life_ = 0;
  std::uint64_t total_ = 0;
};

}  // namespace spillway::simulation
