// Admission: contiguity, duplicates, epochs of relays, groups, limits (G7, G12).
#include <algorithm>
#include <utility>

#include "base/invariant.h"
#include "recovery/stream_machine.h"

namespace spillway::recovery {

void StreamMachine::on(const event::BatchCame& e) {
  if (session_ != e.session || e.count == 0) return;  // an older connection's
  if (stopping_) {
    out_->push_back(action::Discard{e.session, e.count});
    return;
  }
  if (!has_room(e)) {
    return reject(e.session, RejectCode::malformed, false,
                  "records through " +
                      to_string(Position{e.first.epoch, e.first.sequence + e.count - 1}) +
                      " would be more than a stream can have, " + std::to_string(kMaxOffset));
  }
  if (!check_epoch(e)) return;
  const Offset first = table_.current_base() + e.first.sequence;
  const Offset last = first + e.count - 1;
  if (e.first.sequence == 0) {
    return reject(e.session, RejectCode::malformed, false, "sequences begin at 1");
  }
  if (first > head_ + 1) {
    if (discarding_ || halted()) return discard_behind(e);
    return reject(e.session, RejectCode::gap, false,
                  "expected record " + to_string(table_.position_of(head_ + 1)) + ", got " +
                      to_string(e.first));
  }
  if (first <= head_) {
    out_->push_back(action::Duplicate{e.session, first, std::min(last, head_) - first + 1});
    if (last <= head_) return;
  }
  const std::uint64_t skip = head_ + 1 - first;
  // Frames may be as large as a record may be: one of them beyond the limit is not held against it.
  const std::uint64_t unacknowledged = running_bytes_ - std::min(running_bytes_, running_at_safe());
  if (unacknowledged > policy_.producer_in_flight() + e.bytes) {
    return reject(e.session, RejectCode::in_flight, false,
                  "more bytes in flight than Welcome allowed");
  }
  const std::uint64_t count = e.skip ? (halted() ? 0 : e.count - skip) : admissible(e, skip);
  if (count > 0) admit(e, skip, count);
  if (skip + count < e.count) {
    discarding_ = resume_owed_ = true;
    out_->push_back(action::Discard{e.session, e.count - skip - count});
  } else {
    discarding_ = false;
  }
}

// Sent before the producer heard of the halt, and that the record after head has to come again: it
// is told once, however much is on its way.
void StreamMachine::discard_behind(const event::BatchCame& batch) {
  if (!discarding_) resume_owed_ = true;
  discarding_ = true;
  out_->push_back(action::Discard{batch.session, batch.count});
}

// Of an older epoch nothing is taken; one that begins here begins after the head.
bool StreamMachine::has_room(const event::BatchCame& batch) const {
  const std::uint64_t epoch = batch.first.epoch;
  if (epoch < table_.current()) return true;
  const bool begins = epoch > table_.current();
  if (begins && epoch > kMaxOffset) return false;
  const Offset base = begins ? head_ : table_.current_base();
  return base <= kMaxOffset && batch.first.sequence + batch.count - 1 <= kMaxOffset - base;
}

// A relay names its own epochs: the first batch of one says what came before it (D6).
bool StreamMachine::check_epoch(const event::BatchCame& batch) {
  const std::uint64_t epoch = batch.first.epoch;
  if (epoch == table_.current()) return true;
  if (epoch > table_.current() && batch.previous) {
    // An epoch that ended here before the relay's own end of it has no more to come.
    if (*batch.previous == table_.place_of(head_) || table_.offset_of(*batch.previous) == head_) {
      open_epoch(epoch);
      return true;
    }
    if (discarding_ || halted()) {
      discard_behind(batch);
      return false;
    }
    reject(batch.session, RejectCode::gap, false,
           "epoch " + std::to_string(epoch) + " begins after " + to_string(*batch.previous) +
               ", but this stream is at " + to_string(table_.position_of(head_)));
    return false;
  }
  if (epoch > table_.current() && (discarding_ || halted())) {  // its beginning was discarded
    discard_behind(batch);
    return false;
  }
  const auto known = table_.offset_of(batch.first);
  if (known && epoch < table_.current()) {  // an older epoch: all of it is here
    out_->push_back(action::Duplicate{batch.session, *known, batch.count});
    return false;
  }
  reject(batch.session, RejectCode::epoch, false,
         "epoch " + std::to_string(epoch) + " is not the current one, " +
             std::to_string(table_.current()));
  return false;
}

// How many records from `skip` on may come in. Limits are checked where a group or a lone record
// begins; what continues one is never refused (G12).
std::uint64_t StreamMachine::admissible(const event::BatchCame& batch, std::uint64_t skip) {
  INVARIANT(batch.records.size() == batch.count);
  const auto records = batch.records.subspan(skip);
  struct Room {
    Sink* sink;
    std::uint64_t bytes;
    std::uint64_t count;
  };
  std::vector<Room> rooms;
  if (!halted()) {
    for (auto& sink : sinks_) {
      const bool halts = sink->policy.on_limit == OnLimit::halt || sink->drop_held;
      if (!halts || sink->delivery.state() == State::live) continue;
      const Backlog waiting = backlog(*sink);
      const std::uint64_t bytes = byte_limit(*sink);
      const std::uint64_t count = sink->policy.max_records;
      if (bytes == kUnlimited && count == kUnlimited) continue;
      rooms.push_back({sink.get(), bytes - std::min(bytes, waiting.bytes),
                       count - std::min(count, waiting.records)});
    }
    std::erase_if(rooms,
                  [&](const Room& r) { return r.bytes >= batch.bytes && r.count >= batch.count; });
    if (rooms.empty()) return records.size();
  }
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < records.size(); ++i) {
    bytes += records[i].bytes;
    if (records[i].continues) continue;
    if (halted()) return i;
    for (const Room& room : rooms) {
      const bool by_count = i + 1 > room.count;
      if (!by_count && bytes <= room.bytes) continue;
      const SinkPolicy& policy = room.sink->policy;
      std::string text = by_count ? "max_records = " + std::to_string(policy.max_records)
                                  : "max_bytes = " + std::to_string(max_bytes(*room.sink));
      text.append(" of sink ").append(policy.name);
      if (room.sink->drop_held) {
        text +=
            ": it was lowered below what waits; start with --accept-drop to let go of what is "
            "over it, or raise it again";
      }
      if (!by_count) room.sink->refused_bytes = records[i].bytes;
      raise(by_count ? CauseKind::max_records : CauseKind::max_bytes, policy.name, std::move(text));
      return i;
    }
  }
  return records.size();
}

