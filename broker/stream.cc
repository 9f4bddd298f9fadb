#include "broker/stream.h"

#include <unistd.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

#include "base/invariant.h"
#include "broker/log/log.h"
#include "broker/sinks/make_sink.h"

namespace spillway::broker {

namespace asio = boost::asio;

namespace {

double limit_of(const std::optional<std::uint64_t>& limit) {
  return limit ? static_cast<double>(*limit) : metrics::kNever;
}

double limit_of(const std::optional<std::chrono::milliseconds>& limit) {
  return limit ? std::chrono::duration<double>(*limit).count() : metrics::kNever;
}

metrics::SinkOptions options_of(const std::string& stream, const config::Sink& sink) {
  metrics::SinkOptions options;
  options.stream = stream;
  options.sink = sink.name;
  options.type = config::type_of(sink);
  options.limit_bytes = limit_of(sink.max_bytes);
  options.limit_records = limit_of(sink.max_records);
  options.limit_age_seconds = limit_of(sink.max_age);
  options.outage_timeout_seconds = limit_of(sink.outage_timeout);
  return options;
}

}  // namespace

Stream::Slot::Slot(Stream& stream, SinkId id_, const config::Sink& config_,
                   metrics::Metrics& metrics)
    : id(id_),
      config(config_),
      probe(metrics, options_of(stream.name_, config_)),
      port(stream, id_),
      sink(make_sink(stream.io_, config_, port)) {}

Stream::Stream(asio::io_context& io, Setup setup)
    : io_(io),
      config_(std::move(setup.config)),
      name_(config_.name),
      journal_(setup.journal),
      ingress_(setup.ingress),
      probe_(setup.metrics, {name_,
                             config_.acks == config::Acks::all    ? "all"
                             : config_.acks == config::Acks::none ? "none"
                                                                  : "quorum",
                             config_.window_bytes}),
      machine_(std::move(setup.policy)),
      timer_(io) {
  for (std::size_t i = 0; i < config_.sinks.size(); ++i) {
    slots_.push_back(std::make_unique<Slot>(*this, SinkId{static_cast<std::uint32_t>(i)},
                                            config_.sinks[i], setup.metrics));
    slots_.back()->probe.entered(metrics::SinkState::journaling);
  }
}

Stream::~Stream() {
  for (const auto& [id, session] : sessions_) session->detach();
}

recovery::Now Stream::now() const {
  using std::chrono::floor;
  recovery::Now now;
  now.steady = floor<recovery::Millis>(std::chrono::steady_clock::now());
  now.wall = floor<recovery::Millis>(std::chrono::system_clock::now()).time_since_epoch().count();
  return now;
}

// --- events -----------------------------------------------------------------------------------

void Stream::handle(recovery::Event event) {
  queue_.push_back(std::move(event));
  if (stepping_) return;
  stepping_ = true;
  while (!queue_.empty()) {
    const recovery::Event next = std::move(queue_.front());
    queue_.pop_front();
    step(next);
  }
  stepping_ = false;
  arm();
}

void Stream::step(const recovery::Event& event) {
  if (!started_) return;
  const recovery::Now at = now();
  stepped_at_ = at.wall;
  actions_.clear();
  machine_.step(at, event, actions_);
  // Reads first: the journal's thread then works while this one writes to sockets.
  const auto reads = [](const recovery::Action& action) {
    return std::holds_alternative<recovery::action::Read>(action);
  };
  for (recovery::Action& action : actions_) {
    if (reads(action)) execute(action);
  }
  for (recovery::Action& action : actions_) {
    if (!reads(action)) execute(action);
  }
  note_safe();
  note_causes();
  note_blocked();
  for (const auto& slot : slots_) note_outage(*slot, at);
}

void Stream::arm() {
  const auto deadline = machine_.deadline();
  if (!deadline || (armed_ && *armed_ <= *deadline)) return;
  // At least a millisecond ahead: a deadline that a Ticked does not move must not spin.
  armed_ = std::max(*deadline, now().steady + recovery::Millis(1));
  timer_.expires_at(*armed_);
  timer_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
    const auto self = weak.lock();
    if (error || !self) return;
    self->armed_.reset();
    const auto due = self->machine_.deadline();
    if (due && *due <= self->now().steady) return self->handle(recovery::event::Ticked{});
    self->arm();
  });
}

void Stream::begin(recovery::event::Started started, std::function<void()> done) {
  started_ = true;
  safe_noted_ = started.journal_end;
  handle(std::move(started));
  safe_noted_ = std::max(safe_noted_, machine_.safe());
  done();
}

void Stream::stop(std::function<void()> done) {
  if (!started_) return done();
  stopped_ = std::move(done);
  handle(recovery::event::StopAsked{journal_writable_});
}

void Stream::finish_stop() {
  const auto sessions = sessions_;
  for (const auto& [id, session] : sessions) session->goodbye("the broker stops");
  auto left = std::make_shared<std::size_t>(slots_.size());
  for (const auto& slot : slots_) {
    slot->sink->stop([self = shared_from_this(), left] {
      if (--*left > 0 || !self->stopped_) return;
      log::info("stream stopped",
                {{"stream", self->name_}, {"safe", self->position_of(self->machine_.safe())}});
      std::exchange(self->stopped_, nullptr)();
    });
  }
}

