// Connector: a connected stream socket to a TCP or Unix address, or the reason why not.
#pragma once

#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "broker/config/config.h"

namespace spillway::broker {

using StreamSocket = boost::asio::generic::stream_protocol::socket;

// For resolving and connecting together, over all addresses of a name.
inline constexpr std::chrono::seconds kConnectTimeout{5};
// An idle connection whose other end has vanished is noticed after idle + probes * interval. One
// with something on its way is the machine's ack_timeout to notice; TCP_USER_TIMEOUT is not set,
// because it would also end connections to receivers that are alive and slow.
inline constexpr int kKeepaliveIdleSeconds = 10;
inline constexpr int kKeepaliveIntervalSeconds = 5;
inline constexpr int kKeepaliveProbes = 3;

// Why reading or writing ended.
std::string describe(const boost::system::error_code& error);

// Operation: resolves, tries the addresses one after the other, calls `done` once: with an open
// socket, or with a closed one and a text. cancel() makes sure that it is not called any more.
// Concurrency: everything on the io_context's thread; `done` never runs inside start().
class Connector : public std::enable_shared_from_this<Connector> {
 public:
  using Done = std::function<void(StreamSocket socket, std::string error)>;

  static std::shared_ptr<Connector> start(boost::asio::io_context& io,
                                          const config::Address& address, Done done);
  Connector(boost::asio::io_context& io, const config::Address& address, Done done);
  void cancel();

 private:
  using Endpoint = boost::asio::generic::stream_protocol::endpoint;

  void run();
  void resolve();
  void try_next(std::string error);
  void finish(std::string error);

  config::Address address_;
  Done done_;
  boost::asio::steady_timer timer_;
  boost::asio::ip::tcp::resolver resolver_;
  StreamSocket socket_;
  std::vector<Endpoint> endpoints_;
  std::size_t next_ = 0;
};

}  // namespace spillway::broker
