#include "broker/admin/client.h"

#include <boost/asio/connect.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <boost/url/encode.hpp>
#include <boost/url/rfc/unreserved_chars.hpp>
#include <cstdint>
#include <utility>

#include "broker/admin/listener.h"

namespace spillway::broker {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;

constexpr std::uint64_t kReplyBytes = std::uint64_t{64} << 20;

// Operations one after another, each until it is done or the time is up.
class Exchange {
 public:
  explicit Exchange(std::chrono::milliseconds timeout)
      : deadline_(std::chrono::steady_clock::now() + timeout) {}

  asio::generic::stream_protocol::socket& socket() { return socket_; }

  // `start` begins one operation on the socket with the handler it is given.
  template <class Start>
  error_code run(Start start) {
    error_code result = asio::error::would_block;
    start([&result](error_code error, const auto&) { result = error; });
    context_.restart();
    context_.run_until(deadline_);
    if (result != asio::error::would_block) return result;
    socket_.close();
    context_.run();  // the handler refers to this frame
    return asio::error::timed_out;
  }

 private:
  std::chrono::steady_clock::time_point deadline_;
  asio::io_context context_;
  asio::generic::stream_protocol::socket socket_{context_};
};

}  // namespace

Result<HttpReply> http_call(const config::Address& address, const HttpCall& call) {
  const auto failed = [&address](const std::string& what, const error_code& error) {
    return Error{what + " " + to_string(address) + ": " + error.message()};
  };
  const auto endpoints = stream_endpoints(address);
  if (!endpoints) return endpoints.error();
  Exchange exchange(call.timeout);
  error_code error = asio::error::host_not_found;
  for (const auto& endpoint : *endpoints) {
    exchange.socket() = asio::generic::stream_protocol::socket(exchange.socket().get_executor());
    error = exchange.run([&](auto done) {
      exchange.socket().async_connect(endpoint, [done](error_code e) { done(e, 0); });
    });
    if (!error || error == asio::error::timed_out) break;
  }
  if (error) return failed("cannot reach a broker at", error);

  http::request<http::string_body> request(http::string_to_verb(call.method), call.target, 11);
  const bool tcp = address.kind == config::Address::Kind::tcp;
  request.set(http::field::host,
              tcp ? address.host + ":" + std::to_string(address.port) : "localhost");
  if (!call.body.empty()) request.set(http::field::content_type, "application/json");
  request.body() = call.body;
  request.keep_alive(false);
  request.prepare_payload();
  // A server that refuses may answer and close before it has read all: the answer is what counts.
  exchange.run([&](auto done) { http::async_write(exchange.socket(), request, done); });

  boost::beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(kReplyBytes);
  parser.skip(request.method() == http::verb::head);
  error =
      exchange.run([&](auto done) { http::async_read(exchange.socket(), buffer, parser, done); });
  if (error) return failed("no answer from", error);
  http::response<http::string_body> response = parser.release();
  return HttpReply{response.result_int(), std::string(response[http::field::content_type]),
                   std::move(response.body())};
}

std::string url_encode(const std::string& text) {
  return boost::urls::encode(text, boost::urls::unreserved_chars);
}

}  // namespace spillway::broker
