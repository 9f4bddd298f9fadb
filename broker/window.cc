#include "broker/window.h"

#include <algorithm>
#include <utility>

#include "base/invariant.h"

namespace spillway::broker {

void Window::push(BlockPtr block) {
  INVARIANT(blocks_.empty() || block->first == blocks_.back()->last() + 1);
  blocks_.push_back(std::move(block));
}

void Window::evict(Offset through) {
  while (!blocks_.empty() && blocks_.front()->last() <= through) blocks_.pop_front();
}

std::deque<BlockPtr>::const_iterator Window::at(Offset offset) const {
  const auto last = [](const BlockPtr& block) { return block->last(); };
  const auto block = std::ranges::lower_bound(blocks_, offset, {}, last);
  return block != blocks_.end() && (*block)->first <= offset ? block : blocks_.end();
}

const Block* Window::find(Offset offset) const {
  const auto block = at(offset);
  return block == blocks_.end() ? nullptr : block->get();
}

bool Window::holds(Offset first, Offset last) const {
  return !blocks_.empty() && blocks_.front()->first <= first && last <= blocks_.back()->last();
}

void Window::collect(Offset first, Offset last, std::vector<BlockPtr>& out) const {
  INVARIANT(first <= last && holds(first, last));
  cut(at(first), first, last, out);
}

}  // namespace spillway::broker
