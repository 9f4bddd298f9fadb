#include "broker/producer_session.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

#include "base/invariant.h"

namespace spillway::broker {

namespace asio = boost::asio;
using wire::RejectCode;

namespace {

Connection::Socket adopt(asio::io_context& io, const Introduction& introduction) {
  return Connection::Socket(io, introduction.protocol, introduction.descriptor);
}

template <class Frame>
void add_causes(Frame& out, const std::vector<recovery::HaltCause>& causes) {
  for (const recovery::HaltCause& cause : causes) {
    v1::HaltCause& added = *out.Add();
    added.set_kind(static_cast<v1::HaltKind>(cause.kind));
    added.set_sink(cause.sink);
    added.set_text(cause.text);
    *added.mutable_position() = wire::to_proto(cause.position);
    added.set_since_ms(cause.since);
  }
}

}  // namespace

RejectCode reject_code(recovery::RejectCode code) {
  switch (code) {
    case recovery::RejectCode::fenced: return RejectCode::fenced;
    case recovery::RejectCode::replaced: return RejectCode::replaced;
    case recovery::RejectCode::gap: return RejectCode::gap;
    case recovery::RejectCode::fork: return RejectCode::fork;
    case recovery::RejectCode::epoch: return RejectCode::epoch;
    case recovery::RejectCode::in_flight: return RejectCode::in_flight;
    case recovery::RejectCode::shutting_down: return RejectCode::shutting_down;
    case recovery::RejectCode::malformed: return RejectCode::malformed;
    case recovery::RejectCode::journal_down: return RejectCode::busy;
  }
  return RejectCode::malformed;
}

ProducerSession::ProducerSession(asio::io_context& io, Introduction introduction,
                                 std::uint64_t max_record_bytes, SessionOwner& owner)
    : owner_(&owner),
      id_(introduction.session),
      address_(std::move(introduction.address)),
      asked_generation_(introduction.hello.generation()),
      max_record_bytes_(max_record_bytes),
      io_(io),
      watch_timer_(io) {
  introduction.reader.set_max_frame_bytes(wire::kDefaultMaxFrameBytes);
  connection_ = std::make_shared<Connection>(
      adopt(io, introduction), std::move(introduction.reader), *this, std::move(introduction.slot));
}

void ProducerSession::start() {
  if (ended_) return;
  watch();
  const auto self = shared_from_this();
  on_bytes();  // what came right behind Hello
  if (!ended_) connection_->start();
}

// --- what comes in ------------------------------------------------------------------------------

void ProducerSession::on_bytes() {
  const auto self = shared_from_this();  // the owner may let go of it meanwhile
  heard_ = true;
  for (;;) {
    const auto frame = connection_->reader().next();
    if (!frame) {
      flush_run();
      return refuse({RejectCode::too_large, frame.error().message});
    }
    if (!*frame) break;
    if (!take_frame(**frame)) return;
  }
  flush_run();
}

bool ProducerSession::take_frame(std::span<const std::byte> frame) {
  if (!wire::is_batch(frame)) return take_control(frame);
  if (welcomed_) return take_batch(frame);
  refuse({RejectCode::malformed, "a batch before Welcome"});
  return false;
}

bool ProducerSession::take_batch(std::span<const std::byte> frame) {
  const auto refuse_after_run = [this](const wire::Refusal& refusal) {
    flush_run();
    refuse(refusal);
    return false;
  };
  const auto bytes = wire::batch_of(frame);
  if (!bytes) return refuse_after_run({RejectCode::malformed, bytes.error().message});
  auto batch = wire::parse_batch(*bytes);
  if (!batch) return refuse_after_run({RejectCode::malformed, batch.error().message});
  if (expected_ != batch->first() || batch->skip) parts_ = {};
  std::optional<wire::NewestMark> mark;
  shapes_.clear();
  if (!batch->skip) {
    const auto refusal = wire::scan_records(*batch, max_record_bytes_, parts_, shapes_, mark);
    if (refusal) return refuse_after_run(*refusal);
  }
  expected_ = Position{batch->epoch, batch->first_sequence + batch->count};
  bool complete = false;
  if (finish_with_ && !batch->skip) {
    // Only as far as the record that had begun.
    const auto last = std::ranges::find(shapes_, false, &wire::RecordShape::inside_record);
    complete = last != shapes_.end();
    if (complete) {
      const auto count = static_cast<std::uint64_t>(last - shapes_.begin()) + 1;
      *batch = wire::sub_batch(*batch, shapes_, 0, count);
      shapes_.resize(count);
      if (mark && mark->index >= count) mark.reset();
    }
  }
  if (!run_.fits(*batch)) flush_run();
  if (ended_) return false;
  run_.append(*batch, shapes_, mark);
  return complete ? refuse_after_run(*finish_with_) : true;
}

bool ProducerSession::take_control(std::span<const std::byte> bytes) {
  const auto frame = wire::decode(bytes);
  if (!frame) {
    flush_run();
    refuse({RejectCode::malformed, frame.error().message});
    return false;
  }
  switch (frame->frame_case()) {
    case v1::Frame::kPing: send(wire::encode_pong(frame->ping().nonce())); return true;
    case v1::Frame::kPong: return true;
    case v1::Frame::kGoodbye:
      flush_run();
      end("the producer said goodbye");
      return false;
    default: break;
  }
  flush_run();
  refuse({RejectCode::malformed, "a frame that producers do not send"});
  return false;
}

void ProducerSession::flush_run() {
  if (!run_.empty() && !ended_) owner_->run_came(id_, run_);
  run_.clear();
}

// --- what goes out ------------------------------------------------------------------------------

void ProducerSession::send(std::string bytes) {
  if (ended_) return;
  spoke_ = true;
  connection_->send(std::move(bytes));
}

void ProducerSession::send(const v1::Frame& frame) { send(wire::encode(frame)); }

void ProducerSession::welcome(const recovery::action::Welcome& welcome, std::uint64_t epoch,
                              std::uint64_t max_in_flight_bytes) {
  welcomed_ = true;
  v1::Frame frame;
  v1::Welcome& out = *frame.mutable_welcome();
  out.set_version(wire::kVersion);
  out.set_generation(welcome.generation);
  out.set_epoch(epoch);
  *out.mutable_held() = wire::to_proto(welcome.held);
  *out.mutable_safe() = wire::to_proto(welcome.safe);
  if (welcome.mark_position.sequence != 0) {
    out.set_mark(welcome.mark);
    *out.mutable_mark_position() = wire::to_proto(welcome.mark_position);
  }
  out.set_max_frame_bytes(wire::kDefaultMaxFrameBytes);
  out.set_max_record_bytes(max_record_bytes_);
  out.set_max_in_flight_bytes(max_in_flight_bytes);
  out.set_ping_interval_ms(static_cast<std::uint64_t>(kPingInterval.count()));
  add_causes(*out.mutable_halt(), welcome.halted);
  send(frame);
}

void ProducerSession::acknowledge(Position safe, Position taken) {
  if (ended_) return;
  acknowledgement_ = Acknowledgement{safe, taken};
  if (acknowledging_ || connection_->sending()) return;
  // Whatever else is acknowledged in this turn of the reactor goes along.
  acknowledging_ = true;
  asio::post(io_, [self = shared_from_this()] {
    self->acknowledging_ = false;
    if (!self->ended_ && !self->connection_->sending()) self->send_acknowledgement();
  });
}

void ProducerSession::send_acknowledgement() {
  if (!acknowledgement_) return;
  const Acknowledgement now = *acknowledgement_;
  acknowledgement_.reset();
  send(wire::encode_ack(now.safe, now.taken));
}

void ProducerSession::on_drained() {
  if (!acknowledging_) send_acknowledgement();
}

void ProducerSession::halt(const std::vector<recovery::HaltCause>& causes) {
  v1::Frame frame;
  add_causes(*frame.mutable_halt()->mutable_causes(), causes);
  send(frame);
}

void ProducerSession::resume(Position held) {
  v1::Frame frame;
  *frame.mutable_resume()->mutable_held() = wire::to_proto(held);
  send(frame);
}

// --- how it ends
// ----------------------------------------------------------------------------------

void ProducerSession::refuse(const wire::Refusal& refusal) {
  if (ended_) return;
  send_acknowledgement();
  owner_->refused(refusal.code);
  connection_->farewell(wire::encode_reject(refusal));
  end(refusal.text);
}

void ProducerSession::finish(RejectCode code, std::string text) {
  finish_with_ = wire::Refusal{code, std::move(text)};
  if (parts_.next_part != 0) return;
  // Not from within the stream's step: the end of a session is an event of its own.
  asio::post(io_, [self = shared_from_this()] {
    if (!self->ended_ && self->parts_.next_part == 0) self->refuse(*self->finish_with_);
  });
}

void ProducerSession::goodbye(std::string reason) {
  if (ended_) return;
  send_acknowledgement();
  v1::Frame frame;
  frame.mutable_goodbye()->set_reason(std::move(reason));
  connection_->farewell(wire::encode(frame));
  end("goodbye");
}

void ProducerSession::cut() { end("it did not finish its record in time"); }

void ProducerSession::end(std::string_view why) {
  if (ended_) return;
  ended_ = true;
  watch_timer_.cancel();
  connection_->close_unless_parting();
  if (SessionOwner* const owner = std::exchange(owner_, nullptr)) owner->session_ended(id_, why);
}

void ProducerSession::on_closed(std::string_view why) {
  const auto self = shared_from_this();
  end(why);
}

void ProducerSession::detach() {
  owner_ = nullptr;
  ended_ = true;
  watch_timer_.cancel();
  connection_->close_unless_parting();
}

void ProducerSession::watch() {
  watch_timer_.expires_after(kPingInterval);
  watch_timer_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
    const auto self = weak.lock();
    if (error || !self || self->ended_) return;
    self->silent_ = self->heard_ ? 0 : self->silent_ + 1;
    self->heard_ = false;
    if (self->silent_ >= kDeadAfterPings) {
      return self->end("nothing was heard of it for three ping intervals");
    }
    if (!self->spoke_) self->send(wire::encode_ping(++self->nonce_));
    self->spoke_ = false;
    self->watch();
  });
}

}  // namespace spillway::broker
