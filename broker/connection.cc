#include "broker/connection.h"

#include <poll.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/write.hpp>
#include <utility>

#include "base/write_all.h"

namespace spillway::broker {

namespace asio = boost::asio;
using boost::system::error_code;

bool hung_up(int descriptor) {
  pollfd peer{descriptor, POLLRDHUP, 0};
  return ::poll(&peer, 1, 0) > 0 && (peer.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

Connection::Connection(Socket socket, wire::FrameReader reader, Handler& handler,
                       std::shared_ptr<void> slot)
    : socket_(std::move(socket)),
      protocol_(socket_.local_endpoint().protocol()),
      reader_(std::move(reader)),
      handler_(&handler),
      slot_(std::move(slot)),
      farewell_timer_(socket_.get_executor()) {}

void Connection::start() { read(); }

void Connection::read() {
  const std::span<std::byte> room = reader_.prepare();
  socket_.async_read_some(
      asio::buffer(room.data(), room.size()),
      [self = shared_from_this()](error_code error, std::size_t bytes) {
        if (self->closed_ || self->ending_) return;
        if (error)
          return self->fail(error == asio::error::eof ? "closed by the peer" : error.message());
        self->reader_.commit(bytes);
        if (self->handler_ != nullptr) self->handler_->on_bytes();
        if (!self->closed_ && !self->ending_ && self->handler_ != nullptr) self->read();
      });
}

void Connection::send(std::string bytes) {
  if (closed_ || ending_) return;
  queued_bytes_ += bytes.size();
  queue_.push_back(std::move(bytes));
  if (queued_bytes_ > kMaxSendQueueBytes) return fail("it does not read what is sent to it");
  if (going_.empty()) write();
}

void Connection::write() {
  std::swap(going_, queue_);
  std::vector<asio::const_buffer> buffers;
  buffers.reserve(going_.size());
  for (const std::string& bytes : going_) buffers.push_back(asio::buffer(bytes));
  asio::async_write(socket_, buffers, WriteAll(),
                    [self = shared_from_this()](error_code error, std::size_t) {
                      if (self->closed_) return;
                      for (const std::string& bytes : self->going_)
                        self->queued_bytes_ -= bytes.size();
                      self->going_.clear();
                      if (error) return self->ending_ ? self->close() : self->fail(error.message());
                      if (!self->queue_.empty()) return self->write();
                      if (self->ending_) return self->discard();
                      if (self->handler_ != nullptr) self->handler_->on_drained();
                    });
}

void Connection::farewell(std::string bytes) {
  if (closed_ || ending_) return;
  ending_ = true;
  handler_ = nullptr;
  farewell_timer_.expires_after(kFarewellLimit);
  farewell_timer_.async_wait([self = shared_from_this()](error_code error) {
    if (!error) self->close();
  });
  // A read is under way, and takes what comes meanwhile; its completion is ignored.
  queued_bytes_ += bytes.size();
  queue_.push_back(std::move(bytes));
  if (going_.empty()) write();
}

void Connection::discard() {
  error_code ignored;
  socket_.shutdown(Socket::shutdown_send, ignored);
  // Not into reader_: a read into its buffer may still be under way.
  socket_.async_read_some(asio::buffer(discarded_),
                          [self = shared_from_this()](error_code error, std::size_t) {
                            if (self->closed_) return;
                            if (error) return self->close();
                            self->discard();
                          });
}

void Connection::close() {
  if (closed_) return;
  closed_ = true;
  handler_ = nullptr;
  farewell_timer_.cancel();
  error_code ignored;
  socket_.close(ignored);
  slot_.reset();
}

void Connection::close_unless_parting() {
  if (!ending_) close();
}

void Connection::fail(std::string_view why) {
  Handler* const handler = handler_;
  close();
  if (handler != nullptr) handler->on_closed(why);
}

int Connection::release() {
  closed_ = true;
  handler_ = nullptr;
  slot_.reset();
  error_code error;
  const int descriptor = socket_.release(error);
  return error ? -1 : descriptor;
}

}  // namespace spillway::broker
