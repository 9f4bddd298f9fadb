// The client's thread: connecting, what the broker says, what is sent next.
#include <algorithm>
#include <boost/asio/post.hpp>
#include <cctype>
#include <utility>

#include "base/invariant.h"
#include "client/impl.h"
#include "wire/batch.h"

namespace spillway::client {
namespace {

constexpr int kSilentIntervals = 3;
constexpr Milliseconds kDefaultPingInterval{1000};

// "HALT_KIND_MAX_BYTES" as "max_bytes".
std::string kind_of(v1::HaltKind kind) {
  std::string name = v1::HaltKind_Name(kind);
  constexpr std::string_view kPrefix = "HALT_KIND_";
  if (name.size() <= kPrefix.size()) return "unknown";
  name.erase(0, kPrefix.size());
  std::ranges::transform(name, name.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return name;
}

std::vector<HaltCause> causes_of(
    const google::protobuf::RepeatedPtrField<v1::HaltCause>& messages) {
  std::vector<HaltCause> causes;
  for (const v1::HaltCause& message : messages) {
    causes.push_back({kind_of(message.kind()), message.sink(), message.text(),
                      wire::from_proto(message.position()), message.since_ms()});
  }
  return causes;
}

}  // namespace

Client::Impl::Impl(Options options, Address address, Events events)
    : options_(std::move(options)),
      address_(std::move(address)),
      events_(std::move(events)),
      work_(io_.get_executor()),
      timer_(io_),
      random_(options_.seed != 0 ? options_.seed : std::random_device{}()) {
  status_.acknowledged = options_.acknowledged.value_or(Position{});
  if (options_.assign_epoch) epoch_ = Epoch::asked;
  boost::asio::post(io_, [this] { connect(); });
  thread_ = std::thread([this] { io_.run(); });
}

Client::Impl::~Impl() {
  close();
  thread_.join();
}

void Client::Impl::close() {
  {
    const std::lock_guard lock(mutex_);
    if (status_.state == State::closed) return;
    status_.state = State::closed;
    changed_.notify_all();
  }
  boost::asio::post(io_, [this] {
    v1::Frame frame;
    frame.mutable_goodbye()->set_reason("the producer is done");
    drop_link(wire::encode(frame));
    arm(Milliseconds{0}, nullptr);
    work_.reset();
    if (events_.on_state) events_.on_state(State::closed, "");
  });
}

// --- connecting

void Client::Impl::connect() {
  {
    const std::lock_guard lock(mutex_);
    if (over()) return;
  }
  link_ = std::make_shared<Link>(io_, *this);
  arm(options_.connect_timeout, &Impl::connect_expired);
  link_->open(address_);
}

void Client::Impl::connect_expired() {
  drop_link();
  retry("the broker did not answer in time");
}

void Client::Impl::opened() {
  arm(options_.welcome_timeout, &Impl::connect_expired);
  v1::Frame frame;
  v1::Hello& hello = *frame.mutable_hello();
  {
    const std::lock_guard lock(mutex_);
    hello.set_min_version(wire::kVersion);
    hello.set_max_version(wire::kVersion);
    hello.set_stream(options_.stream);
    hello.set_token(options_.token);
    hello.set_generation(status_.generation);
    hello.set_resumes(options_.resumes);
    hello.set_agent(options_.agent);
    const Position acknowledged = status_.acknowledged;
    if (acknowledged != Position{}) *hello.mutable_acknowledged() = wire::to_proto(acknowledged);
    if (outbox_.last() > 0) {
      const bool kept = outbox_.acknowledged() < outbox_.last();
      *hello.mutable_oldest() = wire::to_proto(
          kept ? outbox_.position_of(outbox_.acknowledged() + 1) : outbox_.next_position());
    } else if (acknowledged != Position{} && !options_.resumes) {
      *hello.mutable_oldest() = wire::to_proto({acknowledged.epoch, acknowledged.sequence + 1});
    }
    assigning_ = epoch_ == Epoch::asked || begins_behind_another();
    if (assigning_) hello.set_assign_epoch(true);
  }
  send(wire::encode(frame));
}

// Nothing was published yet, and an earlier process of this producer may have sent more than this
// one knows to be acknowledged. If the broker died since, it no longer has that, while sinks may:
// in the same epoch they would take the first records of this process for those.
bool Client::Impl::begins_behind_another() const {
  if (options_.resumes || outbox_.last() > 0 || status_.acknowledged == Position{}) return false;
  return !welcome_ || status_.acknowledged < welcome_->held;
}

void Client::Impl::lost(const std::string& why) { retry(why); }

void Client::Impl::drop_link(const std::string& last_words) {
  if (link_) link_->close(last_words);
  link_.reset();
  control_.clear();
  const std::lock_guard lock(mutex_);
  outbox_.unpin();
  if (welcomed_) lost_at_ = Clock::now();
  welcomed_ = false;
}

void Client::Impl::retry(const std::string& why, Milliseconds at_least) {
  drop_link();
  const Milliseconds delay = std::max(next_delay(), at_least);
  if (options_.give_up_after != kForever &&
      Clock::now() + delay - lost_at_ >= options_.give_up_after) {
    return fail("gave up: " + why);
  }
  set_state(State::connecting, why);
  arm(delay, &Impl::connect);
}

Milliseconds Client::Impl::next_delay() {
  double delay = static_cast<double>(options_.reconnect_initial.count());
  const auto max = static_cast<double>(options_.reconnect_max.count());
  for (int i = 0; i < attempts_ && delay < max; ++i) delay *= options_.reconnect_multiplier;
  delay = std::min(delay, max);
  ++attempts_;
  // 53 random bits as a number from -1 to 1.
  const double random = static_cast<double>(random_() >> 11) * 0x1p-52 - 1.0;
  return Milliseconds{static_cast<std::int64_t>(delay * (1 + options_.reconnect_jitter * random))};
}

void Client::Impl::fail(const std::string& why) {
  drop_link();
  arm(Milliseconds{0}, nullptr);
  set_state(State::failed, why);
}

void Client::Impl::set_state(State state, const std::string& why) {
  {
    const std::lock_guard lock(mutex_);
    if (over()) return;
    const bool same = status_.state == state;
    if (!why.empty()) status_.error = why;
    status_.state = state;
    if (state != State::halted) status_.halt.clear();
    changed_.notify_all();
    // Each failed attempt has a reason of its own; other states are told once.
    if (same && state != State::connecting) return;
  }
  if (events_.on_state) events_.on_state(state, why);
}

void Client::Impl::arm(Milliseconds delay, void (Impl::*expired)()) {
  const std::uint64_t number = ++timer_number_;
  timer_.cancel();
  if (expired == nullptr) return;
  timer_.expires_after(delay);
  timer_.async_wait([this, number, expired](boost::system::error_code) {
    if (number == timer_number_) (this->*expired)();
  });
}

void Client::Impl::keep_alive() {
  if (++silent_intervals_ > kSilentIntervals) {
    drop_link();
    return retry("the broker is silent");
  }
  if (!std::exchange(sent_something_, false) && !link_->writing()) {
    send(wire::encode_ping(timer_number_));
    sent_something_ = false;
  }
  Milliseconds interval{};
  {
    const std::lock_guard lock(mutex_);
    interval = ping_interval_;
  }
  arm(interval, &Impl::keep_alive);
}

// --- what the broker says

void Client::Impl::received(std::span<const std::byte> frame) {
  const auto message = wire::decode(frame);
  if (!message) return retry("not this protocol: " + message.error().message);
  silent_intervals_ = 0;
  bool welcomed = false;
  {
    const std::lock_guard lock(mutex_);
    welcomed = welcomed_;
  }
  switch (message->frame_case()) {
    case v1::Frame::kReject: return on_reject(message->reject());
    case v1::Frame::kPing: return send(wire::encode_pong(message->ping().nonce()));
    case v1::Frame::kGoodbye:
      return retry("the broker said goodbye: " + message->goodbye().reason(),
                   Milliseconds{static_cast<std::int64_t>(
                       std::min<std::uint64_t>(message->goodbye().retry_after_ms(), 3'600'000))});
    case v1::Frame::kWelcome:
      if (!welcomed) return on_welcome(message->welcome());
      break;
    default: break;
  }
  if (welcomed) {
    attempts_ = 0;
    switch (message->frame_case()) {
      case v1::Frame::kAck: return on_ack(message->ack());
      case v1::Frame::kHalt: return on_halt(message->halt().causes());
      case v1::Frame::kResume: return on_resume(message->resume());
      case v1::Frame::kPong: return;
      default: break;
    }
  }
  retry("not this protocol: an unexpected frame");
}

void Client::Impl::on_welcome(const v1::Welcome& message) {
  const Position held = wire::from_proto(message.held());
  if (message.version() != wire::kVersion || message.epoch() == 0 || held.epoch > message.epoch() ||
      message.max_frame_bytes() < wire::kMinMaxFrameBytes) {
    return fail("the broker's Welcome makes no sense");
  }
  Lock lock(mutex_);
  if (over()) return;
  auto change = place(message.epoch(), held);
  if (!change) {
    lock.unlock();
    return fail(change.error().message);
  }
  welcome_ = Welcome{message.generation(),
                     message.epoch(),
                     held,
                     wire::from_proto(message.safe()),
                     message.mark(),
                     wire::from_proto(message.mark_position()),
                     message.max_record_bytes(),
                     message.max_in_flight_bytes()};
  ping_interval_ = message.ping_interval_ms() == 0
                       ? kDefaultPingInterval
                       : Milliseconds{static_cast<std::int64_t>(
                             std::min<std::uint64_t>(message.ping_interval_ms(), 3'600'000))};
  welcomed_ = true;
  ++status_.connections;
  status_.generation = message.generation();
  status_.epoch = message.epoch();
  if (assigning_ && epoch_ == Epoch::asked) epoch_ = Epoch::as_is;
  const Position before = status_.acknowledged;
  acknowledge(welcome_->safe);
  const Position after = status_.acknowledged;
  const Milliseconds interval = ping_interval_;
  changed_.notify_all();
  lock.unlock();

  silent_intervals_ = 0;
  arm(interval, &Impl::keep_alive);
  if (*change && events_.on_epoch) events_.on_epoch(**change);
  if (after != before && after.sequence > 0 && events_.on_acknowledged) {
    events_.on_acknowledged(after);
  }
  if (message.halt().empty()) {
    set_state(State::live, "");
    // The halt it was told of ended while there was no connection.
    if (std::exchange(told_halt_, false) && events_.on_resume) events_.on_resume();
  } else {
    on_halt(message.halt());
  }
  pump();
}

Result<std::optional<EpochChange>> Client::Impl::place(std::uint64_t epoch, Position held) {
  using Change = std::optional<EpochChange>;
  const auto before_epoch =
      held.epoch < epoch && held != Position{} ? std::optional(held) : std::nullopt;
  const Position after_held{epoch, held.epoch == epoch ? held.sequence + 1 : 1};
  if (outbox_.last() == 0) {
    // Where records are lost that this producer saw acknowledged, their positions stay theirs.
    const Position known = options_.resumes ? Position{} : status_.acknowledged;
    const bool lower = known.epoch == epoch && known.sequence >= after_held.sequence;
    outbox_.begin_at(lower ? Position{epoch, known.sequence + 1} : after_held, before_epoch);
    return Change{};
  }
  const Position next = outbox_.next_position();
  if (assigning_ && epoch_ == Epoch::asked) {
    if (epoch <= next.epoch) return Error{"the broker did not open a newer epoch"};
    outbox_.begin_at({epoch, 1}, before_epoch);
    sent_ = outbox_.last();
    return Change{};
  }
  if (epoch < next.epoch) {
    return Error{"the broker went back to epoch " + std::to_string(epoch) + " from epoch " +
                 std::to_string(next.epoch)};
  }
  if (epoch == next.epoch ? held >= next : held.epoch == epoch && held.sequence > 0) {
    return Error{"the stream went on to " + to_string(held) + " without this producer, at " +
                 to_string(next)};
  }
  // {epoch, 0} of an epoch that is news says nothing of the records before it.
  const bool silent = epoch != next.epoch && held.epoch == epoch;
  sent_ = std::max(silent ? 0 : outbox_.index_of(held), outbox_.acknowledged());
  if (epoch == next.epoch) return Change{};
  const EpochChange change{sent_ < outbox_.last() ? outbox_.position_of(sent_ + 1) : next, epoch,
                           outbox_.last() - sent_};
  outbox_.renumber_after(sent_, epoch, before_epoch);
  if (change.records > 0) status_.published = outbox_.position_of(outbox_.last());
  return Change{change};
}

void Client::Impl::acknowledge(Position safe) {
  if (safe <= status_.acknowledged) return;
  status_.acknowledged = safe;
  outbox_.acknowledge(std::min(outbox_.index_of(safe), std::max(sent_, outbox_.acknowledged())));
  changed_.notify_all();
}

void Client::Impl::on_ack(const v1::Ack& ack) {
  const Position safe = wire::from_proto(ack.safe());
  const Position taken = wire::from_proto(ack.taken());
  Lock lock(mutex_);
  const Position end = outbox_.next_position();
  const Position newest = std::max(safe, taken);
  if (newest >= end || outbox_.index_of(newest) > sent_) {
    lock.unlock();
    return retry("the broker acknowledged what it was not sent");
  }
  const bool safer = safe > status_.acknowledged;
  const bool further = taken > status_.taken;
  acknowledge(safe);
  if (further) status_.taken = taken;
  changed_.notify_all();
  lock.unlock();
  if (safer && events_.on_acknowledged) events_.on_acknowledged(safe);
  if (further && events_.on_taken) events_.on_taken(taken);
  pump();
}

void Client::Impl::on_reject(const v1::Reject& reject) {
  const auto code = static_cast<wire::RejectCode>(reject.code());
  std::string text = "refused (" + std::string(wire::name_of(code)) + "): " + reject.text();
  if (reject.has_position()) text += ", at " + to_string(wire::from_proto(reject.position()));
  if (reject.retryable()) return retry(text);
  fail(text);
}

void Client::Impl::on_halt(const google::protobuf::RepeatedPtrField<v1::HaltCause>& messages) {
  const std::vector<HaltCause> causes = causes_of(messages);
  std::string why;
  for (const HaltCause& cause : causes) {
    why += (why.empty() ? "" : "; ") + cause.kind + (cause.sink.empty() ? "" : " of " + cause.sink);
    if (!cause.text.empty()) why += ": " + cause.text;
  }
  {
    const std::lock_guard lock(mutex_);
    if (over()) return;
    status_.halt = causes;
  }
  told_halt_ = true;
  set_state(State::halted, why);
  if (events_.on_halt) events_.on_halt(causes);
}

void Client::Impl::on_resume(const v1::Resume& resume) {
  bool halted = false;
  {
    const std::lock_guard lock(mutex_);
    if (over()) return;
    halted = status_.state == State::halted;
    // What was sent beyond held was discarded, also by a halt that was over before it was told.
    const Index held = outbox_.index_of(wire::from_proto(resume.held()));
    sent_ = std::max(std::min(held, sent_), outbox_.acknowledged());
  }
  if (halted) {
    told_halt_ = false;
    set_state(State::live, "");
    if (events_.on_resume) events_.on_resume();
  }
  pump();
}

// --- sending

void Client::Impl::send(const std::string& frame) {
  control_ += frame;
  pump();
}

void Client::Impl::written() {
  {
    const std::lock_guard lock(mutex_);
    outbox_.unpin();
  }
  pump();
}

void Client::Impl::pump() {
  std::optional<RecordRun> run;
  std::string head;
  {
    const std::lock_guard lock(mutex_);
    pump_scheduled_ = false;
    if (!link_ || link_->writing()) return;
    head = std::exchange(control_, {});
    if (welcomed_) {
      const std::uint64_t in_flight =
          outbox_.bytes_through(sent_) - outbox_.bytes_through(outbox_.acknowledged());
      const std::uint64_t limit = welcome_->max_in_flight_bytes;
      const bool halted = status_.state == State::halted;
      run = outbox_.run_after(sent_, limit - std::min(limit, in_flight), in_flight == 0, halted);
    }
    if (run) {
      outbox_.pin(sent_);
      sent_ = run->last;
      head += wire::batch_frame_header(run->first, run->count, run->records.size(), std::nullopt,
                                       run->previous);
    }
  }
  if (head.empty()) return;
  sent_something_ = true;
  link_->write(std::move(head), run ? run->records : std::span<const std::byte>());
}

}  // namespace spillway::client
