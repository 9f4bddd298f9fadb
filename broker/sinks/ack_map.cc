#include "broker/sinks/ack_map.h"

#include "base/invariant.h"

namespace spillway::broker {

void AckMap::add(Offset offset) {
  ++added_;
  if (!runs_.empty() && runs_.back().single) {
    Run& run = runs_.back();
    ++run.units;
    run.last = offset;
    return;
  }
  runs_.push_back({1, offset, true});
}

void AckMap::add_group(std::uint64_t units, Offset last) {
  added_ += units;
  runs_.push_back({units, last, false});
}

std::optional<Offset> AckMap::take(std::uint64_t units) {
  INVARIANT(taken_ <= units);
  INVARIANT(units <= added_);
  std::uint64_t fresh = units - taken_;
  taken_ = units;
  std::optional<Offset> through;
  while (!runs_.empty()) {
    Run& run = runs_.front();
    if (run.units > fresh) {
      run.units -= fresh;
      if (run.single && fresh > 0) {
        through = run.last - run.units;
      }
      break;
    }
    fresh -= run.units;
    through = run.last;
    runs_.pop_front();
  }
  return through;
}

}  // namespace spillway::broker
