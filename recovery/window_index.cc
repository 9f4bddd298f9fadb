#include "recovery/window_index.h"

#include <algorithm>

#include "base/invariant.h"

namespace spillway::recovery {

void WindowIndex::clear(Offset next) {
  blocks_.clear();
  bytes_ = 0;
  next_ = next;
}

void WindowIndex::push(const BlockInfo& block) {
  INVARIANT(block.first == next_);
  INVARIANT(block.last >= block.first);
  blocks_.push_back(block);
  bytes_ += block.bytes;
  next_ = block.last + 1;
}

void WindowIndex::end_group() {
  if (!blocks_.empty()) blocks_.back().ends_clean = true;
}

void WindowIndex::pop() {
  INVARIANT(!blocks_.empty());
  bytes_ -= blocks_.front().bytes;
  blocks_.pop_front();
}

const BlockInfo* WindowIndex::find(Offset offset) const {
  if (blocks_.empty() || offset < blocks_.front().first || offset > blocks_.back().last) {
    return nullptr;
  }
  if (offset >= blocks_.back().first) return &blocks_.back();  // the usual question, while live
  const auto block = std::ranges::lower_bound(blocks_, offset, {}, &BlockInfo::last);
  return &*block;
}

}  // namespace spillway::recovery
