#include "tests/simulation/sim_sink.h"

#include <algorithm>
#include <utility>

#include "tests/simulation/world.h"

namespace spillway::simulation {

using recovery::Millis;
using recovery::SinkLoss;
namespace event = recovery::event;

void Sink::connect(Attempt attempt) {
  require(state_ == State::idle, "connect while an attempt is under way: sink", index_);
  require(value_of(attempt) > value_of(attempt_), "an attempt number came again");
  attempt_ = attempt;
  state_ = State::connecting;
  world_.schedule(world_.random().delay(), What::sink_connect, index_, value_of(attempt));
}

void Sink::on_connect(Attempt attempt) {
  if (state_ != State::connecting || attempt != attempt_) return;
  const SinkId id = world_.id_of(index_);
  if (world_.hit(Fault::connect_failed)) return end(SinkLoss::connect_failed);
  if (world_.hit(Fault::connect_refused)) return end(SinkLoss::refused);
  if (world_.hit(Fault::connect_silent)) {
    // The sink's own deadline for a connection ends it.
    world_.schedule(Millis(3000), What::sink_connect, index_, value_of(attempt));
    return;
  }
  state_ = State::connected;
  sent_ = through_ = told_ = assembling_ = 0;
  silent_ = false;
  slow_ = plan_.slow && world_.random().chance(0.5);
  busy_until_ = acknowledge_at_ = world_.now();
  event::SinkConnected connected{id, attempt, std::nullopt};
  if (plan_.reports) connected.held = last_;
  world_.tell(connected);
}

void Sink::close(Attempt attempt) {
  require(attempt == attempt_, "closed an attempt that was not begun: sink", index_);
  cut();
}

void Sink::cut() {
  if (state_ == State::connected && !silent_) {
    // What was under way arrives in part; nobody hears of it.
    while (!inbox_.empty() && world_.random().chance(0.5)) {
      const Message message = inbox_.front();
      inbox_.pop_front();
      const Offset through = world_.random().between(message.first - 1, message.last);
      if (!take(message, through, true)) break;
      if (through < message.last) break;
    }
  }
  inbox_.clear();
  state_ = State::idle;
  assembling_ = 0;
}

void Sink::end(SinkLoss cause) {
  inbox_.clear();
  state_ = State::idle;
  assembling_ = 0;
  world_.tell(event::SinkLost{world_.id_of(index_), attempt_, cause});
}

void Sink::send(Attempt attempt, Offset first, Offset last, std::optional<LossReason> skip) {
  require(attempt == attempt_ && state_ != State::connecting, "sent without a connection: sink",
          index_);
  if (state_ == State::idle) return;  // it has ended, and the machine does not know yet
  require(first <= last, "an empty send");
  require(sent_ == 0 || first == sent_ + 1, "what is sent leaves a gap: from", first, "after",
          sent_);
  sent_ = last;
  inbox_.push_back({first, last, skip});
  busy_until_ = std::max(busy_until_, world_.now()) + world_.random().delay() / (slow_ ? 1 : 4);
  world_.schedule(busy_until_ - world_.now(), What::sink_arrive, index_, value_of(attempt));
}

void Sink::on_arrival(Attempt attempt) {
  if (state_ != State::connected || attempt != attempt_ || inbox_.empty()) return;
  const Message message = inbox_.front();
  inbox_.pop_front();
  if (world_.hit(Fault::refused)) return end(SinkLoss::refused);
  if (world_.hit(Fault::lost_in_batch)) {
    const Offset through = world_.random().between(message.first - 1, message.last);
    if (!take(message, through, false)) return;
    if (through_ > told_ && world_.random().chance(0.5)) {
      told_ = through_;
      world_.tell(event::SinkAcked{world_.id_of(index_), attempt, through_});
      if (state_ != State::connected || attempt != attempt_) return;
    }
    return end(SinkLoss::broken);
  }
  if (!take(message, message.last, false)) return;
  if (world_.hit(Fault::silence)) silent_ = true;
  acknowledge_later();
}

void Sink::acknowledge_later() {
  if (silent_ || through_ <= told_) return;
  const Offset claim = world_.hit(Fault::overclaim) ? sent_ + 1'000'000 : through_;
  told_ = through_;
  Millis delay = world_.random().delay() / 4;
  if (slow_ || world_.hit(Fault::slow_acks)) delay += world_.random().delay() * 2;
  acknowledge_at_ = std::max(acknowledge_at_, world_.now() + delay);
  world_.schedule(acknowledge_at_ - world_.now(), What::sink_ack, index_, value_of(attempt_),
                  claim);
}

void Sink::on_acknowledge(Attempt attempt, Offset through) {
  if (state_ != State::connected || attempt != attempt_) return;
  world_.tell(event::SinkAcked{world_.id_of(index_), attempt, through});
}

// False when it refuses a record and ends the attempt; silently, if nobody is there to hear it.
bool Sink::take(const Message& message, Offset through, bool silently) {
  if (message.skip && through < message.last) return true;  // as a whole, or not at all
  for (Offset offset = message.first; offset <= through; ++offset) {
    if (message.skip) {
      const Position position = world_.position_of(offset);
      finish_assembly(offset - 1);
      Record record;
      record.at = position;
      record.skip = message.skip;
      take_record(offset, record);
      through_ = offset;
      continue;
    }
    const Record& record = world_.record(offset);
    if (assembling_ != 0 && !record.info.continues) finish_assembly(offset - 1);
    if (plan_.assembles && record.info.inside_record) {
      if (assembling_ == 0) assembling_ = offset;
      continue;
    }
    if (refuses(record)) {
      if (silently) return false;
      const Offset first = assembling_ != 0 ? assembling_ : offset;
      std::uint64_t bytes = 0;
      for (Offset o = first; o <= offset; ++o) bytes += world_.record(o).info.bytes;
      const bool told = through_ > told_ && world_.random().chance(0.5);
      inbox_.clear();
      state_ = State::idle;
      assembling_ = 0;
      world_.count(Fault::rejected);
      if (told) world_.tell_acknowledged(index_, attempt_, through_);
      world_.tell_rejected(index_, attempt_, first, offset, bytes);
      return false;
    }
    const Offset first = assembling_ != 0 ? assembling_ : offset;
    assembling_ = 0;
    for (Offset o = first; o <= offset; ++o) take_record(o, world_.record(o));
    through_ = offset;
  }
  return true;
}

// The parts of a record whose end never came are of no use, and done with.
void Sink::finish_assembly(Offset through) {
  if (assembling_ == 0) return;
  for (Offset offset = std::exchange(assembling_, 0); offset <= through; ++offset) {
    take_record(offset, world_.record(offset));
    through_ = offset;
  }
}

void Sink::take_record(Offset offset, const Record& record) {
  const Offset begin = world_.end_of(world_.begin_of(index_));
  Offset have = last_ ? world_.end_of(*last_) : begin;
  if (have < begin && offset == begin + 1) have = begin;  // new to this store
  while (have + 1 < offset && world_.excuses(index_, world_.position_of(have + 1))) ++have;
  const bool missing = record.skip.has_value();
  if (missing && *record.skip != LossReason::filter) {
    require(world_.lost_something() || world_.journal().ledgered(index_, record.at),
            "skipped without a durable ledger entry:", record.at, "sink", index_);
  }
  if (offset <= have) {
    Stored& here = stored(record.at);
    if (missing) {
      if (here.cell == Cell::none) here.cell = Cell::skipped;
      return;
    }
    require(!plan_.reports || world_.lost_something(),
            "a duplicate for a sink that says what it holds:", record.at, "sink", index_);
    require(offset > world_.stored_cursor(index_),
            "a duplicate before the stored cursor:", record.at, "sink", index_);
    require(here.cell != Cell::taken || here.content == record.content,
            "other content for a position that the sink holds:", record.at, "sink", index_);
    here = {record.content, Cell::taken};
    ++duplicates_;
    world_.progress();
    return;
  }
  require(offset == have + 1, "a gap: got", record.at, "offset", offset, "after", have, "sink",
          index_);
  Stored& here = stored(record.at);
  require(missing || here.cell != Cell::taken || here.content == record.content,
          "other content for a position that the sink took before:", record.at, "sink", index_);
  if (missing) {
    if (here.cell != Cell::taken) here.cell = Cell::skipped;
  } else {
    here = {record.content, Cell::taken};
  }
  last_ = record.at;
  world_.progress();
}

bool Sink::refuses(const Record& record) const {
  return rejecting_ && plan_.rejects_one_in != 0 && !record.skip &&
         mix(record.content + index_) % plan_.rejects_one_in == 0;
}

// Somebody deleted all that it held.
void Sink::empty() {
  for (Shelf& shelf : shelves_) {
    for (Stored& here : shelf.records) {
      if (here.cell == Cell::taken) here.cell = Cell::lost;
    }
  }
  last_.reset();
}

bool Sink::roll_back() {
  if (!plan_.reports || !last_ || state_ == State::connected) return false;
  const std::uint64_t back = world_.random().between(1, 10);
  if (last_->sequence <= back) return false;
  rolled_back_ = true;
  for (std::uint64_t i = 0; i < back; ++i) {
    Stored& here = stored(*last_);
    if (here.cell == Cell::taken) here.cell = Cell::lost;
    --last_->sequence;
  }
  return true;
}

Sink::Stored& Sink::stored(Position position) {
  auto shelf = std::ranges::find(shelves_, position.epoch, &Shelf::epoch);
  if (shelf == shelves_.end()) shelf = shelves_.insert(shelf, Shelf{position.epoch, {}});
  if (shelf->records.size() < position.sequence) shelf->records.resize(position.sequence);
  return shelf->records[position.sequence - 1];
}

const Sink::Stored* Sink::find(Position position) const {
  const auto shelf = std::ranges::find(shelves_, position.epoch, &Shelf::epoch);
  if (shelf == shelves_.end() || position.sequence == 0) return nullptr;
  if (shelf->records.size() < position.sequence) return nullptr;
  return &shelf->records[position.sequence - 1];
}

bool Sink::took(const Record& record) const {
  const Stored* here = find(record.at);
  return here && (here->cell == Cell::taken || here->cell == Cell::lost) &&
         here->content == record.content;
}

bool Sink::took_any(Position position) const {
  const Stored* here = find(position);
  return here && here->cell == Cell::taken;
}

bool Sink::holds(const Record& record) const {
  const Stored* here = find(record.at);
  return here && here->cell == Cell::taken && here->content == record.content;
}

bool Sink::holds_other(const Record& record) const {
  const Stored* here = find(record.at);
  return here && here->cell == Cell::taken && here->content != record.content;
}

}  // namespace spillway::simulation