// In two blocks where the end of a batch is the beginning of a group: what is dropped, and what may
// use a group's reserve, ends with a block.
void StreamMachine::admit(const event::BatchCame& batch, std::uint64_t skip, std::uint64_t count) {
  if (batch.skip) {
    end_group();
    admit_block(batch, skip, count, true);
    if (*batch.skip != LossReason::filter) {
      const Offset first = head_ - count + 1;
      record_loss(make_loss({}, first, head_, LossReason::upstream, false));
      unsaid_.emplace_back(first, changes_);
    }
    return;
  }
  const auto records = batch.records.subspan(skip, count);
  if (!records.front().continues) end_group();
  // Through the last place after which nothing is unfinished.
  std::uint64_t whole = records.back().open ? count - 1 : count;
  while (whole > 0 && whole < count && records[whole - 1].open && records[whole].continues) --whole;
  if (whole > 0) admit_block(batch, skip, whole, true);
  if (whole < count) admit_block(batch, skip + whole, count - whole, false);
}

// What comes after the head continues nothing before it.
void StreamMachine::end_group() {
  clean_head_ = head_;
  window_.end_group();
  if (!torn_) return;
  torn_.reset();
  for (auto& sink : sinks_) {
    if (sink->report_waits) resolve_report(*sink);  // its drop ends here
    end_unwanted_drop(*sink);
  }
}

// The next `count` records, in one block.
void StreamMachine::take(BlockInfo block, std::uint64_t count) {
  block.first = head_ + 1;
  block.last = head_ + count;
  block.arrived = now_.steady;
  block.received = now_.wall;
  running_bytes_ += block.bytes;
  block.running_bytes = running_bytes_;
  window_.push(block);
  head_ = block.last;
  if (block.ends_clean) clean_head_ = head_;
}

void StreamMachine::admit_block(const event::BatchCame& batch, std::uint64_t skip,
                                std::uint64_t count, bool ends_clean) {
  const Offset first = head_ + 1;
  BlockInfo block;
  if (skip == 0 && count == batch.count) {
    block.bytes = batch.bytes;
  } else if (!batch.skip) {
    for (const RecordInfo& record : batch.records.subspan(skip, count)) block.bytes += record.bytes;
  }
  if (!batch.skip) {
    block.starts_clean = !batch.records[skip].continues;
    block.inside_record = batch.records[skip + count - 1].inside_record;
  }
  block.ends_clean = ends_clean;
  take(block, count);
  if (gap_through_ && head_ >= *gap_through_) end_gap();  // the producer had it after all
  if (batch.mark_index && *batch.mark_index >= skip && *batch.mark_index < skip + count) {
    marks_.emplace_back(first + (*batch.mark_index - skip), std::string(batch.mark));
    if (marks_.size() > kMaxPendingMarks) marks_.erase(marks_.end() - 2);
  }
  out_->push_back(
      action::Admit{batch.session, skip, count, first, table_.position_of(first), running_bytes_});
}

// The running byte count through safe_, which may have left the window.
// At most: inside a block nobody knows which record has which bytes, and a producer that counts its
// own must not be refused for that.
std::uint64_t StreamMachine::running_at_safe() const {
  if (safe_ >= head_) return running_bytes_;
  if (const BlockInfo* block = window_.find(safe_ + 1)) {
    return safe_ < block->first ? block->running_bytes - block->bytes : block->running_bytes;
  }
  return window_.empty() ? running_bytes_ : window_.front().running_bytes - window_.front().bytes;
}

}  // namespace spillway::recovery
