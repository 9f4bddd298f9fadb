#include "broker/cli/tally.h"

namespace spillway::cli {
namespace {

bool moves(const client::EpochChange& change, Position position) {
  return change.first_before <= position && position.epoch < change.epoch;
}

Position moved(const client::EpochChange& change, Position position) {
  return {change.epoch, position.sequence - change.first_before.sequence + 1};
}

}  // namespace

void Tally::published(Position position, std::uint64_t parts) {
  const std::lock_guard lock(mutex_);
  // The change may have been told before publish() returned the old position.
  for (const auto& change : changes_) {
    if (moves(change, position)) position = moved(change, position);
  }
  ++counts_.published;
  counts_.last = position;
  const Position first{position.epoch, position.sequence - parts + 1};
  if (!counts_.first) counts_.first = first;
  take({first, parts, 1});
  settle();
}

void Tally::take(const Run& run) {
  if (!open_.empty()) {
    auto& newest = open_.back();
    const auto next = Position{newest.first.epoch, newest.last().sequence + 1};
    if (run.sequences == run.records && newest.sequences == newest.records && run.first == next) {
      newest.sequences += run.sequences;
      newest.records += run.records;
      return;
    }
  }
  open_.push_back(run);
}

void Tally::acknowledged(Position safe) {
  const std::lock_guard lock(mutex_);
  safe_ = std::max(safe_, safe);
  settle();
}

void Tally::settle() {
  while (!open_.empty()) {
    auto& oldest = open_.front();
    if (oldest.last() <= safe_) {
      counts_.acknowledged += oldest.records;
      open_.pop_front();
      continue;
    }
    if (oldest.first <= safe_ && oldest.sequences == oldest.records) {
      const auto done = safe_.sequence - oldest.first.sequence + 1;
      counts_.acknowledged += done;
      oldest.first.sequence += done;
      oldest.sequences -= done;
      oldest.records -= done;
    }
    return;
  }
}

void Tally::renumbered(const client::EpochChange& change) {
  const std::lock_guard lock(mutex_);
  changes_.push_back(change);
  const std::deque<Run> before = std::exchange(open_, {});
  for (auto run : before) {
    if (!moves(change, run.last())) {
      take(run);
      continue;
    }
    if (!moves(change, run.first)) {  // only its end moves
      const auto stays = change.first_before.sequence - run.first.sequence;
      take({run.first, stays, stays});
      run = {change.first_before, run.sequences - stays, run.records - stays};
    }
    run.first = moved(change, run.first);
    take(run);
  }
  for (auto* position : {&counts_.first, &counts_.last}) {
    if (*position && moves(change, **position)) *position = moved(change, **position);
  }
  settle();
}

Tally::Counts Tally::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

}  // namespace spillway::cli
