#include "broker/cli/journal_range.h"

#include <utility>

namespace spillway::cli {
namespace {

using journal::BlockInfo;

// More epochs than this are not listed in a sentence.
constexpr int kMaxEpochs = 16;

}  // namespace

Result<BlockPtr> JournalRange::at(Offset offset) {
  BlockPtr found;
  const auto error = inspector_.for_each_block(stream_.stream, offset, [&](const BlockInfo& info) {
    if (info.intact && info.block->last() >= offset) found = info.block;
    return found == nullptr;
  });
  if (error) return *error;
  return found;
}

Result<BlockPtr> JournalRange::at(Position position) {
  auto low = at(Offset{0});
  if (!low || *low == nullptr) return low;
  Offset first = (*low)->first;
  Offset last = stream_.end + 1;  // where there is nothing
  while (first < last) {
    const Offset middle = first + (last - first) / 2;
    auto block = at(middle);
    if (!block) return block;
    if (*block != nullptr && (*block)->last_position() < position) {
      first = (*block)->last() + 1;
    } else {
      last = middle;
    }
  }
  return at(first);
}

Result<std::string> JournalRange::text() {
  std::string out;
  auto block = at(Offset{0});
  for (int i = 0; block && *block != nullptr; ++i) {
    if (i == kMaxEpochs) return {boost::system::in_place_value, out + ", ..."};
    const Position first = (*block)->position;
    const Offset base = (*block)->first - first.sequence;
    block = at(Position{first.epoch + 1, 0});
    if (!block) return block.error();
    const Offset last = *block != nullptr ? (*block)->first - 1 : stream_.end;
    out += (out.empty() ? "" : ", ") + to_string(first) + " to " +
           to_string(Position{first.epoch, last - base});
  }
  if (!block) return block.error();
  return {boost::system::in_place_value, std::move(out)};
}

Result<std::optional<std::string>> JournalRange::missing(Position position) {
  const auto block = at(position);
  if (!block) return block.error();
  if (*block != nullptr && (*block)->position <= position) return std::optional<std::string>();
  const auto held = text();
  if (!held) return held.error();
  std::string why = to_string(position) + " is not in the journal of stream " + stream_.stream;
  if (held->empty()) return std::optional(why + ", which holds no records");
  const auto first = at(Offset{0});
  if (!first) return first.error();
  const auto same_epoch = at(Position{position.epoch, 0});
  if (!same_epoch) return same_epoch.error();
  if (position < (*first)->position) {
    why += ": it was trimmed, or never journaled";
  } else if (*same_epoch == nullptr || (*same_epoch)->position.epoch != position.epoch) {
    why += ": there is no epoch " + std::to_string(position.epoch);
  } else if (*block == nullptr || (*block)->position.epoch != position.epoch) {
    why += ": its epoch ends before that";
  } else {
    why += ": it is missing or damaged, see `spillway journal check`";
  }
  return std::optional(why + "; the journal holds " + *held);
}

}  // namespace spillway::cli
