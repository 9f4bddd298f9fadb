// Window: the blocks of a stream's in-memory tail. The machine's WindowIndex knows the same blocks
// by size; this one has their bytes.
#pragma once

#include <algorithm>
#include <deque>
#include <vector>

#include "base/block.h"
#include "base/position.h"
#include "wire/batch.h"

namespace spillway::broker {

// Blocks follow one another without a gap; a jump in offsets is allowed only while it is empty.
// Not thread-safe: lives on its stream's reactor.
class Window {
 public:
  void push(BlockPtr block);
  bool empty() const { return blocks_.empty(); }
  Offset first() const { return blocks_.front()->first; }  // requires !empty()
  // Lets go of all blocks that end at or before `through`.
  void evict(Offset through);

  // The block that holds `offset`, or nullptr.
  const Block* find(Offset offset) const;
  // The records [first, last], which must be here, appended to `out`: whole blocks but for the
  // ends.
  void collect(Offset first, Offset last, std::vector<BlockPtr>& out) const;
  bool holds(Offset first, Offset last) const;

 private:
  std::deque<BlockPtr>::const_iterator at(Offset offset) const;

  std::deque<BlockPtr> blocks_;
};

// The records [first, last] of blocks that follow one another from `block` on and hold them all,
// appended to `out`.
template <class Iterator>
void cut(Iterator block, Offset first, Offset last, std::vector<BlockPtr>& out) {
  for (Offset next = first; next <= last; ++block) {
    if ((*block)->last() < next) continue;
    const Offset end = std::min((*block)->last(), last);
    out.push_back(wire::slice(*block, next, end));
    next = end + 1;
  }
}

}  // namespace spillway::broker
