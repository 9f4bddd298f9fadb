#include "broker/sinks/spillway_connection.h"

#include <algorithm>
#include <boost/asio/write.hpp>
#include <utility>

#include "base/write_all.h"
#include "wire/batch.h"
#include "wire/reject.h"

namespace spillway::broker {

namespace asio = boost::asio;
using boost::system::error_code;
using std::chrono::milliseconds;

namespace {

constexpr std::size_t kGatherBytes = std::size_t{256} << 10;  // of blocks in one write
constexpr std::size_t kGatherFrames = 30;  // two buffers each; a system call takes 64
constexpr std::size_t kAnswerBytes = std::size_t{1} << 10;  // read at a time; grows for a Welcome
constexpr int kSilentIntervals = 3;

template <class Causes>
std::string text_of_causes(const Causes& causes) {
  std::string text = "the receiver is halted";
  const char* separator = ": ";
  for (const v1::HaltCause& cause : causes) {
    text += separator;
    if (!cause.sink().empty()) {
      text += "sink " + cause.sink() + ": ";
    }
    text += cause.text();
    separator = "; ";
  }
  return text;
}

}  // namespace

SpillwayConnection::SpillwayConnection(asio::io_context& io, config::SpillwaySink options,
                                       std::string token, ConnectHint hint,
                                       std::shared_ptr<RelayMemory> memory, SinkEvents& events)
    : options_(std::move(options)),
      token_(std::move(token)),
      hint_(hint),
      memory_(std::move(memory)),
      events_(events),
      socket_(io),
      timer_(io),
      reader_(wire::kMaxControlBytes, kAnswerBytes) {
  headers_.reserve(kGatherFrames);
}

void SpillwayConnection::start() {
  connector_ = Connector::start(
      static_cast<asio::io_context&>(socket_.get_executor().context()), options_.connect,
      [self = shared_from_this()](StreamSocket socket, std::string error) {
        self->on_connected(std::move(socket), std::move(error));
      });
}

void SpillwayConnection::close() {
  state_ = State::closed;
  if (connector_) {
    std::exchange(connector_, nullptr)->cancel();
  }
  timer_.cancel();
  error_code ignored;
  socket_.close(ignored);
  queue_ = {};
}

void SpillwayConnection::lose(LossCause cause, std::string text) {
  const bool silent = state_ == State::halted || state_ == State::closed;
  close();
  if (!silent) {
    events_.lost(hint_.attempt, cause, std::move(text));
  }
}

void SpillwayConnection::halt(std::string text) {
  if (state_ == State::halted) {
    return;
  }
  state_ = State::halted;
  queue_ = {};
  events_.lost(hint_.attempt, LossCause::refused, std::move(text));
}

void SpillwayConnection::on_connected(StreamSocket socket, std::string error) {
  connector_.reset();
  if (state_ != State::connecting) {
    return;
  }
  if (!error.empty()) {
    lose(LossCause::connect_failed, std::move(error));
    return;
  }
  socket_ = std::move(socket);
  state_ = State::greeting;
  timer_.expires_after(kWelcomeTimeout);
  timer_.async_wait([self = shared_from_this()](error_code result) {
    if (!result && self->state_ == State::greeting) {
      self->lose(LossCause::connect_failed,
                 "no Welcome within " + std::to_string(kWelcomeTimeout.count()) + " s");
    }
  });
  say_hello();
  read();
}

void SpillwayConnection::say_hello() {
  v1::Frame frame;
  v1::Hello& hello = *frame.mutable_hello();
  hello.set_min_version(wire::kVersion);
  hello.set_max_version(wire::kVersion);
  hello.set_stream(options_.stream);
  hello.set_token(token_);
  hello.set_generation(memory_->generation);
  hello.set_resumes(true);
  hello.set_agent("spillway relay");
  if (hint_.acknowledged) {
    *hello.mutable_acknowledged() = wire::to_proto(*hint_.acknowledged);
  }
  if (hint_.oldest) {
    *hello.mutable_oldest() = wire::to_proto(*hint_.oldest);
  }
  // A receiver that knows nothing begins with the epoch named here, so it must be that of the first
  // record; one that knows us refuses an epoch older than its own, so it should be the newest.
  const bool newest = hint_.acknowledged || memory_->name_newest_epoch || !hint_.next;
  hello.set_own_epoch(newest ? hint_.epoch : hint_.next->epoch);
  write_control(wire::encode(frame));
}

void SpillwayConnection::read() {
  const std::span<std::byte> room = reader_.prepare();
  socket_.async_read_some(asio::buffer(room.data(), room.size()), [self = shared_from_this()](
                                                                      error_code error,
                                                                      std::size_t bytes) {
    if (self->state_ == State::closed) {
      return;
    }
    if (error) {
      self->lose(self->state_ == State::greeting ? LossCause::connect_failed : LossCause::broken,
                 self->write_error_.empty() ? describe(error) : self->write_error_);
      return;
    }
    self->silent_intervals_ = 0;
    self->reader_.commit(bytes);
    if (self->read_frames()) {
      self->read();
    }
  });
}

// False when the connection has ended.
bool SpillwayConnection::read_frames() {
  while (state_ != State::closed) {
    const auto frame = reader_.next();
    if (!frame) {
      lose(LossCause::protocol, frame.error().message);
      return false;
    }
    if (!*frame) {
      return true;
    }
    on_frame(**frame);
  }
  return false;
}

void SpillwayConnection::on_frame(std::span<const std::byte> bytes) {
  if (wire::is_batch(bytes)) {
    lose(LossCause::protocol, "a receiver must not send a Batch");
    return;
  }
  const Result<v1::Frame> frame = wire::decode(bytes);
  if (!frame) {
    lose(LossCause::protocol, frame.error().message);
    return;
  }
  using Kind = v1::Frame::FrameCase;
  const Kind kind = frame->frame_case();
  switch (kind) {
    case Kind::kPing: write_control(wire::encode_pong(frame->ping().nonce())); return;
    case Kind::kPong: return;
    case Kind::kReject: on_reject(frame->reject()); return;
    case Kind::kGoodbye: on_goodbye(frame->goodbye()); return;
    case Kind::kWelcome:
      if (state_ == State::greeting) {
        on_welcome(frame->welcome());
        return;
      }
      break;
    case Kind::kAck:
      if (state_ != State::greeting) {
        on_ack(frame->ack());
        return;
      }
      break;
    case Kind::kHalt:
      if (state_ != State::greeting) {
        halt(text_of_causes(frame->halt().causes()));
        return;
      }
      break;
    case Kind::kResume:
      if (state_ != State::greeting) {
        if (state_ == State::halted) {
          events_.nudge();
        } else {  // a halt that was over before it was told
          lose(LossCause::broken, "the receiver discarded what it was sent");
        }
        return;
      }
      break;
    default: break;
  }
  lose(LossCause::protocol, "a receiver must not send frame " + std::to_string(kind) + " here");
}

void SpillwayConnection::on_welcome(const v1::Welcome& welcome) {
  if (welcome.version() != wire::kVersion || welcome.max_frame_bytes() < wire::kMinMaxFrameBytes) {
    lose(LossCause::protocol, "Welcome with version " + std::to_string(welcome.version()) +
                                  " and max_frame_bytes " +
                                  std::to_string(welcome.max_frame_bytes()));
    return;
  }
  const Position held = wire::from_proto(welcome.held());
  const Position safe = wire::from_proto(welcome.safe());
  if (std::max({held.epoch, held.sequence, safe.epoch, safe.sequence}) > kMaxOffset) {
    lose(LossCause::protocol, "Welcome with a position that no stream can have");
    return;
  }
  if (safe > held) {
    lose(LossCause::protocol, "Welcome says that " + to_string(safe) + " is safe, and only " +
                                  to_string(held) + " is held");
    return;
  }
  memory_->generation = welcome.generation();
  memory_->name_newest_epoch = false;
  if (welcome.max_record_bytes() < hint_.max_record_bytes) {
    // It would find out in the middle of a record in parts, when it has the first of them.
    lose(LossCause::refused,
         "the receiver takes records of " + std::to_string(welcome.max_record_bytes()) +
             " bytes, and this stream's may have " + std::to_string(hint_.max_record_bytes) +
             ": raise max_record_bytes there, or lower it here");
    return;
  }
  start_pings(milliseconds(welcome.ping_interval_ms()));
  if (welcome.halt_size() > 0) {
    halt(text_of_causes(welcome.halt()));
    return;
  }
  const RelayQueue::Limits limits{welcome.max_frame_bytes() - wire::kMaxBatchHeaderBytes,
                                  welcome.max_in_flight_bytes()};
  queue_ = RelayQueue(held, safe, limits);
  state_ = State::open;
  events_.connected(hint_.attempt,
                    safe == Position{} ? std::nullopt : std::optional<Position>(safe));
}

void SpillwayConnection::on_ack(const v1::Ack& ack) {
  if (state_ != State::open) {
    return;  // what comes while halted will be in the next Welcome
  }
  if (auto wrong = queue_.take_safe(wire::from_proto(ack.safe()))) {
    lose(LossCause::protocol, std::move(*wrong));
    return;
  }
  settle();
  pump();
}

void SpillwayConnection::settle() {
  if (const std::optional<Offset> through = queue_.settle()) {
    events_.acked(hint_.attempt, *through);
  }
}

void SpillwayConnection::on_reject(const v1::Reject& reject) {
  const auto code = static_cast<wire::RejectCode>(reject.code());
  std::string text =
      "the receiver refuses (" + std::string(wire::name_of(code)) + "): " + reject.text();
  const bool about_record =
      !reject.retryable() && reject.has_position() &&
      (code == wire::RejectCode::record || code == wire::RejectCode::too_large);
  if (state_ == State::open && about_record) {
    const auto first = queue_.offset_of(wire::from_proto(reject.position()));
    const auto last = reject.has_last() ? queue_.offset_of(wire::from_proto(reject.last())) : first;
    if (first && last && *first <= *last) {
      close();
      events_.rejected(hint_.attempt, *first, *last, std::move(text));
      return;
    }
  }
  if (code == wire::RejectCode::epoch) {
    memory_->name_newest_epoch = true;
  }
  lose(LossCause::refused, std::move(text));
}

void SpillwayConnection::on_goodbye(const v1::Goodbye& goodbye) {
  const auto wait = static_cast<milliseconds::rep>(std::min<std::uint64_t>(
      goodbye.retry_after_ms(), static_cast<std::uint64_t>(kMaxRetryAfter.count())));
  memory_->not_before = std::chrono::steady_clock::now() + milliseconds(wait);
  lose(LossCause::refused, "the receiver says goodbye: " + goodbye.reason());
}

void SpillwayConnection::send(const std::vector<BlockPtr>& blocks) {
  if (state_ != State::open) {
    return;
  }
  queue_.push(blocks);
  pump();
}

void SpillwayConnection::write_control(std::string frame) {
  control_ += frame;
  if (control_.size() > wire::kMaxControlBytes) {
    lose(LossCause::protocol, "the receiver asks for more answers than it reads");
    return;
  }
  pump();
}

void SpillwayConnection::pump() {
  if (writing_ || !write_error_.empty() || state_ == State::closed) {
    return;
  }
  buffers_.clear();
  headers_.clear();
  blocks_writing_.clear();
  control_writing_ = std::exchange(control_, {});
  if (!control_writing_.empty()) {
    buffers_.emplace_back(asio::buffer(control_writing_));
  }
  if (state_ == State::open) {
    gather_blocks();
  }
  if (buffers_.empty() || state_ == State::closed) {
    return;
  }
  writing_ = true;
  sent_since_ping_ = true;
  asio::async_write(socket_, buffers_, WriteAll(),
                    [self = shared_from_this()](error_code error, std::size_t) {
                      self->writing_ = false;
                      if (self->state_ == State::closed) {
                        return;
                      }
                      if (error) {
                        // A Reject may wait to be read: the reading side ends the attempt.
                        self->write_error_ = describe(error);
                        error_code ignored;
                        self->socket_.shutdown(StreamSocket::shutdown_both, ignored);
                        return;
                      }
                      self->pump();
                    });
}

void SpillwayConnection::gather_blocks() {
  std::uint64_t bytes = 0;
  while (headers_.size() < kGatherFrames && bytes < kGatherBytes) {
    auto piece = queue_.next();
    if (!piece) {
      break;
    }
    headers_.push_back(wire::batch_frame_header(*piece->block, piece->previous));
    buffers_.emplace_back(asio::buffer(headers_.back()));
    buffers_.emplace_back(piece->block->records.data(), piece->block->records.size());
    bytes += piece->block->bytes();
    blocks_writing_.push_back(std::move(piece->block));
  }
  settle();
  if (queue_.too_large() && buffers_.empty()) {
    lose(LossCause::refused, "the record at " + to_string(*queue_.too_large()) +
                                 " is larger than the frames that the receiver takes: cut records "
                                 "into parts, or raise the receiver's limit");
  }
}

void SpillwayConnection::start_pings(milliseconds interval) {
  if (interval.count() > 0) {
    ping_interval_ = interval;
  }
  sent_since_ping_ = false;
  silent_intervals_ = 0;
  on_ping_timer();
}

void SpillwayConnection::on_ping_timer() {
  timer_.expires_after(ping_interval_);
  timer_.async_wait([self = shared_from_this()](error_code error) {
    if (error || self->state_ == State::closed) {
      return;
    }
    if (++self->silent_intervals_ > kSilentIntervals) {
      self->lose(LossCause::broken, "the receiver has been silent for " +
                                        std::to_string(kSilentIntervals) + " ping intervals");
      return;
    }
    if (!std::exchange(self->sent_since_ping_, false)) {
      self->write_control(wire::encode_ping(0));
    }
    self->on_ping_timer();
  });
}

}  // namespace spillway::broker
