// What sinks say, as events and metrics; and what they are told when they connect.
#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "broker/log/log.h"
#include "broker/stream.h"

namespace spillway::broker {

namespace {

recovery::SinkLoss loss_of(LossCause cause) {
  switch (cause) {
    case LossCause::connect_failed: return recovery::SinkLoss::connect_failed;
    case LossCause::broken: return recovery::SinkLoss::broken;
    case LossCause::refused: return recovery::SinkLoss::refused;
    case LossCause::protocol: return recovery::SinkLoss::protocol;
  }
  return recovery::SinkLoss::broken;
}

metrics::Failure failure_of(LossCause cause) {
  switch (cause) {
    case LossCause::connect_failed: return metrics::Failure::connect_failed;
    case LossCause::broken: return metrics::Failure::broken;
    case LossCause::refused: return metrics::Failure::refused;
    case LossCause::protocol: return metrics::Failure::protocol;
  }
  return metrics::Failure::broken;
}

// One block that holds what the pieces hold.
BlockPtr join(const std::vector<BlockPtr>& pieces) {
  if (pieces.size() == 1) return pieces.front();
  auto block = std::make_shared<Block>(*pieces.front());
  std::uint64_t size = 0;
  for (const BlockPtr& piece : pieces) size += piece->bytes();
  const auto storage = std::make_shared_for_overwrite<std::byte[]>(size);
  std::byte* out = storage.get();
  block->count = 0;
  for (const BlockPtr& piece : pieces) {
    if (piece->bytes() > 0) std::memcpy(out, piece->records.data(), piece->bytes());
    out += piece->bytes();
    block->count += piece->count;
  }
  block->running_bytes = pieces.back()->running_bytes;
  block->ends_clean = pieces.back()->ends_clean;
  block->records = {storage.get(), size};
  block->storage = storage;
  return block;
}

}  // namespace

void Stream::Port::connected(Attempt attempt, std::optional<Position> held) {
  stream_.sink_connected(stream_.slot_of(id_), attempt, held);
}
void Stream::Port::lost(Attempt attempt, LossCause cause, std::string text) {
  stream_.sink_lost(stream_.slot_of(id_), attempt, cause, std::move(text));
}
void Stream::Port::acked(Attempt attempt, Offset through) {
  stream_.sink_acked(stream_.slot_of(id_), attempt, through);
}
void Stream::Port::rejected(Attempt attempt, Offset first, Offset last, std::string text) {
  stream_.sink_rejected(stream_.slot_of(id_), attempt, first, last, std::move(text));
}
void Stream::Port::nudge() { stream_.handle(recovery::event::SinkNudged{id_}); }

void Stream::sink_connected(Slot& slot, Attempt attempt, std::optional<Position> held) {
  if (attempt != slot.attempt) return;
  slot.connected = true;
  slot.last_error.reset();
  slot.probe.connected();
  if (held) {
    log::info("sink connected", {{"stream", name_}, {"sink", slot.config.name}, {"holds", *held}});
    const auto offset = machine_.epochs().offset_of(*held);
    const Offset acked = machine_.delivery(slot.id).acked();
    if (offset && *offset > acked) slot.probe.duplicates_dropped(*offset - acked);
  } else {
    log::info("sink connected", {{"stream", name_}, {"sink", slot.config.name}});
  }
  handle(recovery::event::SinkConnected{slot.id, attempt, held});
}

void Stream::sink_lost(Slot& slot, Attempt attempt, LossCause cause, std::string text) {
  if (attempt != slot.attempt) return;
  // A sink that stays away is logged once, not at every attempt.
  const bool news = slot.connected || !slot.last_error || slot.last_error->text != text;
  if (news) {
    log::warning(slot.connected ? "sink lost" : "sink cannot be reached",
                 {{"stream", name_}, {"sink", slot.config.name}, {"why", text}});
    slot.last_error = SinkStatus::LastError{text, now().wall};
  }
  if (slot.connected) {
    std::uint64_t unacknowledged = 0;
    for (const Sent& sent : slot.in_flight) unacknowledged += sent.block->count;
    slot.probe.disconnected(failure_of(cause), unacknowledged);
  } else {
    slot.probe.connect_failed(failure_of(cause));
  }
  slot.connected = false;
  slot.in_flight.clear();
  handle(recovery::event::SinkLost{slot.id, attempt, loss_of(cause)});
}

void Stream::sink_acked(Slot& slot, Attempt attempt, Offset through) {
  if (attempt != slot.attempt) return;
  if (!slot.in_flight.empty() && through > slot.in_flight.back().block->last()) {
    slot.probe.order_violation();
    slot.last_error = SinkStatus::LastError{"it acknowledged more than it was sent", now().wall};
  }
  std::int64_t wall = 0;
  while (!slot.in_flight.empty() && slot.in_flight.front().block->last() <= through) {
    const Sent& sent = slot.in_flight.front();
    if (wall == 0) wall = now().wall;
    if (!sent.block->skip) {
      const auto age = std::max<std::int64_t>(0, wall - sent.block->received_ms);
      slot.probe.delivered(sent.mode, sent.block->count, sent.block->bytes(),
                           static_cast<double>(age) / 1000);
    }
    slot.in_flight.pop_front();
  }
  handle(recovery::event::SinkAcked{slot.id, attempt, through});
}

// The records [first, last] where this sink's connection still has them; nullptr if it has not.
BlockPtr Stream::find_sent(const Slot& slot, Offset first, Offset last) const {
  std::vector<BlockPtr> pieces;
  if (window_.holds(first, last)) {
    window_.collect(first, last, pieces);
    return join(pieces);
  }
  const auto& sent = slot.in_flight;
  if (sent.empty() || first < sent.front().block->first || last > sent.back().block->last()) {
    return nullptr;
  }
  std::vector<BlockPtr> blocks;
  std::ranges::transform(sent, std::back_inserter(blocks), &Sent::block);
  cut(blocks.cbegin(), first, last, pieces);
  return join(pieces);
}

void Stream::sink_rejected(Slot& slot, Attempt attempt, Offset first, Offset last,
                           std::string text) {
  if (attempt != slot.attempt || first > last) return;
  recovery::event::SinkRejected event;
  event.sink = slot.id;
  event.attempt = attempt;
  event.first = first;
  event.last = last;
  event.reason = text;
  if (BlockPtr record = find_sent(slot, first, last)) {
    event.bytes = record->bytes();
    std::erase_if(slot.dead, [&](const DeadRecord& dead) { return dead.first == first; });
    slot.dead.push_back({first, last, std::move(record)});
  }
  log::warning("sink refused a record for good", {{"stream", name_},
                                                  {"sink", slot.config.name},
                                                  {"position", position_of(first)},
                                                  {"why", text}});
  slot.last_error = SinkStatus::LastError{std::move(text), now().wall};
  slot.connected = false;
  slot.probe.closed();
  slot.in_flight.clear();
  handle(std::move(event));
}

ConnectHint Stream::hint_for(const Slot& slot, Attempt attempt) const {
  ConnectHint hint;
  hint.attempt = attempt;
  hint.max_record_bytes = config_.max_record_bytes;
  const recovery::EpochTable& epochs = machine_.epochs();
  if (epochs.empty()) return hint;
  hint.epoch = epochs.current();
  Offset acknowledged = machine_.durable().sinks[value_of(slot.id)].cursor;
  if (machine_.known()) {
    const Offset acked = machine_.delivery(slot.id).acked();
    acknowledged = std::max(acknowledged, std::min(acked, machine_.head()));
    hint.next = position_of(machine_.delivery(slot.id).acked() + 1);
    hint.oldest = position_of(machine_.oldest_available());
  }
  if (acknowledged > 0) hint.acknowledged = position_of(acknowledged);
  return hint;
}

// We ended the connection.
void Stream::note_closed(Slot& slot, metrics::Failure why) {
  const std::uint64_t unacknowledged = *slot.closing;
  slot.closing.reset();
  slot.probe.disconnected(why, unacknowledged);
}

}  // namespace spillway::broker
