// The machine's actions, one function each.
#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

#include "base/invariant.h"
#include "broker/log/log.h"
#include "broker/state_codec.h"
#include "broker/stream.h"
#include "wire/batch.h"

namespace spillway::broker {

namespace asio = boost::asio;
namespace action = recovery::action;

namespace {

recovery::WriteOutcome outcome_of(journal::Outcome outcome) {
  switch (outcome) {
    case journal::Outcome::ok: return recovery::WriteOutcome::ok;
    case journal::Outcome::failed: return recovery::WriteOutcome::failed;
    case journal::Outcome::disk_bound: return recovery::WriteOutcome::disk_bound;
    case journal::Outcome::min_free: return recovery::WriteOutcome::min_free;
  }
  return recovery::WriteOutcome::failed;
}

metrics::SinkState state_of(recovery::State state) {
  switch (state) {
    case recovery::State::journaling: return metrics::SinkState::journaling;
    case recovery::State::replaying: return metrics::SinkState::replaying;
    case recovery::State::live: return metrics::SinkState::live;
    case recovery::State::parked: return metrics::SinkState::parked;
    case recovery::State::paused: return metrics::SinkState::paused;
  }
  return metrics::SinkState::journaling;
}

BlockPtr skip_block(const action::AdmitSkip& skip, recovery::WallMs received) {
  auto block = std::make_shared<Block>();
  block->first = skip.first;
  block->position = skip.position;
  block->count = skip.count;
  block->skip = skip.reason;
  block->received_ms = received;
  block->running_bytes = skip.running_bytes;
  return block;
}

}  // namespace

void Stream::execute(recovery::Action& action) {
  std::visit([this](auto& a) { on(a); }, action);
}

// --- producers --------------------------------------------------------------------------------

void Stream::on(action::Admit& a) {
  INVARIANT(run_ != nullptr);
  BlockPtr block = run_->block(a.skip, a.count, a.first, a.position, a.running_bytes, stepped_at_);
  if (!block->skip) probe_.received(block->count, block->bytes());
  window_.push(std::move(block));
}

void Stream::on(action::Duplicate& a) { probe_.duplicates_dropped(a.count); }

void Stream::on(action::Discard&) {}  // they come again after Resume

void Stream::on(action::AdmitSkip& a) {
  window_.push(skip_block(a, stepped_at_));
  probe_.gap();
}

void Stream::on(action::Welcome& a) {
  ProducerSession* const session = session_of(a.session);
  if (session == nullptr) return handle(recovery::event::SessionEnded{a.session});
  producer_ = a.session;
  log::info("producer welcomed", {{"stream", name_},
                                  {"address", session->address()},
                                  {"generation", a.generation},
                                  {"held", a.held},
                                  {"safe", a.safe}});
  // Where an epoch has just begun, the last position before it tells the producer more.
  const std::uint64_t epoch = a.held.epoch;
  if (a.held.sequence == 0 && machine_.head() > 0) a.held = position_of(machine_.head());
  session->welcome(a, epoch, machine_.policy().producer_in_flight());
}

void Stream::on(action::Reject& a) {
  log::warning("producer refused", {{"stream", name_}, {"why", a.text}});
  if (a.code == recovery::RejectCode::gap) probe_.order_violation();
  if (ProducerSession* const session = session_of(a.session)) {
    session->reject({reject_code(a.code), std::move(a.text)});
  }
}

void Stream::on(action::Finish& a) {
  ProducerSession* const session = session_of(a.session);
  if (session == nullptr) return handle(recovery::event::SessionEnded{a.session});
  const std::uint64_t generation = machine_.wanted().generation;
  if (generation_asked_ == generation) {
    session->finish(wire::RejectCode::replaced, "another connection of this producer took over");
  } else {
    session->finish(wire::RejectCode::fenced,
                    "generation " + std::to_string(generation) + " is over: a newer one took over");
  }
}

void Stream::on(action::Cut& a) {
  if (ProducerSession* const session = session_of(a.session)) session->cut();
}

void Stream::on(action::Acknowledge& a) {
  if (ProducerSession* const session = session_of(producer_)) session->acknowledge(a.safe, a.taken);
}

void Stream::on(action::Halt& a) {
  if (ProducerSession* const session = session_of(producer_)) session->halt(a.causes);
}

void Stream::on(action::Resume& a) {
  log::info("stream resumed", {{"stream", name_}, {"held", a.held}});
  if (ProducerSession* const session = session_of(producer_)) session->resume(a.held);
}

// --- window and journal -------------------------------------------------------------------------

void Stream::on(action::Evict& a) {
  note_safe();  // while the blocks are here
  window_.evict(a.through);
}

void Stream::on(action::Write& a) {
  journal::Commit commit;
  commit.stream = name_;
  commit.generation = journal_generation_;
  for (const action::AdmitSkip& fill : a.fills) {
    commit.append.push_back(skip_block(fill, stepped_at_));
  }
  if (a.append_last != 0) window_.collect(a.append_first, a.append_last, commit.append);
  commit.state = encode_state(*a.state);
  commit.watermark = a.watermark;
  for (const recovery::Loss& loss : a.losses) commit.ledger.push_back(ledger_entry(loss));
  add_dead_letters(a, commit);
  commit.use_group_reserve = a.use_group_reserve;
  journal_.commit(std::move(commit),
                  [self = shared_from_this(), id = a.id](journal::Outcome outcome) {
                    asio::post(self->io_, [self, id, outcome] {
                      self->handle(recovery::event::Written{id, outcome_of(outcome)});
                    });
                  });
}

journal::LedgerEntry Stream::ledger_entry(const recovery::Loss& loss) const {
  journal::LedgerEntry entry;
  entry.id = loss.id;
  entry.sink = loss.sink;
  entry.first = loss.first_position;
  if (!loss.growing) {
    entry.last = loss.last_position;
    entry.count = loss.last - loss.first + 1;
  }
  entry.reason = loss.reason;
  entry.time_ms = loss.time;
  entry.upper_bound = loss.upper_bound;
  entry.text = loss.text;
  return entry;
}

void Stream::add_dead_letters(const action::Write& write, journal::Commit& commit) {
  for (const recovery::DeadLetterNote& note : write.dead_letters) {
    const Slot& slot = slot_of(note.sink);
    const auto dead = std::ranges::find(slot.dead, note.first, &DeadRecord::first);
    INVARIANT(dead != slot.dead.end());
    commit.dead_letters.push_back({slot.config.name, dead->record, note.reason, note.time});
  }
}

void Stream::on(action::Trim&) { journal_.trim(name_); }

void Stream::on(action::WriteLatch& a) {
  journal_.write_latch(name_, encode_latch(a.causes),
                       [self = shared_from_this(), id = a.id](bool ok) {
                         asio::post(self->io_, [self, id, ok] {
                           self->handle(recovery::event::LatchWritten{id, ok});
                         });
                       });
}

void Stream::on(action::Read& a) {
  journal_.read(name_, a.from, a.through, a.max_bytes,
                [self = shared_from_this(), sink = a.sink, id = a.id](journal::ReadResult result) {
                  asio::post(self->io_, [self, sink, id, result = std::move(result)]() mutable {
                    self->read_done(self->slot_of(sink), id, std::move(result));
                  });
                });
}

void Stream::read_done(Slot& slot, std::uint64_t id, journal::ReadResult result) {
  recovery::event::ReadDone event;
  event.sink = slot.id;
  event.id = id;
  event.ok = result.ok;
  event.lost = result.lost;
  const recovery::Instant arrived = now().steady;
  event.blocks.reserve(result.blocks.size());
  for (const BlockPtr& block : result.blocks) {
    recovery::BlockInfo info;
    info.first = block->first;
    info.last = block->last();
    info.bytes = block->bytes();
    info.running_bytes = block->running_bytes;
    info.arrived = arrived;
    info.received = block->received_ms;
    info.ends_clean = block->ends_clean;
    info.inside_record = !block->ends_clean && wire::ends_inside_record(*block);
    event.blocks.push_back(info);
  }
  if (result.lost) {
    probe_.corruption_found(metrics::Corruption::read);
    log::error("journal is damaged", {{"stream", name_},
                                      {"sink", slot.config.name},
                                      {"first", position_of(result.lost->first)},
                                      {"last", position_of(result.lost->second)},
                                      {"why", result.error}});
  } else if (!result.ok) {
    log::warning("journal cannot be read",
                 {{"stream", name_}, {"sink", slot.config.name}, {"why", result.error}});
  }
  slot.read_id = id;
  slot.read = std::move(result.blocks);
  handle(std::move(event));
  slot.read.clear();  // what was sent of it is in flight
}

void Stream::on(action::Locate& a) {
  journal_.locate(name_, a.offset_min, a.bytes_min, a.received_min,
                  [self = shared_from_this(), sink = a.sink,
                   id = a.id](const Result<std::optional<journal::Location>>& location) {
                    recovery::event::Located event{sink, id, location.has_value(), 0, 0, 0};
                    if (location && *location) {
                      event.offset = (*location)->offset;
                      event.running_bytes = (*location)->running_bytes;
                      event.received = (*location)->received_ms;
                    }
                    asio::post(self->io_, [self, event] { self->handle(event); });
                  });
}

// --- sinks ------------------------------------------------------------------------------------

void Stream::on(action::Connect& a) {
  Slot& slot = slot_of(a.sink);
  if (slot.retrying) slot.probe.retried();
  slot.retrying = true;
  slot.attempt = a.attempt;
  slot.connected = false;
  slot.in_flight.clear();
  ++slot.attempts;
  slot.sink->connect(hint_for(slot, a.attempt));
}

void Stream::on(action::Close& a) {
  Slot& slot = slot_of(a.sink);
  slot.sink->close(a.attempt);
  if (a.attempt != slot.attempt) return;
  if (slot.connected) {
    slot.closing = 0;
    for (const Sent& sent : slot.in_flight) *slot.closing += sent.block->count;
  }
  slot.probe.closed();
  slot.connected = false;
  slot.in_flight.clear();
}

void Stream::on(action::Send& a) {
  Slot& slot = slot_of(a.sink);
  std::vector<BlockPtr> blocks;
  metrics::Mode mode = metrics::Mode::live;
  if (a.source == recovery::Source::memory) {
    window_.collect(a.first, a.last, blocks);
  } else {
    INVARIANT(a.read_id == slot.read_id && !slot.read.empty());
    INVARIANT(slot.read.front()->first <= a.first && a.last <= slot.read.back()->last());
    cut(slot.read.cbegin(), a.first, a.last, blocks);
    mode = metrics::Mode::replay;
  }
  for (const BlockPtr& block : blocks) slot.in_flight.push_back({block, mode});
  slot.sink->send(a.attempt, blocks);
}

// A skip block lies in one epoch, like any block.
void Stream::on(action::SendSkip& a) {
  Slot& slot = slot_of(a.sink);
  std::vector<BlockPtr> blocks;
  const std::vector<recovery::Epoch>& epochs = machine_.wanted().epochs;
  for (Offset next = a.first; next <= a.last;) {
    auto block = std::make_shared<Block>();
    block->first = next;
    block->position = position_of(next);
    Offset end = a.last;
    for (const recovery::Epoch& epoch : epochs) {
      if (epoch.base >= next) end = std::min(end, epoch.base);
    }
    block->count = end - next + 1;
    block->skip = a.reason;
    block->received_ms = stepped_at_;
    next = end + 1;
    blocks.push_back(std::move(block));
  }
  for (const BlockPtr& block : blocks) slot.in_flight.push_back({block, metrics::Mode::live});
  slot.sink->send(a.attempt, blocks);
}

// --- reports ------------------------------------------------------------------------------------

void Stream::on(action::Moved& a) {
  Slot& slot = slot_of(a.sink);
  const bool well = a.to == recovery::State::live || a.to == recovery::State::replaying;
  const auto& delivery = machine_.delivery(a.sink);
  const std::string acked = to_string(position_of(delivery.acked()));
  const auto write = well ? log::info : log::warning;
  write("sink moved", {{"stream", name_},
                       {"sink", slot.config.name},
                       {"from", recovery::name_of(a.from)},
                       {"to", recovery::name_of(a.to)},
                       {"cause", recovery::name_of(a.cause)},
                       {"acknowledged", acked}});
  slot.probe.entered(state_of(a.to));
  if (slot.closing) {
    if (a.cause == recovery::Cause::ack_timeout) {
      slot.last_error = SinkStatus::LastError{"no acknowledgement within ack_timeout", stepped_at_};
      note_closed(slot, metrics::Failure::silent);
    } else if (a.cause == recovery::Cause::protocol) {
      note_closed(slot, metrics::Failure::protocol);
    }
    slot.closing.reset();
  }
  const recovery::Now at = now();
  if (a.from == recovery::State::replaying && slot.replaying_since) {
    const double seconds = std::chrono::duration<double>(at.steady - *slot.replaying_since).count();
    const bool done = a.to == recovery::State::live;
    slot.probe.replay_ended(
        done ? metrics::ReplayResult::completed : metrics::ReplayResult::interrupted, seconds);
    slot.replaying_since.reset();
  }
  if (a.to == recovery::State::replaying) {
    slot.replaying_since = at.steady;
    slot.replay_from = delivery.acked();
  }
}

void Stream::on(action::CoverageMoved& a) {
  log::info("journal coverage moved", {{"stream", name_},
                                       {"from", recovery::name_of(a.from)},
                                       {"to", recovery::name_of(a.to)},
                                       {"first", position_of(a.first)},
                                       {"end", position_of(a.end)}});
}

void Stream::on(action::Lost& a) {
  const recovery::Loss& loss = a.loss;
  log::warning("records did not reach a sink", {{"stream", name_},
                                                {"sink", loss.sink},
                                                {"first", loss.first_position},
                                                {"last", loss.last_position},
                                                {"count", loss.fresh},
                                                {"reason", name_of(loss.reason)},
                                                {"upper_bound", loss.upper_bound},
                                                {"why", loss.text}});
  for (const auto& slot : slots_) {
    if (loss.sink.empty() || loss.sink == slot->config.name) {
      slot->probe.let_go(loss.reason, loss.fresh);
    }
  }
}

void Stream::on(action::Note& a) {
  const std::string sink = a.sink ? slot_of(*a.sink).config.name : std::string();
  const auto write = a.warning ? log::warning : log::info;
  if (a.sink) {
    write("sink note", {{"stream", name_}, {"sink", sink}, {"text", a.text}});
  } else {
    write("stream note", {{"stream", name_}, {"text", a.text}});
  }
}

void Stream::on(action::Reply& a) {
  const auto found = replies_.find(a.request);
  if (found == replies_.end()) return;
  const Reply reply = std::move(found->second);
  replies_.erase(found);
  reply(a.ok, std::move(a.text));
}

// Not from within the step: ending sessions and sinks raises events.
void Stream::on(action::StopDone&) {
  asio::post(io_, [self = shared_from_this()] { self->finish_stop(); });
}

}  // namespace spillway::broker
