#include "broker/sinks/tcp_connection.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include <boost/asio/write.hpp>
#include <utility>

#include "base/invariant.h"
#include "base/write_all.h"

namespace spillway::broker {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

constexpr std::uint64_t kKernelGroupBytes = std::uint64_t{16} << 10;

// Bytes in the send queue that the peer's kernel has not acknowledged; nothing when the connection
// is no longer established, because then the answer means nothing.
std::optional<std::uint64_t> unacknowledged_bytes(StreamSocket& socket) {
  int bytes = 0;
  if (::ioctl(socket.native_handle(), SIOCOUTQ, &bytes) != 0 || bytes < 0) {
    return {};
  }
  tcp_info info{};
  socklen_t length = sizeof(info);
  if (::getsockopt(socket.native_handle(), IPPROTO_TCP, TCP_INFO, &info, &length) != 0 ||
      info.tcpi_state != TCP_ESTABLISHED) {
    return {};
  }
  return static_cast<std::uint64_t>(bytes);
}

}  // namespace

TcpConnection::TcpConnection(asio::io_context& io, const config::TcpSink& options, Attempt attempt,
                             SinkEvents& events)
    : options_(options),
      attempt_(attempt),
      events_(&events),
      socket_(io),
      poll_timer_(io),
      tracker_(options.framing) {}

void TcpConnection::start() {
  connector_ = Connector::start(
      static_cast<asio::io_context&>(socket_.get_executor().context()), options_.connect,
      [self = shared_from_this()](StreamSocket socket, std::string error) {
        self->on_connected(std::move(socket), std::move(error));
      });
}

void TcpConnection::close() {
  events_ = nullptr;
  if (connector_) {
    std::exchange(connector_, nullptr)->cancel();
  }
  poll_timer_.cancel();
  error_code ignored;
  socket_.close(ignored);
  queue_.clear();
}

void TcpConnection::lose(LossCause cause, std::string text) {
  SinkEvents* const events = events_;
  close();
  events->lost(attempt_, cause, std::move(text));
}

void TcpConnection::on_connected(StreamSocket socket, std::string error) {
  connector_.reset();
  if (events_ == nullptr) {
    return;
  }
  if (!error.empty()) {
    lose(LossCause::connect_failed, std::move(error));
    return;
  }
  socket_ = std::move(socket);
  connected_ = true;
  events_->connected(attempt_, std::nullopt);
  read();
  pump();
}

void TcpConnection::send(const std::vector<BlockPtr>& blocks) {
  if (events_ == nullptr || refused_) {
    return;
  }
  queue_.insert(queue_.end(), blocks.begin(), blocks.end());
  pump();
}

void TcpConnection::pump() {
  if (events_ == nullptr || !connected_ || writing_ || !write_error_.empty()) {
    return;
  }
  fill();
  if (chunk_.bytes() > 0) {
    writing_ = true;
    asio::async_write(socket_, chunk_.buffers(), WriteAll(),
                      [self = shared_from_this()](error_code error, std::size_t bytes) {
                        self->writing_ = false;
                        self->chunk_.clear();
                        if (self->events_ == nullptr) {
                          return;
                        }
                        if (error) {
                          self->on_write_error(error);
                          return;
                        }
                        self->written_bytes_ += bytes;
                        self->poll_kernel();
                        self->pump();
                      });
  }
  settle(acks_.taken());
}

// The receiver's last acknowledgements may still wait to be read, and each of them saves a repeat:
// the attempt ends when the reading side has come to its end.
void TcpConnection::on_write_error(const error_code& error) {
  write_error_ = describe(error);
  error_code ignored;
  socket_.shutdown(StreamSocket::shutdown_both, ignored);
}

// Frames records until the chunk is full, there are none, or one is refused.
void TcpConnection::fill() {
  wire::RecordView record;
  while (!chunk_.full() && !refused_ && (block_ || next_block())) {
    if (!reader_->next(record)) {
      INVARIANT(reader_->error() == nullptr);
      block_.reset();
      continue;
    }
    take_record(record);
    ++offset_;
  }
  close_byte_group();
}

// Makes the next block with records the current one.
bool TcpConnection::next_block() {
  while (!queue_.empty() && !refused_) {
    block_ = std::move(queue_.front());
    queue_.pop_front();
    if (!block_->skip) {
      reader_.emplace(block_->records, block_->position);
      offset_ = block_->first;
      return true;
    }
    if (tracker_.skip()) {
      close_byte_group();
      acks_.add_group(0, block_->last());
    } else {
      refuse();
    }
    block_.reset();
  }
  return false;
}