void Stream::journal_down() { handle(recovery::event::JournalDown{}); }
void Stream::disk_has_room() { handle(recovery::event::DiskHasRoom{}); }

// --- producers --------------------------------------------------------------------------------

void Stream::introduce(Introduction introduction) {
  if (hung_up(introduction.descriptor)) {
    // Its next connection may have come before it, and must not be fenced by it.
    ::close(introduction.descriptor);
    log::info("producer left before its Hello was looked at",
              {{"stream", name_}, {"address", introduction.address}});
    return;
  }
  const SessionId id = introduction.session;
  const v1::Hello hello = introduction.hello;
  const auto session = std::make_shared<ProducerSession>(io_, std::move(introduction),
                                                         config_.max_record_bytes, *this);
  sessions_.emplace(id, session);
  log::info("producer connected", {{"stream", name_},
                                   {"address", session->address()},
                                   {"agent", hello.agent()},
                                   {"generation", hello.generation()}});
  recovery::event::HelloCame event;
  event.session = id;
  event.generation = hello.generation();
  if (hello.has_acknowledged()) event.acknowledged = wire::from_proto(hello.acknowledged());
  if (hello.has_oldest()) event.oldest = wire::from_proto(hello.oldest());
  event.resumes = hello.resumes();
  if (hello.assign_epoch()) event.wish = recovery::event::EpochWish::assign;
  if (hello.own_epoch() != 0) {
    event.wish = recovery::event::EpochWish::own;
    event.own_epoch = hello.own_epoch();
  }
  generation_asked_ = event.generation;
  handle(event);
  session->start();
}

void Stream::run_came(SessionId session, const Run& run) {
  INVARIANT(!stepping_);  // the run lives only until this returns
  // Before the machine sees any of it: nothing behind a fork may be taken.
  if (const auto fork = fork_of(run)) {
    probe_.order_violation();
    log::error("producer sent other content under a position that is here already",
               {{"stream", name_}, {"position", *fork}});
    if (ProducerSession* const found = session_of(session)) {
      found->reject({wire::RejectCode::fork,
                     to_string(*fork) + " is here already, with other content", *fork});
    }
    return;
  }
  run_ = &run;
  handle(run.event(session));
  run_ = nullptr;
}

std::optional<Position> Stream::fork_of(const Run& run) const {
  const auto first = machine_.epochs().offset_of(run.first());
  if (!first || *first > machine_.head()) return std::nullopt;
  const Offset last = std::min(*first + run.count() - 1, machine_.head());
  return run.fork_in(window_, *first, last);
}

void Stream::session_ended(SessionId session, std::string_view why) {
  const auto found = sessions_.find(session);
  if (found == sessions_.end()) return;
  log::info("producer left",
            {{"stream", name_}, {"address", found->second->address()}, {"why", why}});
  sessions_.erase(found);
  handle(recovery::event::SessionEnded{session});
}

void Stream::refused(wire::RejectCode code) { ingress_.rejected(wire::name_of(code)); }

ProducerSession* Stream::session_of(SessionId id) {
  const auto found = sessions_.find(id);
  return found == sessions_.end() ? nullptr : found->second.get();
}

// --- operators ----------------------------------------------------------------------------------

constexpr auto kStarting = "the stream is still starting";

Stream::Slot* Stream::find_slot(const std::string& sink) {
  for (const auto& slot : slots_) {
    if (slot->config.name == sink) return slot.get();
  }
  return nullptr;
}

bool Stream::command(const std::string& sink, recovery::SinkCommand command, Reply reply) {
  Slot* const slot = find_slot(sink);
  if (slot == nullptr) return false;
  if (!started_) {
    reply(false, kStarting);
    return true;
  }
  const std::uint64_t request = next_request_++;
  replies_.emplace(request, std::move(reply));
  handle(recovery::event::SinkCommanded{request, slot->id, command});
  return true;
}

bool Stream::reset(const std::string& sink, std::optional<Position> from, bool accept_drop,
                   Reply reply) {
  Slot* const slot = find_slot(sink);
  if (slot == nullptr) return false;
  if (!started_) {
    reply(false, kStarting);
    return true;
  }
  const Offset target = machine_.reset_target(from).value_or(0);  // else the machine refuses
  const Offset taken = machine_.standing(slot->id).passed;
  if (target > taken && !accept_drop) {
    reply(false, "the sink has not taken the " + std::to_string(target - taken) +
                     " records before that; they are let go only with accept_drop");
    return true;
  }
  const std::uint64_t request = next_request_++;
  replies_.emplace(request, std::move(reply));
  handle(recovery::event::SinkReset{request, slot->id, from});
  return true;
}

void Stream::clear_halt(recovery::event::HaltCleared how, Reply reply) {
  if (!started_) return reply(false, kStarting);
  if (how.accept_loss && !journal_writable_) {
    return reply(
        false,
        "the journal is damaged so that it can only be read, and nothing new could be made "
        "safe: stop the broker and run `spillway journal repair`");
  }
  how.request = next_request_++;
  // It was tried: whether causes are left is what halted() says, and the text.
  replies_.emplace(how.request,
                   [reply = std::move(reply)](bool, std::string text) { reply(true, text); });
  handle(how);
}

}  // namespace spillway::broker
