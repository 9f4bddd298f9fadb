#include "broker/sinks/connector.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <boost/asio/error.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <utility>

namespace spillway::broker {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

// Failures are ignored: a connection without an option is better than none.
void set_tcp_options(StreamSocket& socket) {
  const auto set = [&socket](int level, int name, int value) {
    static_cast<void>(::setsockopt(socket.native_handle(), level, name, &value, sizeof(value)));
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, kKeepaliveIdleSeconds);
  set(IPPROTO_TCP, TCP_KEEPINTVL, kKeepaliveIntervalSeconds);
  set(IPPROTO_TCP, TCP_KEEPCNT, kKeepaliveProbes);
}

}  // namespace

std::string describe(const error_code& error) {
  return error == asio::error::eof ? "the receiver closed the connection" : error.message();
}

std::shared_ptr<Connector> Connector::start(asio::io_context& io, const config::Address& address,
                                            Done done) {
  auto self = std::make_shared<Connector>(io, address, std::move(done));
  self->run();
  return self;
}

Connector::Connector(asio::io_context& io, const config::Address& address, Done done)
    : address_(address), done_(std::move(done)), timer_(io), resolver_(io), socket_(io) {}

void Connector::cancel() {
  done_ = nullptr;
  timer_.cancel();
  resolver_.cancel();
  error_code ignored;
  socket_.close(ignored);
}

void Connector::run() {
  timer_.expires_after(kConnectTimeout);
  timer_.async_wait([self = shared_from_this()](error_code error) {
    if (!error) {
      self->finish("no connection within " + std::to_string(kConnectTimeout.count()) + " s");
    }
  });
  if (address_.kind == config::Address::Kind::unix_socket) {
    // Longer ones than the system knows throw: they are an error like any other.
    try {
      endpoints_.emplace_back(asio::local::stream_protocol::endpoint(address_.path));
    } catch (const boost::system::system_error& error) {
      asio::post(socket_.get_executor(), [self = shared_from_this(),
                                          text = error.code().message()] { self->finish(text); });
      return;
    }
    try_next({});
    return;
  }
  error_code not_numeric;
  const auto host = asio::ip::make_address(address_.host, not_numeric);
  if (!not_numeric) {
    endpoints_.emplace_back(asio::ip::tcp::endpoint(host, address_.port));
    try_next({});
    return;
  }
  resolve();
}

void Connector::resolve() {
  resolver_.async_resolve(
      address_.host, std::to_string(address_.port),
      [self = shared_from_this()](error_code error,
                                  const asio::ip::tcp::resolver::results_type& results) {
        if (!self->done_) {
          return;
        }
        if (error) {
          self->finish("cannot resolve " + self->address_.host + ": " + error.message());
          return;
        }
        for (const auto& result : results) {
          self->endpoints_.emplace_back(result.endpoint());
        }
        self->try_next("no address");
      });
}

void Connector::try_next(std::string error) {
  if (next_ == endpoints_.size()) {
    finish(std::move(error));
    return;
  }
  error_code ignored;
  socket_.close(ignored);
  socket_.async_connect(endpoints_[next_++], [self = shared_from_this()](error_code result) {
    if (!self->done_) {
      return;
    }
    if (result) {
      self->try_next(result.message());
      return;
    }
    if (self->address_.kind == config::Address::Kind::tcp) {
      set_tcp_options(self->socket_);
    }
    self->finish({});
  });
}

void Connector::finish(std::string error) {
  if (!done_) {
    return;
  }
  const Done done = std::exchange(done_, nullptr);
  timer_.cancel();
  resolver_.cancel();
  if (!error.empty()) {
    error_code ignored;
    socket_.close(ignored);
    error = config::to_string(address_) + ": " + error;
  }
  done(std::move(socket_), std::move(error));
}

}  // namespace spillway::broker
