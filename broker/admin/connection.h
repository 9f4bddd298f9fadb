// One connection of a client to the AdminServer.
#pragma once

#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/message_generator.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "broker/admin/router.h"
#include "broker/admin/server.h"

namespace spillway::broker {

class HttpConnection;

// What the connections of a server share.
struct AdminState {
  HttpRouter router;
  AdminLimits limits;
  std::set<HttpConnection*> connections;
  // While it listens on loopback: the only name, beside localhost, by which it may be asked.
  std::optional<std::string> own_host;
};

// Reads a request, has it answered, writes the answer, and so on until the client goes, is too
// slow, or breaks a rule. Alive while one of its operations or timers is; enters itself in
// AdminState::connections for as long.
class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  // One that is `refused` gets a 503 as the answer to its first request.
  HttpConnection(boost::asio::generic::stream_protocol::socket socket,
                 std::shared_ptr<AdminState> server, bool refused);
  ~HttpConnection();

  void start();
  void close();

 private:
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;

  void await_request(std::chrono::milliseconds patience);
  void read_request();
  void on_request(boost::system::error_code error);
  void dispatch();
  void await_answer();
  void answer(std::uint64_t request, HttpResponse response);
  void on_written(boost::system::error_code error, bool keep_alive);
  void linger();
  void drain(std::size_t left);

  std::shared_ptr<AdminState> server_;
  boost::beast::basic_stream<boost::asio::generic::stream_protocol> stream_;
  boost::asio::steady_timer handler_timer_;
  boost::beast::flat_buffer buffer_;
  std::optional<Parser> parser_;
  bool refused_;
  bool head_ = false;  // the request was a HEAD
  bool keep_alive_ = false;
  std::uint64_t request_ = 0;  // rises with each answer, so that late answers are known
};

}  // namespace spillway::broker
