#include "tests/simulation/producer.h"

#include <algorithm>
#include <utility>

#include "tests/simulation/world.h"

namespace spillway::simulation {

using recovery::Millis;
using recovery::RejectCode;
namespace event = recovery::event;

namespace {
constexpr Millis kPatience{15000};  // for a Welcome
}  // namespace

Producer::Producer(World& world, const Plan& plan, std::uint64_t seed)
    : world_(world), plan_(plan.producer), script_(plan.producer, seed), target_(plan.records) {
  if (plan_.relay) {
    script_.begin(1000, std::nullopt);
    next_ = {1000, 1};
  }
}

// --- connections
// ----------------------------------------------------------------------------------

Producer::Session* Producer::find(std::uint64_t id) {
  for (Session& session : sessions_) {
    if (session.id == id) return &session;
  }
  return nullptr;
}

Producer::Session& Producer::open_session() {
  std::erase_if(sessions_, [](const Session& s) { return !s.client_open && !s.server_open; });
  Session session;
  session.id = next_session_++;
  session.in_at = session.out_at = world_.now();
  sessions_.push_back(std::move(session));
  return sessions_.back();
}

void Producer::say(Session& session, Frame frame) {
  session.in_at = std::max(session.in_at, world_.now() + world_.random().delay() / 8);
  session.in.push_back(std::move(frame));
  world_.schedule(session.in_at - world_.now(), What::frame_in, 0, session.id);
}

void Producer::answer(Session& session, Reply reply) {
  if (!session.client_open) return;
  session.out_at = std::max(session.out_at, world_.now() + world_.random().delay() / 8);
  session.out.push_back(reply);
  world_.schedule(session.out_at - world_.now(), What::frame_out, 0, session.id);
}

void Producer::close_server(Session& session) {
  if (!session.server_open) return;
  session.server_open = false;
  session.in.clear();
  world_.schedule(world_.random().delay() / 8, What::session_ended, 0, session.id);
  answer(session, {.kind = Kind::closed});
}

void Producer::on_session_ended(std::uint64_t id) {
  if (Session* session = find(id)) {
    session->server_open = false;
    session->in.clear();
  }
  world_.tell(event::SessionEnded{SessionId{id}});
}

void Producer::lose_broker() {
  for (Session& session : sessions_) {
    if (!session.server_open) continue;
    session.server_open = false;
    session.in.clear();
    if (world_.random().chance(0.5)) session.out.clear();
    answer(session, {.kind = Kind::closed});
  }
}

void Producer::break_off() {
  Session* session = current();
  current_ = 0;
  streaming_ = false;
  if (session == nullptr) return;
  session->client_open = false;
  session->out.clear();
  if (!session->server_open) return;
  // A Hello of a connection that is over is not read: it would fence the next one.
  const bool greeting = !session->in.empty() && session->in.front().hello.has_value();
  const std::uint64_t arrive = greeting ? 0 : world_.random().below(session->in.size() + 1);
  session->in.resize(arrive);
  session->in_at = std::max(session->in_at, world_.now());
  world_.schedule(session->in_at - world_.now() + world_.random().delay(), What::session_ended, 0,
                  session->id);
}

void Producer::on_frame_in(std::uint64_t id) {
  Session* session = find(id);
  if (session == nullptr || !session->server_open || session->in.empty()) return;
  Frame frame = std::move(session->in.front());
  session->in.pop_front();
  if (frame.hello) return world_.tell(*frame.hello);
  if (session->finishing) {
    if (!session->inside) return;
    // Only the rest of the record that it is sending.
    const auto end =
        std::ranges::find_if(frame.records, [](const Record& r) { return !r.info.inside_record; });
    if (end != frame.records.end()) frame.records.erase(end + 1, frame.records.end());
  }
  session->inside = frame.records.back().info.inside_record;
  hand_over(*session, frame);
  session = find(id);
  if (session != nullptr && session->finishing && !session->inside) close_server(*session);
}

void Producer::hand_over(Session& session, const Frame& frame) {
  event::BatchCame batch;
  batch.session = SessionId{session.id};
  batch.first = frame.records.front().at;
  batch.count = frame.records.size();
  batch.skip = frame.records.front().skip;
  batch.previous = frame.previous;
  std::vector<recovery::RecordInfo> infos;
  std::string mark;
  for (const Record& record : frame.records) {
    batch.bytes += record.info.bytes;
    if (!batch.skip) infos.push_back(record.info);
    if (!record.mark) continue;
    batch.mark_index = infos.size() - 1;
    mark = to_string(record.at);
  }
  batch.records = infos;
  batch.mark = mark;
  world_.tell_batch(batch, frame.records);
}

bool Producer::inside_record(SessionId id) const {
  for (const Session& session : sessions_) {
    if (session.id == value_of(id)) return session.inside;
  }
  return false;
}

// --- what the broker says
// ---------------------------------------------------------------------------

void Producer::on(const recovery::action::Welcome& welcome) {
  Session* session = find(value_of(welcome.session));
  if (session == nullptr || !session->server_open) return;
  Reply reply{.kind = Kind::welcome,
              .held = welcome.held,
              .safe = welcome.safe,
              .generation = welcome.generation,
              .halted = !welcome.halted.empty()};
  if (!script_.epochs().empty() && !script_.knows(welcome.held.epoch)) {
    reply.epoch_before_ends = world_.end_of_epoch(script_.epochs().back().number);
  }
  answer(*session, reply);
}

void Producer::on(const recovery::action::Reject& reject) {
  Session* session = find(value_of(reject.session));
  if (session == nullptr) return;
  answer(*session, {.kind = Kind::reject, .code = reject.code});
  close_server(*session);
}

void Producer::on(const recovery::action::Finish& finish) {
  Session* session = find(value_of(finish.session));
  if (session == nullptr || !session->server_open) return;
  session->finishing = true;
  if (!session->inside) close_server(*session);
}

void Producer::on(const recovery::action::Cut& cut) {
  if (Session* session = find(value_of(cut.session))) close_server(*session);
}

void Producer::acknowledge(Position safe) {
  // To the current session: the one that was welcomed last and has not ended.
  for (auto session = sessions_.rbegin(); session != sessions_.rend(); ++session) {
    if (world_.is_current(SessionId{session->id})) {
      return answer(*session, {.kind = Kind::acknowledge, .safe = safe});
    }
  }
}

void Producer::halt() {
  for (Session& session : sessions_) {
    if (session.server_open) answer(session, {.kind = Kind::halt});
  }
}

void Producer::resume(Position held) {
  for (Session& session : sessions_) {
    if (session.server_open) answer(session, {.kind = Kind::resume, .held = held});
  }
}

void Producer::on_frame_out(std::uint64_t id) {
  Session* session = find(id);
  if (session == nullptr || !session->client_open || session->out.empty()) return;
  const Reply reply = session->out.front();
  session->out.pop_front();
  if (session->rival) {
    require(reply.kind != Kind::welcome, "a fenced producer was welcomed");
    if (reply.kind == Kind::closed) session->client_open = false;
    return;
  }
  const bool mine = id == current_;
  switch (reply.kind) {
    case Kind::welcome:
      if (mine) on_welcome(reply);
      break;
    case Kind::acknowledge:
      if (mine) take_acknowledgement(reply.safe);
      break;
    case Kind::halt:
      if (!mine) break;
      halted_ = true;
      ignores_halt_ = world_.hit(Fault::producer_ignores_halt);
      break;
    case Kind::resume:
      if (!mine || !streaming_) break;
      halted_ = false;
      next_ = std::max(script_.after(reply.held),
                       acknowledged_ ? script_.after(*acknowledged_) : Position{});
      break;
    case Kind::reject:
      world_.count_reject(reply.code);
      if (!mine || session->overflowed) break;
      // After a loss it does not count what of the epochs before is in flight.
      if (reply.code == RejectCode::in_flight && world_.lost_something()) break;
      require(reply.code == RejectCode::shutting_down || reply.code == RejectCode::replaced,
              "a producer that keeps to the rules was rejected, code",
              static_cast<int>(reply.code));
      break;
    case Kind::closed:
      session->client_open = false;
      if (mine) {
        current_ = 0;
        streaming_ = false;
      }
      break;
  }
}

void Producer::on_welcome(const Reply& reply) {
  const bool first_life = script_.epochs().empty();
  if (!fresh_ && !plan_.relay && !first_life && world_.lost_something()) {
    // A store that went back to before an epoch in which it published ends the client.
    const std::uint64_t newest = script_.epochs().back().number;
    if (reply.held.epoch < newest && script_.known({newest, 1}) != nullptr) return forget();
  }
  if (!script_.knows(reply.held.epoch)) {
    require(!plan_.relay, "Welcome names an epoch that the relay did not:", reply.held);
    require(reply.held.sequence == 0, "Welcome holds records of an unknown epoch:", reply.held);
    script_.begin(reply.held.epoch, reply.epoch_before_ends);
    wants_epoch_ = false;
    if (oldest_) oldest_ = Position{reply.held.epoch, 1};  // the rest of the last one is dropped
  }
  // Where a quorum or less is asked for, a crash takes back what only memory held.
  if (acknowledged_ && !first_life && world_.acknowledges_for_good() && !world_.lost_something()) {
    require(reply.safe >= *acknowledged_, "Welcome takes back what was acknowledged: safe",
            reply.safe, "after", *acknowledged_);
  }
  if (fresh_ && !plan_.resumes) {
    script_.rewrite_after(reply.held);
    oldest_ = script_.after(reply.held);
  }
  const bool published =
      script_.known({script_.epochs().back().number, 1}) != nullptr;  // in the newest epoch
  if ((fresh_ || !published) && !plan_.relay && world_.lost_something()) {
    script_.reopen(reply.held.epoch);
  }
  require(reply.held >= reply.safe, "held is behind safe");
  fresh_ = false;
  generation_ = reply.generation;
  if (!acknowledged_ || *acknowledged_ < reply.safe || !world_.acknowledges_for_good() ||
      world_.lost_something()) {
    acknowledged_ = reply.safe;
  }
  next_ = script_.after(reply.held);
  halted_ = reply.halted;
  ignores_halt_ = false;
  streaming_ = true;
}

void Producer::take_acknowledgement(Position safe) {
  if (acknowledged_ && safe < *acknowledged_) return;
  acknowledged_ = safe;
  next_ = std::max(next_, script_.after(safe));  // a late Resume may have set it back
  if (plan_.resumes) return;
  // What is acknowledged may be forgotten.
  Position oldest = safe;
  oldest.sequence -= std::min(oldest.sequence, plan_.retained);
  oldest = script_.after(oldest);
  if (!oldest_ || *oldest_ < oldest) oldest_ = oldest;
}

// --- its own will
// -----------------------------------------------------------------------------------

void Producer::act() {
  Millis next = world_.random().delay();
  if (world_.hit(Fault::producer_unpunctual)) next += Millis(world_.random().below(20000));
  world_.schedule(next, What::producer_acts);
  if (!world_.broker_up()) return;
  if (current_ == 0) return connect();
  if (!streaming_) {
    if (world_.now() - asked_at_ > kPatience) break_off();
    return;
  }
  if (world_.tracing() && !world_.faults_on()) {
    world_.trace("producer next ", next_, " acknowledged ", acknowledged_.value_or(Position{}),
                 " oldest ", oldest_.value_or(Position{}), " in flight ", in_flight(), " more ",
                 has_more(), " halted ", halted_);
  }
  send_batch();
}

void Producer::connect() {
  Session& session = open_session();
  current_ = session.id;
  streaming_ = false;
  asked_at_ = world_.now();
  send_hello(session, generation_);
}

void Producer::send_hello(Session& session, std::uint64_t generation) {
  event::HelloCame hello;
  hello.session = SessionId{session.id};
  hello.generation = generation;
  hello.acknowledged = acknowledged_;
  hello.oldest = oldest_;
  hello.resumes = plan_.resumes;
  if (plan_.relay) {
    hello.wish = event::EpochWish::own;
    hello.own_epoch = script_.epochs().back().number;
    if (!hello.oldest) hello.oldest = Position{script_.epochs().front().number, 1};
  } else if (wants_epoch_) {
    hello.wish = event::EpochWish::assign;
  }
  // One that resumes names what it goes on with, should the broker not know that epoch any more.
  if (!hello.oldest && !fresh_ && acknowledged_ && !script_.epochs().empty()) {
    const Position newest{script_.epochs().back().number, 1};
    if (acknowledged_ < newest && script_.known(newest))
      hello.oldest = script_.after(*acknowledged_);
  }
  if (world_.tracing()) {
    world_.trace("hello session ", session.id, " generation ", generation, " acknowledged ",
                 acknowledged_.value_or(Position{}), acknowledged_ ? "" : " (unknown)", " oldest ",
                 hello.oldest.value_or(Position{}), hello.oldest ? "" : " (unknown)", " resumes ",
                 hello.resumes, " wish ", static_cast<int>(hello.wish));
  }
  Frame frame;
  frame.hello = hello;
  say(session, std::move(frame));
}

void Producer::act_as_rival(std::uint64_t generation) {
  if (!world_.broker_up() || generation == 0 || generation >= generation_) return;
  if (world_.lost_something()) return;  // its generation may be forgotten
  Session& session = open_session();
  session.rival = true;
  send_hello(session, generation);
}

std::uint64_t Producer::in_flight() const {
  std::uint64_t bytes = 0;
  Position at = script_.after(acknowledged_.value_or(Position{}));
  for (const Script::Epoch& epoch : script_.epochs()) {  // it may never have heard of this one
    if (!script_.knows(at.epoch) && epoch.number > at.epoch) at = {epoch.number, 1};
  }
  if (world_.lost_something())
    at = std::max(at, Position{next_.epoch, 1});  // others went with the store
  while (at < next_) {
    const Record* record = script_.known(at);
    if (record == nullptr) {  // the end of an epoch that it never heard of
      const auto epoch =
          std::ranges::upper_bound(script_.epochs(), at.epoch, {}, &Script::Epoch::number);
      if (epoch == script_.epochs().end()) break;
      at = {epoch->number, 1};
      continue;
    }
    bytes += record->info.bytes;
    at = script_.after(at);
  }
  return bytes;
}

bool Producer::has_more() const {
  if (script_.known(next_) != nullptr) return true;
  if (script_.total() < target_) return true;
  // It does not leave a group unfinished.
  const Record* last =
      next_.sequence > 1 ? script_.known({next_.epoch, next_.sequence - 1}) : nullptr;
  return last != nullptr && last->info.open;
}

void Producer::send_batch() {
  Session* session = current();
  if (session == nullptr) return;
  if (plan_.relay && script_.known(next_) == nullptr && world_.hit(Fault::producer_new_epoch)) {
    const std::uint64_t newest = script_.epochs().back().number;
    script_.begin(newest + 1 + world_.random().below(5), next_.sequence - 1);
    next_ = script_.after({newest, next_.sequence - 1});
  }
  if (!has_more() || (oldest_ && next_ < *oldest_)) return;
  Frame frame;
  std::uint64_t bytes = in_flight();
  const std::uint64_t limit = world_.plan().policy.producer_in_flight();
  const std::uint64_t count = world_.random().between(1, plan_.batch_max);
  const bool overflows = world_.hit(Fault::producer_overflows);
  if (next_.sequence == 1) {
    // The last record before it, over epochs that stayed empty.
    for (const Script::Epoch& epoch : script_.epochs()) {
      if (epoch.number < next_.epoch && epoch.end && (*epoch.end > 0 || !frame.previous)) {
        frame.previous = Position{epoch.number, *epoch.end};
      }
    }
  }
  Position at = next_;
  const std::uint64_t epoch = next_.epoch;
  while (frame.records.size() < count && at.epoch == epoch) {
    if (script_.known(at) == nullptr && !has_more()) break;
    const Record* record = script_.at(at);
    if (record == nullptr) break;
    if (!frame.records.empty() && record->skip != frame.records.front().skip) break;
    if (halted_ && !ignores_halt_ && !record->info.continues) break;
    if (bytes + record->info.bytes > limit && !overflows) break;
    bytes += record->info.bytes;
    frame.records.push_back(*record);
    at = script_.after(at);
    next_ = at;
  }
  if (frame.records.empty()) return;
  session->overflowed = session->overflowed || bytes > limit;
  say(*session, std::move(frame));
}

// --- faults
// ---------------------------------------------------------------------------------------

void Producer::forget() {
  break_off();
  acknowledged_.reset();
  oldest_.reset();
  generation_ = 0;
  fresh_ = true;
  halted_ = false;
}

void Producer::come_twice() {
  Session* old = current();
  if (old == nullptr || !streaming_) return;
  world_.schedule(Millis(world_.random().below(20000)), What::rival_acts, 0, generation_);
  current_ = 0;  // the old connection lives on without its process
  forget();
  connect();
}

// It can no longer send what comes right after what was acknowledged.
void Producer::lose_tail() {
  if (!acknowledged_ || current_ != 0) return;
  Position oldest = script_.after(*acknowledged_);
  const std::uint64_t far = world_.random().between(1, 6);
  for (std::uint64_t i = 0; i < far && script_.known(oldest) != nullptr; ++i) {
    oldest = script_.after(oldest);
  }
  if (!oldest_ || *oldest_ < oldest) oldest_ = oldest;
}

void Producer::want_new_epoch() {
  if (plan_.relay) return;
  break_off();
  wants_epoch_ = true;
}

bool Producer::satisfied() const {
  return streaming_ && !has_more() && acknowledged_ && in_flight() == 0 &&
         script_.after(*acknowledged_) == next_;
}

}  // namespace spillway::simulation
