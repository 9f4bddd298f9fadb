#include "recovery/epochs.h"

#include <algorithm>
#include <limits>

#include "base/invariant.h"

namespace spillway::recovery {

bool EpochTable::knows(std::uint64_t epoch) const {
  return std::ranges::any_of(epochs_, [&](const Epoch& e) { return e.number == epoch; });
}

bool EpochTable::older_than_all(std::uint64_t epoch) const {
  return !epochs_.empty() && epoch < epochs_.front().number;
}

Position EpochTable::position_of(Offset offset) const {
  for (auto epoch = epochs_.rbegin(); epoch != epochs_.rend(); ++epoch) {
    if (epoch->base < offset) return {epoch->number, offset - epoch->base};
  }
  return epochs_.empty() ? Position{} : Position{epochs_.front().number, 0};
}

Position EpochTable::place_of(Offset head) const {
  if (!epochs_.empty() && epochs_.back().base == head) return {epochs_.back().number, 0};
  return position_of(head);
}

std::optional<Offset> EpochTable::offset_of(Position position) const {
  const auto epoch = std::ranges::find(epochs_, position.epoch, &Epoch::number);
  if (epoch == epochs_.end()) return std::nullopt;
  constexpr Offset kMost = std::numeric_limits<Offset>::max();
  const Offset offset = epoch->base + std::min(position.sequence, kMost - epoch->base);
  const auto next = epoch + 1;
  return next == epochs_.end() ? offset : std::min(offset, next->base);
}

void EpochTable::open(std::uint64_t number, Offset head) {
  INVARIANT(epochs_.empty() || (number > current() && head >= current_base()));
  epochs_.push_back({number, head});
}

void EpochTable::forget_before(Offset watermark) {
  while (epochs_.size() > kMaxEpochs && epochs_[1].base <= watermark) {
    epochs_.erase(epochs_.begin());
  }
}

}  // namespace spillway::recovery
