#include "client/link.h"

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/write.hpp>
#include <utility>

#include "base/write_all.h"

namespace spillway::client {

namespace asio = boost::asio;
using Socket = asio::generic::stream_protocol::socket;
using boost::system::error_code;

// A broker sends control frames only; Welcome, the largest, carries a mark and causes.
Link::Link(asio::io_context& io, Handler& handler)
    : handler_(&handler),
      resolver_(io),
      connecting_(io),
      socket_(io),
      reader_(wire::kMaxControlBytes) {}

void Link::open(const Address& address) {
  const auto self = shared_from_this();
  if (!address.path.empty()) {
    const asio::local::stream_protocol::endpoint endpoint(address.path);
    socket_.async_connect(endpoint, [self](error_code error) {
      if (self->handler_ == nullptr) return;
      if (error) return self->fail("cannot connect: " + error.message());
      self->start(std::move(self->socket_));
    });
    return;
  }
  resolver_.async_resolve(
      address.host, address.port,
      [self](error_code error, const asio::ip::tcp::resolver::results_type& endpoints) {
        if (self->handler_ == nullptr) return;
        if (error) return self->fail("cannot resolve the name: " + error.message());
        self->connect(endpoints);
      });
}

void Link::connect(const asio::ip::tcp::resolver::results_type& endpoints) {
  asio::async_connect(
      connecting_, endpoints,
      [self = shared_from_this()](error_code error, const asio::ip::tcp::endpoint&) {
        if (self->handler_ == nullptr) return;
        if (error) return self->fail("cannot connect: " + error.message());
        error_code ignored;
        self->connecting_.set_option(asio::ip::tcp::no_delay(true), ignored);
        self->start(Socket(std::move(self->connecting_)));
      });
}

void Link::start(Socket socket) {
  socket_ = std::move(socket);
  error_code ignored;
  socket_.non_blocking(true, ignored);  // for the last words of close()
  read();
  handler_->opened();
}

void Link::read() {
  const std::span<std::byte> room = reader_.prepare();
  socket_.async_read_some(asio::buffer(room.data(), room.size()),
                          [self = shared_from_this()](error_code error, std::size_t size) {
                            if (self->handler_ == nullptr) return;
                            if (error == asio::error::eof)
                              return self->fail("the broker closed the connection");
                            if (error) return self->fail("reading failed: " + error.message());
                            self->reader_.commit(size);
                            while (self->handler_ != nullptr) {
                              const auto frame = self->reader_.next();
                              if (!frame)
                                return self->fail("not this protocol: " + frame.error().message);
                              if (!*frame) break;
                              self->handler_->received(**frame);
                            }
                            if (self->handler_ != nullptr) self->read();
                          });
}

void Link::write(std::string head, std::span<const std::byte> records) {
  writing_ = true;
  head_ = std::move(head);
  const std::array<asio::const_buffer, 2> buffers{asio::buffer(head_),
                                                  asio::buffer(records.data(), records.size())};
  asio::async_write(socket_, buffers, WriteAll(),
                    [self = shared_from_this()](error_code error, std::size_t) {
                      self->writing_ = false;
                      if (self->handler_ == nullptr) return;
                      if (error) return self->fail("writing failed: " + error.message());
                      self->handler_->written();
                    });
}

void Link::fail(const std::string& why) {
  Handler* const handler = handler_;
  close();
  if (handler != nullptr) handler->lost(why);
}

void Link::close(const std::string& last_words) {
  handler_ = nullptr;
  error_code ignored;
  if (!writing_ && !last_words.empty() && socket_.is_open()) {
    socket_.write_some(asio::buffer(last_words), ignored);
    socket_.shutdown(Socket::shutdown_send, ignored);
  }
  resolver_.cancel();
  connecting_.close(ignored);
  socket_.close(ignored);
}

}  // namespace spillway::client
