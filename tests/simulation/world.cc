#include "tests/simulation/world.h"

#include <algorithm>
#include <utility>

namespace spillway::simulation {

namespace event = recovery::event;
using recovery::Millis;

namespace {

constexpr std::uint64_t kStepsMin = 300;
constexpr std::uint64_t kFaultsMin = 3;
constexpr std::uint64_t kStepsMax = 2500;  // of the part with faults
constexpr std::uint64_t kLivenessSteps = 60'000;
constexpr Millis kOperatorPause{1000};
constexpr Millis kStopTimeout{10'000};

bool belongs_to_broker(What what) {
  switch (what) {
    case What::start_broker:
    case What::frame_out:
    case What::producer_acts:
    case What::rival_acts:
    case What::disk_has_room:
    case What::operator_acts: return false;
    default: return true;
  }
}

}  // namespace

World::World(std::uint64_t seed, Counts& counts, Trace& trace)
    : seed_(seed),
      counts_(counts),
      trace_(trace),
      random_(seed),
      plan_(random_),
      producer_(*this, plan_, random_.next()) {
  for (std::size_t i = 0; i < plan_.sinks.size(); ++i) add_sink();
  begun_.assign(sinks_.size(), true);
  queue_.reserve(256);
}

bool World::hit(Fault fault) {
  const double rate = plan_.rates[static_cast<std::size_t>(fault)];
  if (!faults_on_ || rate <= 0 || !random_.chance(rate)) return false;
  count(fault);
  return true;
}

void World::count(Fault fault) {
  ++faults_seen_;
  ++counts_.faults[static_cast<std::size_t>(fault)];
  if (tracing()) trace("FAULT ", name_of(fault));
}

void World::schedule(Millis delay, What what, std::size_t who, std::uint64_t a, std::uint64_t b) {
  queue_.push_back({now_ + std::max(delay, Millis(0)), ++order_,
                    belongs_to_broker(what) ? life_ : 0, what, static_cast<std::uint32_t>(who), a,
                    b});
  std::push_heap(queue_.begin(), queue_.end());
}

void World::run() {
  if (tracing()) trace("seed ", seed_, ": ", plan_.text());
  schedule(Millis(0), What::start_broker);
  schedule(Millis(0), What::producer_acts);
  while ((steps_ < kStepsMin || faults_seen_ < kFaultsMin || !producer_.satisfied()) &&
         steps_ < kStepsMax) {
    step();
  }
  while (faults_seen_ < kFaultsMin) {
    if (machine_) {
      count(Fault::crash);
      crash();
    }
    step();
  }
  begin_liveness();
  const std::uint64_t limit = steps_ + kLivenessSteps;
  while (!drained()) {
    require(steps_ < limit, "no liveness: with all faults gone it does not drain; satisfied",
            producer_.satisfied(), "halted", machine_ && machine_->halted(), "coverage",
            machine_ ? static_cast<int>(machine_->coverage()) : -1);
    step();
  }
  check_end();
  ++counts_.seeds;
  counts_.steps += steps_;
  counts_.records += promised_.size();
  for (const Sink& sink : sinks_) counts_.duplicates += sink.duplicates();
}

void World::step() {
  ++steps_;
  if (faults_on_) inject();
  std::optional<recovery::Instant> deadline;
  if (machine_) deadline = machine_->deadline();
  if (deadline && (queue_.empty() || *deadline <= queue_.front().at)) {
    if (*deadline > now_) {
      wall_ += (*deadline - now_).count();
      now_ = *deadline;
      idle_ticks_ = 0;
    }
    require(++idle_ticks_ < 20, "a deadline that has passed comes again and again");
    tell(event::Ticked{});
    if (!actions_.empty() || now_ - useless_since_ > Millis(1000)) useless_ticks_ = 0;
    if (useless_ticks_ == 0) useless_since_ = now_;
    require(++useless_ticks_ < 20, "woken again and again for nothing");
    return;
  }
  require(!queue_.empty(), "nothing is left to happen");
  std::pop_heap(queue_.begin(), queue_.end());
  const Item item = queue_.back();
  queue_.pop_back();
  if (item.at > now_) {
    wall_ += (item.at - now_).count();
    now_ = item.at;
    idle_ticks_ = 0;
  }
  if (item.life != 0 && (item.life != life_ || !machine_)) return;
  dispatch(item);
}

void World::inject() {
  if (machine_ && hit(Fault::crash)) crash();
  if (hit(Fault::crash_and_forget)) {
    if (machine_) crash();
    producer_.forget();
  }
  if (hit(Fault::producer_break)) producer_.break_off();
  if (hit(Fault::producer_forgets)) producer_.forget();
  if (hit(Fault::producer_new_epoch)) producer_.want_new_epoch();
  if (hit(Fault::wall_jump)) {
    jump(static_cast<recovery::WallMs>(random_.below(200'000)) - 100'000);
  }
  if (hit(Fault::corrupt)) journal_.damage(random_.next());
  if (!disk_full_ && hit(Fault::disk_full)) {
    disk_full_ = true;
    schedule(Millis(random_.below(15'000)), What::disk_has_room);
  }
  const std::size_t sink = random_.below(active_.size());
  if (hit(Fault::rollback)) {
    if (sinks_[active_[sink]].roll_back()) trace("sink ", sink, " is restored from a backup");
  }
  if (!machine_ || stopping_) return;
  if (hit(Fault::producer_fenced)) producer_.come_twice();
  if (hit(Fault::stale)) stale_event();
  if (hit(Fault::nudge)) tell(event::SinkNudged{SinkId{static_cast<std::uint32_t>(sink)}});
  if (machine_ && hit(Fault::operator_pause)) command(recovery::SinkCommand::pause, sink);
  if (machine_ && hit(Fault::operator_resume)) command(recovery::SinkCommand::resume, sink);
  if (machine_ && hit(Fault::operator_reconnect)) command(recovery::SinkCommand::reconnect, sink);
  if (machine_ && hit(Fault::operator_reset)) reset_sink(sink);
  if (machine_ && hit(Fault::operator_clear)) clear_halt();
  if (machine_ && hit(Fault::stop_and_start)) {
    stopping_ = true;
    schedule(kStopTimeout, What::stop_expires);
    tell(event::StopAsked{});
  }
}

void World::dispatch(const Item& item) {
  switch (item.what) {
    case What::start_broker: return start_broker();
    case What::commit_done: return finish_commits(item.a);
    case What::reopened: return reopen_journal();
    case What::latch_done: {
      if (item.a != latch_id_) return;
      if (item.b != 0) {
        journal_.latch = latching_;
        latch_asked_.reset();
      }
      return tell(event::LatchWritten{item.a, item.b != 0});
    }
    case What::read_done: {
      const auto read = std::ranges::find_if(
          reads_, [&](const PendingRead& r) { return r.id == item.a && r.sink == item.who; });
      if (read != reads_.end()) tell(read->done);
      return;
    }
    case What::located: {
      recovery::action::Locate wish;
      wish.sink = SinkId{item.who};
      wish.id = item.a;
      for (const auto& pending : locates_) {
        if (pending.id == item.a && pending.sink == wish.sink) wish = pending;
      }
      std::erase_if(locates_, [&](const auto& l) { return l.id == wish.id; });
      auto located = journal_.locate(wish);
      // Closed, or not to be read just now: no answer, which is not the answer "nowhere".
      if (journal_down_ || hit(Fault::read_failed)) located = {wish.sink, wish.id, false, 0, 0, 0};
      return tell(located);
    }
    case What::disk_has_room:
      disk_full_ = false;
      if (machine_) tell(event::DiskHasRoom{});
      return;
    case What::sink_connect: return sinks_[item.who].on_connect(Attempt{item.a});
    case What::sink_arrive: return sinks_[item.who].on_arrival(Attempt{item.a});
    case What::sink_ack: return sinks_[item.who].on_acknowledge(Attempt{item.a}, item.b);
    case What::frame_in: return producer_.on_frame_in(item.a);
    case What::session_ended: return producer_.on_session_ended(item.a);
    case What::frame_out: return producer_.on_frame_out(item.a);
    case What::producer_acts:
      if (hit(Fault::producer_lost_tail)) producer_.lose_tail();
      return producer_.act();
    case What::rival_acts: return producer_.act_as_rival(item.a);
    case What::operator_acts: return operate();
    case What::stop_expires:
      if (stopping_) crash();
      return;
  }
}

void World::tell(const recovery::Event& event) {
  if (!machine_) return;
  require(!telling_, "the simulator told the machine something from within a step");
  telling_ = true;
  settle_jumps();
  halted_before_ = machine_->halted();
  actions_.clear();
  if (!std::holds_alternative<event::Ticked>(event)) useless_ticks_ = 0;
  trace_event(event);
  std::vector<Offset> before(active_.size());
  if (!std::holds_alternative<event::Started>(event)) {
    for (std::size_t i = 0; i < active_.size(); ++i) {
      before[i] = machine_->effective(SinkId{static_cast<std::uint32_t>(i)});
    }
  }
  machine_->step(time(), event, actions_);
  if (!std::holds_alternative<event::Started>(event)) watch_jumps(event, before);
  for (const recovery::Action& action : actions_) {
    if (!machine_) break;
    execute(action);
  }
  telling_ = false;
  if (machine_ && !std::holds_alternative<event::Started>(event)) watch_limits();
  check_step();
}

void World::tell_batch(const event::BatchCame& batch, const std::vector<Record>& records) {
  if (!machine_) return;
  batch_ = &records;
  tell(batch);
  batch_ = nullptr;
}

void World::tell_acknowledged(std::size_t sink, Attempt attempt, Offset through) {
  tell(event::SinkAcked{id_of(sink), attempt, through});
}

void World::tell_rejected(std::size_t sink, Attempt attempt, Offset first, Offset last,
                          std::uint64_t bytes) {
  tell(event::SinkRejected{id_of(sink), attempt, first, last, bytes, "refused"});
}

void World::start_broker() {
  if (machine_) return;
  ++life_;
  stopping_ = false;
  journal_down_ = false;
  commits_.clear();
  refused_.reset();
  reads_.clear();
  locates_.clear();
  records_.clear();
  window_.clear();
  window_bytes_ = 0;
  told_safe_ = {};
  welcomed_ = false;
  moved_.clear();
  retired_.reset();
  latch_asked_.reset();
  recovery::StreamPolicy policy = plan_.policy;
  if (!lost_something_ && hit(Fault::policy_changed)) {
    policy.acks = random_.chance(0.5) ? recovery::Acks::all : recovery::Acks::none;
    policy_changed_ = policy_changed_ || plan_.policy.acks != policy.acks;
    plan_.policy.acks = policy.acks;
  }
  if (hit(Fault::limits_changed)) change_limits();
  policy.accept_drop = accept_drop_ = random_.chance(0.5);
  policy.seed = random_.next();
  // Not both in one run: nobody could say what a sink or a policy that changed may expect of a
  // store that lost the change.
  if (may_lose() && hit(Fault::store_lost)) lose_store();
  if (may_lose() && hit(Fault::tail_lost)) lose_tail();
  if (!lost_something_ && hit(Fault::sinks_changed)) change_sinks();
  event::Started started;
  while (!plan_start(plan_.policy, started)) obey_refusal();
  policy.sinks = plan_.policy.sinks;
  started.latched = journal_.latch;
  started.watermark = journal_.watermark();
  started.high_water = journal_.high_water();
  if (unreported_ || hit(Fault::damage_found)) started.damage = "something does not add up";
  if (journal_.state() != nullptr) {
    if (started.state->open) {
      started.journal_end = journal_.end();
      started.end_clean = journal_.end_clean();
      started.end_running_bytes = journal_.running_at(journal_.end());
      for (const auto& sink : started.state->sinks) {
        const Offset through =
            goes_on_after(*started.state, sink, started.watermark, started.journal_end);
        started.backlogs.push_back(
            {journal_.running_at(through), journal_.received_after(through)});
      }
      // A journal that lost its end, all of which was taken, has none beyond it.
      if (!journal_.blocks().empty() && journal_.blocks().back().last == journal_.end()) {
        records_first_ = journal_.blocks().front().first;
        for (Offset o = records_first_; o <= journal_.end(); ++o) {
          records_.push_back(journal_.record(o));
        }
      }
    }
  }
  machine_ = std::make_unique<recovery::StreamMachine>(std::move(policy));
  if (tracing()) {
    trace("START ", started.state->open ? "open" : "closed", " end ", journal_.end(),
          " closed_end ", started.state->closed_end, " checkpoint ", started.state->checkpoint.at);
  }
  damaged_ = damaged_ || !started.damage.empty();
  watch_next_life();
  tell(started);
  watch_started();
  require(!damaged_ || damage_is_known(), "damage was found at a start, and is not on record");
}

void World::crash() {
  if (tracing()) trace("CRASH");
  if (!journal_down_) {
    // What was made before the last reopening fails, whenever it is looked at.
    std::erase_if(commits_, [this](const Journal::Commit& commit) {
      return commit.generation != journal_generation_;
    });
    for (std::uint64_t landed = random_.below(commits_.size() + 1); landed > 0; --landed) {
      store(commits_.front());
      if (tracing()) trace("  commit ", commits_.front().id, " is in the store");
      commits_.pop_front();
    }
  }
  commits_.clear();
  if (restoring()) excuse_uncovered();
  for (Sink& sink : sinks_) sink.lose_broker();
  producer_.lose_broker();
  machine_.reset();
  damaged_ = unreported_ || damage_is_latched();
  requests_.clear();
  stopping_ = false;
  custody_dirty_ = true;
  check_custody();
  schedule(random_.delay() * (random_.chance(0.1) ? 20 : 1), What::start_broker);
}

void World::begin_liveness() {
  if (tracing()) trace("FAULTS OFF");
  faults_on_ = false;
  disk_full_ = false;
  if (machine_ && !stopping_) tell(event::DiskHasRoom{});
  for (Sink& sink : sinks_) sink.forgive();
  producer_.say_some_more();
  schedule(Millis(0), What::operator_acts);
}

bool World::drained() const {
  if (!machine_ || stopping_ || !machine_->known() || machine_->halted()) return false;
  if (!producer_.satisfied() || !commits_.empty() || journal_down_) return false;
  // Sinks that are ahead of a journal which lost its end lack nothing that could be journaled.
  bool ahead = true;
  for (std::size_t i = 0; i < active_.size(); ++i) {
    const SinkId id{static_cast<std::uint32_t>(i)};
    const recovery::DeliveryMachine& delivery = machine_->delivery(id);
    if (delivery.state() != recovery::State::live || delivery.acked() < machine_->head())
      return false;
    ahead = ahead && delivery.acked() > machine_->head();
  }
  const bool always = machine_->policy().journal == recovery::JournalMode::always;
  const bool closed = machine_->coverage() == recovery::Coverage::closed;
  return closed ? !always || ahead : always && machine_->coverage() == recovery::Coverage::open;
}

// What somebody does who sees to it that everything drains.
void World::operate() {
  schedule(kOperatorPause, What::operator_acts);
  if (!machine_ || stopping_) return;
  for (std::size_t i = 0; i < active_.size(); ++i) {
    const recovery::SinkState& state = machine_->wanted().sinks[i];
    Sink& sink = sinks_[active_[i]];
    const bool refused = state.parked.find("refused") != std::string::npos;
    const auto last = sink.last();
    if (!state.parked.empty() && last && last->epoch > machine_->epochs().current()) {
      // It has records of an epoch that went with the store: it begins anew, without them.
      const SinkId id{static_cast<std::uint32_t>(i)};
      begins_[active_[i]] = position_of(machine_->delivery(id).acked());
      sink.empty();
      excuse_unstored(active_[i]);
      command(recovery::SinkCommand::resume, i);
    } else if (!state.parked.empty() && !refused && last && machine_->epochs().knows(last->epoch)) {
      reset_sink(i);
    } else if (!state.parked.empty() || state.paused) {
      command(recovery::SinkCommand::resume, i);
    }
  }
  if (!machine_->halted()) return;
  clear_halt();
  if (++clears_ % 50 != 0 || !machine_) return;
  // A sink that assembles waits for the end of a record whose producer died, and the halt for it.
  for (const recovery::HaltCause& cause : machine_->causes()) {
    if (cause.kind != recovery::CauseKind::max_records) continue;
    const auto sink =
        std::ranges::find(plan_.policy.sinks, cause.sink, &recovery::SinkPolicy::name);
    requests_.push_back(next_request_);
    const auto index = static_cast<std::uint32_t>(sink - plan_.policy.sinks.begin());
    ever_moved_.insert(active_[index]);
    return tell(event::SinkReset{next_request_++, SinkId{index}, std::nullopt});
  }
}

void World::command(recovery::SinkCommand command, std::size_t sink) {
  requests_.push_back(next_request_);
  tell(event::SinkCommanded{next_request_++, SinkId{static_cast<std::uint32_t>(sink)}, command});
}

void World::reset_sink(std::size_t sink) {
  event::SinkReset reset{next_request_, SinkId{static_cast<std::uint32_t>(sink)}, std::nullopt};
  if (const auto last = sinks_[active_[sink]].last();
      last && (!faults_on_ || random_.chance(0.8))) {
    reset.from = Position{last->epoch, last->sequence + 1};
    if (faults_on_)
      reset.from->sequence -= random_.below(std::min<std::uint64_t>(8, last->sequence));
  }
  requests_.push_back(next_request_++);
  moved_.insert(plan_.policy.sinks[sink].name);
  ever_moved_.insert(active_[sink]);
  tell(reset);
}

void World::clear_halt() {
  event::HaltCleared clear{next_request_, true, Millis(60'000), 100'000};
  if (!faults_on_) clear.extend_time = Millis(1'000'000'000);
  requests_.push_back(next_request_++);
  damaged_ = false;  // somebody accepts what is lost
  tell(clear);
}

// A completion of something that is over: the machine must not take it for the present.
void World::stale_event() {
  const SinkId sink{static_cast<std::uint32_t>(random_.below(active_.size()))};
  const std::uint64_t now = value_of(machine_->delivery(sink).attempt());
  const Attempt old{now == 0 ? 0 : now - 1 - random_.below(std::min<std::uint64_t>(now, 3))};
  switch (random_.below(8)) {
    case 0: return tell(event::SinkConnected{sink, old, Position{1, 5}});
    case 1: return tell(event::SinkLost{sink, old, recovery::SinkLoss::broken});
    case 2: return tell(event::SinkAcked{sink, old, random_.below(machine_->head() + 3)});
    case 3: return tell(event::SinkRejected{sink, old, 1, 1, 10, "stale"});
    case 4: return tell(event::Written{0, recovery::WriteOutcome::ok});
    case 5: return tell(event::LatchWritten{0, true});
    case 6: return tell(event::ReadDone{sink, 0, true, {}, std::nullopt});
    default: return tell(event::Located{sink, 0, true, 7, 7, 0});
  }
}

const Record& World::record(Offset offset) const {
  require(offset >= records_first_ && offset < records_first_ + records_.size(),
          "no such record in this process: offset", offset);
  return records_[offset - records_first_];
}

Offset World::offset_of(Position position) const {
  return machine_->epochs().offset_of(position).value_or(0);
}

Offset World::stored_cursor(std::size_t sink) const {
  if (journal_.state() == nullptr || restoring()) return 0;  // of before a reset, perhaps
  const auto& sinks = journal_.state()->sinks;
  const auto stored = std::ranges::find(sinks, plan_.policy.sinks[value_of(id_of(sink))].name,
                                        &recovery::SinkState::name);
  if (stored == sinks.end()) return 0;
  // What is stored may count otherwise: an epoch may since have begun before what a journal lost.
  auto epochs = journal_.state()->epochs;
  return end_of(recovery::EpochTable(epochs).position_of(stored->cursor));
}

std::optional<std::uint64_t> World::end_of_epoch(std::uint64_t number) const {
  const auto& epochs = machine_->wanted().epochs;
  for (std::size_t i = 0; i + 1 < epochs.size(); ++i) {
    if (epochs[i].number == number) return epochs[i + 1].base - epochs[i].base;
  }
  return std::nullopt;
}

}  // namespace spillway::simulation
