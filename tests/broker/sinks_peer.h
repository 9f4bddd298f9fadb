// A peer on loopback for the tests of the tcp and spillway sinks, on the test's own io_context.
#pragma once

#include <array>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/write.hpp>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "broker/config/config.h"

namespace spillway::broker::test {

// One accepted connection. Keeps everything it reads; `closed` once the other side has ended it.
class Peer : public std::enable_shared_from_this<Peer> {
 public:
  using Socket = boost::asio::generic::stream_protocol::socket;
  explicit Peer(Socket socket_) : socket(std::move(socket_)) {}

  void read() {
    socket.async_read_some(
        boost::asio::buffer(buffer_),
        [self = shared_from_this()](boost::system::error_code error, std::size_t bytes) {
          if (error) {
            self->closed = true;
            return;
          }
          self->received.append(self->buffer_.data(), bytes);
          self->read();
        });
  }
  void write(std::string_view text) {
    boost::system::error_code ignored;
    boost::asio::write(socket, boost::asio::buffer(text.data(), text.size()), ignored);
  }
  void close() {
    boost::system::error_code ignored;
    socket.close(ignored);
  }

  Socket socket;
  std::string received;
  bool closed = false;

 private:
  std::array<char, 65536> buffer_{};
};

// Listens on a free port of loopback, or at a Unix path, and accepts connections one after the
// other.
class Listener {
 public:
  using Endpoint = boost::asio::generic::stream_protocol::endpoint;

  explicit Listener(boost::asio::io_context& io, const std::string& unix_path = {},
                    bool reading = true)
      : reading_(reading), acceptor_(io) {
    Endpoint endpoint = boost::asio::ip::tcp::endpoint(boost::asio::ip::address_v4::loopback(), 0);
    if (!unix_path.empty()) {
      endpoint = boost::asio::local::stream_protocol::endpoint(unix_path);
    }
    acceptor_.open(endpoint.protocol());
    acceptor_.bind(endpoint);
    acceptor_.listen();
    address_.host = "127.0.0.1";
    if (unix_path.empty()) {
      const Endpoint local = acceptor_.local_endpoint();
      const auto* in = reinterpret_cast<const sockaddr_in*>(local.data());
      address_.port = ntohs(in->sin_port);
    } else {
      address_.kind = config::Address::Kind::unix_socket;
      address_.path = unix_path;
    }
    accept();
  }

  const config::Address& address() const { return address_; }
  // The newest connection, if any.
  std::shared_ptr<Peer> peer;
  int accepted = 0;

 private:
  void accept() {
    acceptor_.async_accept([this](boost::system::error_code error, Peer::Socket socket) {
      if (error) {
        return;
      }
      ++accepted;
      peer = std::make_shared<Peer>(std::move(socket));
      if (reading_) {
        peer->read();
      }
      accept();
    });
  }

  bool reading_;
  boost::asio::basic_socket_acceptor<boost::asio::generic::stream_protocol> acceptor_;
  config::Address address_;
};

}  // namespace spillway::broker::test
