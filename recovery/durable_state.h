// DurableState: what a stream must find again after a crash. Written whole with every commit, so
// that what must agree always does.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "base/loss.h"
#include "base/position.h"
#include "recovery/policy.h"

namespace spillway::recovery {

// Record `sequence` of this epoch has offset `base + sequence`. It ends where the next one begins.
struct Epoch {
  std::uint64_t number = 0;
  Offset base = 0;
  friend bool operator==(const Epoch&, const Epoch&) = default;
};

// A range that a sink does not get, by policy; it is sent as a skip block. Inclusive.
struct SkipRange {
  Offset first = 0;
  Offset last = 0;
  LossReason reason = LossReason::limit;
  friend bool operator==(const SkipRange&, const SkipRange&) = default;
};

// How far somebody has come who is at `through` and does not get `skips`, which ascend.
template <class Skips>
Offset passed(Offset through, const Skips& skips) {
  for (const SkipRange& skip : skips) {
    if (skip.first <= through + 1) through = std::max(through, skip.last);
  }
  return through;
}

// Keeps `skips` ascending and apart: what touches or overlaps becomes one range.
template <class Skips>
void add_skip(Skips& skips, SkipRange range) {
  auto at = std::ranges::lower_bound(skips, range.first, {}, &SkipRange::first);
  if (at != skips.begin() && range.first <= (at - 1)->last + 1) {
    --at;
    at->last = std::max(at->last, range.last);
  } else {
    at = skips.insert(at, range);
  }
  const auto rest = at + 1;
  auto end = rest;
  for (; end != skips.end() && end->first <= at->last + 1; ++end) {
    at->last = std::max(at->last, end->last);
  }
  skips.erase(rest, end);
}

// Takes a range out again, and leaves what was merged with it.
template <class Skips>
void remove_skip(Skips& skips, Offset first, Offset last) {
  for (auto at = skips.begin(); at != skips.end(); ++at) {
    if (at->first > first || at->last < last) continue;
    const SkipRange whole = *at;
    at = skips.erase(at);
    if (whole.last > last) at = skips.insert(at, {last + 1, whole.last, whole.reason});
    if (whole.first < first) skips.insert(at, {whole.first, first - 1, whole.reason});
    return;
  }
}

struct SinkState {
  std::string name;
  std::string identity;
  Offset cursor = 0;             // acknowledged by the sink itself, or skipped with it
  std::vector<SkipRange> skips;  // ascending, apart, beyond the cursor
  // An open-ended drop: everything from drop_first on is let go until the sink is live again.
  bool dropping = false;
  Offset drop_first = 0;
  LossReason drop_reason = LossReason::limit;
  std::uint64_t drop_entry = 0;  // its ledger entry
  WallMs outage_since = 0;       // 0: none
  bool paused = false;
  WallMs paused_since = 0;  // while paused; the outage clock stands still from then on
  std::string parked;       // why; empty: it is not
  bool unresolved = false;  // new: where it begins is not durable yet
  std::uint64_t dead_letter_bytes = 0;
  friend bool operator==(const SinkState&, const SinkState&) = default;
};

// How far a sink has come, or is to skip.
inline Offset passed(const SinkState& sink) { return passed(sink.cursor, sink.skips); }

struct Checkpoint {
  Offset at = 0;       // safe through
  bool clean = false;  // no group is unfinished there; false where nobody can say
  friend bool operator==(const Checkpoint&, const Checkpoint&) = default;
};

struct DurableState {
  std::uint64_t revision = 0;  // counts writes: tells after a failed one whether it is in the store
  std::vector<Epoch> epochs;   // ascending
  std::uint64_t epoch_newest = 0;  // the newest that any Hello or sink ever named
  bool open = false;               // coverage: every acknowledged record is in the journal
  Offset first = 0;                // open: the first record that the journal holds
  Offset closed_end = 0;           // closed: every sink took all through here
  Acks acks = Acks::all;           // the policy under which this was written
  std::uint32_t quorum = 0;
  Checkpoint checkpoint;
  Offset mark_offset = 0;  // the newest mark at or before the checkpoint
  std::string mark;
  std::uint64_t generation = 0;
  std::uint64_t next_ledger_id = 1;
  bool clean_stop = false;  // nothing was taken after this was written
  std::vector<SinkState> sinks;
  friend bool operator==(const DurableState&, const DurableState&) = default;
};

// After which record a sink goes on at a start with an open journal that holds `watermark + 1` to
// `end`: one that is new there begins no earlier than the journal does.
inline Offset goes_on_after(const DurableState& state, const SinkState& sink, Offset watermark,
                            Offset end) {
  if (!sink.unresolved) return passed(sink);
  return std::max({passed(sink), std::min(watermark, end), state.first - 1});
}

}  // namespace spillway::recovery