void TcpConnection::take_record(const wire::RecordView& record) {
  const bool by_count = options_.acknowledge == config::Acknowledge::count;
  const PartTracker::Step step = tracker_.record(offset_, record);
  if (tracker_.abandoned()) {
    drop_parts();
    close_byte_group();
    acks_.add_group(0, *tracker_.abandoned());
  }
  switch (step) {
    case PartTracker::Step::whole:
      chunk_.keep(block_);
      frame({&record.payload, 1}, record.payload.size());
      if (by_count) {
        acks_.add(offset_);
      } else {
        count_bytes(offset_);
      }
      return;
    case PartTracker::Step::begins:
    case PartTracker::Step::continues:
      parts_.push_back(record.payload);
      parts_blocks_.push_back(block_);
      return;
    case PartTracker::Step::completes:
      parts_.push_back(record.payload);
      parts_blocks_.push_back(block_);
      for (BlockPtr& block : parts_blocks_) {
        chunk_.keep(std::move(block));
      }
      frame(parts_, tracker_.payload_bytes());
      drop_parts();
      if (by_count) {
        acks_.add_group(1, offset_);
      } else {
        count_bytes(offset_);
      }
      return;
    case PartTracker::Step::hold: drop_parts(); return;
    case PartTracker::Step::refuse: refuse(); return;
  }
}

void TcpConnection::frame(std::span<const std::span<const std::byte>> pieces, std::uint64_t bytes) {
  if (options_.framing == config::Framing::length_prefixed) {
    chunk_.add_length(static_cast<std::uint32_t>(bytes));
  }
  for (const std::span<const std::byte> piece : pieces) {
    chunk_.add(piece);
  }
  if (options_.framing == config::Framing::lines) {
    chunk_.add_newline();
  }
}

// With acknowledge = kernel, records are acknowledged together in groups of some size.
void TcpConnection::count_bytes(Offset last) {
  group_bytes_ = chunk_.bytes() - (acks_.added() - written_bytes_);
  group_last_ = last;
  if (group_bytes_ >= kKernelGroupBytes) {
    close_byte_group();
  }
}

void TcpConnection::close_byte_group() {
  if (group_bytes_ > 0) {
    acks_.add_group(std::exchange(group_bytes_, 0), group_last_);
  }
}

void TcpConnection::refuse() {
  refused_ = tracker_.refused();
  queue_.clear();
  drop_parts();
}

void TcpConnection::drop_parts() {
  parts_.clear();
  parts_blocks_.clear();
}

void TcpConnection::read() {
  socket_.async_read_some(
      asio::buffer(input_), [self = shared_from_this()](error_code error, std::size_t bytes) {
        if (self->events_ == nullptr) {
          return;
        }
        if (error) {
          self->lose(LossCause::broken,
                     self->write_error_.empty() ? describe(error) : self->write_error_);
          return;
        }
        self->on_read(bytes);
      });
}

void TcpConnection::on_read(std::size_t bytes) {
  // With acknowledge = kernel, what the receiver says means nothing.
  if (options_.acknowledge == config::Acknowledge::count && !take_counts({input_.data(), bytes})) {
    return;
  }
  if (events_ != nullptr) {
    read();
  }
}

// False when the attempt has ended.
bool TcpConnection::take_counts(std::string_view text) {
  const auto newest = counts_.read(text, acks_.taken(), acks_.added());
  if (!newest) {
    lose(LossCause::protocol, newest.error().message);
    return false;
  }
  if (*newest) {
    settle(**newest);
  }
  return events_ != nullptr;
}

void TcpConnection::poll_kernel() {
  if (options_.acknowledge != config::Acknowledge::kernel || polling_) {
    return;
  }
  const std::optional<std::uint64_t> bytes = unacknowledged_bytes(socket_);
  if (bytes && written_bytes_ > *bytes && written_bytes_ - *bytes > acks_.taken()) {
    settle(written_bytes_ - *bytes);
  }
  if (events_ == nullptr || acks_.taken() == acks_.added()) {
    return;
  }
  polling_ = true;
  poll_timer_.expires_after(kKernelPoll);
  poll_timer_.async_wait([self = shared_from_this()](error_code) {
    self->polling_ = false;
    if (self->events_ != nullptr) {
      self->poll_kernel();
    }
  });
}

// The receiver has taken so many units altogether.
void TcpConnection::settle(std::uint64_t units) {
  if (const std::optional<Offset> through = acks_.take(units)) {
    events_->acked(attempt_, *through);
    if (events_ == nullptr) {
      return;  // the stream had enough of this attempt
    }
  }
  if (refused_ && acks_.all_taken() && !writing_ && write_error_.empty()) {
    SinkEvents* const events = events_;
    close();
    events->rejected(attempt_, refused_->first, refused_->last, std::move(refused_->text));
  }
}

}  // namespace spillway::broker
