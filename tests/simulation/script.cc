#include "tests/simulation/script.h"

#include <algorithm>

namespace spillway::simulation {

Script::Epoch* Script::find(std::uint64_t number) {
  const auto epoch = std::ranges::find(epochs_, number, &Epoch::number);
  return epoch == epochs_.end() ? nullptr : &*epoch;
}

const Script::Epoch* Script::find(std::uint64_t number) const {
  return const_cast<Script*>(this)->find(number);
}

bool Script::knows(std::uint64_t number) const { return find(number) != nullptr; }

void Script::begin(std::uint64_t number, std::optional<std::uint64_t> end) {
  if (end && !epochs_.empty()) {
    epochs_.back().end = *end;
    if (epochs_.back().records.size() > *end) epochs_.back().records.resize(*end);
  }
  epochs_.push_back({number, {}, std::nullopt, 0});
}

void Script::reopen(std::uint64_t number) {
  std::erase_if(epochs_, [&](const Epoch& epoch) { return epoch.number > number; });
  if (Epoch* epoch = find(number)) epoch->end.reset();
}

const Record* Script::at(Position position) {
  Epoch* epoch = find(position.epoch);
  if (epoch == nullptr || position.sequence == 0) return nullptr;
  if (epoch->end && position.sequence > *epoch->end) return nullptr;
  while (epoch->records.size() < position.sequence) extend(*epoch);
  return &epoch->records[position.sequence - 1];
}

const Record* Script::known(Position position) const {
  const Epoch* epoch = find(position.epoch);
  if (epoch == nullptr || position.sequence == 0) return nullptr;
  if (position.sequence > epoch->records.size()) return nullptr;
  return &epoch->records[position.sequence - 1];
}

Position Script::after(Position position) const {
  for (std::size_t i = 0; i < epochs_.size(); ++i) {
    if (epochs_[i].number != position.epoch) continue;
    while (epochs_[i].end && position.sequence >= *epochs_[i].end && i + 1 < epochs_.size()) {
      position = {epochs_[++i].number, 0};
    }
    break;
  }
  return {position.epoch, position.sequence + 1};
}

void Script::rewrite_after(Position position) {
  ++life_;
  Epoch* epoch = find(position.epoch);
  if (epoch == nullptr) return;
  if (epoch->records.size() > position.sequence) epoch->records.resize(position.sequence);
  epoch->fresh = epoch->records.size();
}

void Script::extend(Epoch& epoch) {
  ++total_;
  Record record;
  record.at = {epoch.number, epoch.records.size() + 1};
  const std::uint64_t life = plan_.resumes ? 0 : life_;
  std::uint64_t chance =
      mix(seed_ ^ mix(record.at.epoch * 1'000'003 + record.at.sequence) ^ mix(life * 7919));
  const auto draw = [&](std::uint64_t n) { return (chance = mix(chance)) % n; };
  record.content = chance | 1;
  record.info.bytes = 1 + draw(plan_.bytes_max);
  // A new life begins with a record of its own, whatever the old one left unfinished.
  const bool alone = epoch.records.size() == epoch.fresh;
  const bool open_before = !alone && epoch.records.back().info.open;
  const bool inside_before = !alone && epoch.records.back().info.inside_record;
  record.info.continues = open_before;
  record.info.inside_record = plan_.parts && draw(inside_before ? 2 : 6) == 0;
  const bool group = plan_.groups && draw(open_before ? 4 : 5) != 0;
  record.info.open = record.info.inside_record || (open_before ? group : plan_.groups && !group);
  record.mark = draw(7) == 0;
  if (plan_.skips && !open_before && !record.info.open && draw(12) == 0) {
    record.skip = draw(3) == 0 ? LossReason::filter : LossReason::upstream;
    record.info.bytes = 0;
    record.mark = false;
  }
  epoch.records.push_back(record);
}

}  // namespace spillway::simulation
