#include "broker/admin/connection.h"

#include <boost/asio/ip/address.hpp>
#include <boost/asio/post.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/write.hpp>
#include <string>
#include <string_view>
#include <utility>

namespace spillway::broker {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using boost::system::error_code;

constexpr std::size_t kReadBytes = std::size_t{4} << 10;
constexpr std::size_t kLingerBytes = std::size_t{1} << 20;

// A page of some other site, open in an operator's browser, must not be able to pause a sink.
bool is_foreign(const http::request<http::string_body>& request) {
  const auto origin = request.find(http::field::origin);
  if (origin == request.end()) return false;
  return std::string(origin->value()) != "http://" + std::string(request[http::field::host]);
}

// A name that somebody else's server made lead to loopback must not do so either: the pages of that
// site are then of one origin with what is here.
bool is_own_host(std::string_view host, std::string_view name) {
  const std::size_t bracket = host.rfind(']');
  const std::size_t colon = host.rfind(':');
  if (colon != host.npos && (bracket == host.npos || colon > bracket)) host = host.substr(0, colon);
  const bool six = host.size() > 2 && host.front() == '[' && host.back() == ']';
  const std::string_view literal = six ? host.substr(1, host.size() - 2) : host;
  error_code error;
  asio::ip::make_address(literal, error);
  return !error || host.empty() || beast::iequals(host, "localhost") || beast::iequals(host, name);
}

template <class Body>
http::response<Body> make_response(const HttpResponse& response, bool keep_alive) {
  http::response<Body> message(static_cast<http::status>(response.status), 11);
  message.set(http::field::content_type, response.content_type);
  message.set(http::field::cache_control, "no-store");
  message.set("X-Content-Type-Options", "nosniff");
  if (!response.allow.empty()) message.set(http::field::allow, response.allow);
  message.keep_alive(keep_alive);
  return message;
}

}  // namespace

HttpConnection::HttpConnection(asio::generic::stream_protocol::socket socket,
                               std::shared_ptr<AdminState> server, bool refused)
    : server_(std::move(server)),
      stream_(std::move(socket)),
      handler_timer_(stream_.get_executor()),
      buffer_(server_->limits.header_bytes + kReadBytes),
      refused_(refused) {
  server_->connections.insert(this);
}

HttpConnection::~HttpConnection() { server_->connections.erase(this); }

void HttpConnection::start() {
  await_request(refused_ ? server_->limits.linger : server_->limits.request);
}

void HttpConnection::close() {
  handler_timer_.cancel();
  stream_.close();
}

void HttpConnection::await_request(std::chrono::milliseconds patience) {
  if (buffer_.size() > 0) return read_request();
  stream_.expires_after(patience);
  stream_.async_read_some(buffer_.prepare(kReadBytes),
                          [self = shared_from_this()](error_code error, std::size_t bytes) {
                            if (error) return self->close();
                            self->buffer_.commit(bytes);
                            self->read_request();
                          });
}

void HttpConnection::read_request() {
  parser_.emplace();
  parser_->header_limit(static_cast<std::uint32_t>(server_->limits.header_bytes));
  parser_->body_limit(server_->limits.body_bytes);
  // One deadline for the whole request: a byte now and then does not move it.
  stream_.expires_after(refused_ ? server_->limits.linger : server_->limits.request);
  http::async_read(
      stream_, buffer_, *parser_,
      [self = shared_from_this()](error_code error, std::size_t) { self->on_request(error); });
}

void HttpConnection::on_request(error_code error) {
  head_ = false;
  keep_alive_ = false;
  if (error == http::error::body_limit) {
    return answer(request_, http_error(413, "the body is larger than this server takes"));
  }
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return answer(request_, http_error(431, "the header is larger than this server takes"));
  }
  if (error == http::error::end_of_stream || error == http::error::partial_message) return linger();
  if (error && error.category() == make_error_code(http::error::bad_method).category()) {
    return answer(request_, http_error(400, "this is not HTTP: " + error.message()));
  }
  if (error) return close();
  dispatch();
}

void HttpConnection::dispatch() {
  http::request<http::string_body> request = parser_->release();
  head_ = request.method() == http::verb::head;
  keep_alive_ = request.keep_alive() && !refused_;
  if (refused_) return answer(request_, http_error(503, "too many connections; try again later"));
  HttpResponse otherwise;
  auto match = server_->router.match(head_ ? "GET" : std::string(request.method_string()),
                                     std::string(request.target()), otherwise);
  if (!match) return answer(request_, std::move(otherwise));
  // Monitors may know this machine by any name.
  const bool open = match->request.method == "GET" && !match->request.path.starts_with("/api/");
  const std::string host(request[http::field::host]);
  if (server_->own_host && !open && !is_own_host(host, *server_->own_host)) {
    return answer(request_,
                  http_error(403, "ask at an IP address or " + *server_->own_host + ", not " +
                                      host + ": only that is sure to be here"));
  }
  if (match->request.method != "GET" && is_foreign(request)) {
    return answer(request_, http_error(403, "requests from pages of other sites are refused"));
  }
  match->request.body = std::move(request.body());
  await_answer();
  // The responder may be called, and may die, on any thread: only the number and a weak reference
  // go there, and the connection is touched on its own thread alone.
  Responder responder([weak = weak_from_this(), executor = stream_.get_executor(),
                       number = request_](HttpResponse response) {
    asio::post(executor, [weak, number, response = std::move(response)]() mutable {
      if (const auto self = weak.lock()) self->answer(number, std::move(response));
    });
  });
  match->handler(std::move(match->request), std::move(responder));
}

// Keeps the connection alive until there is an answer.
void HttpConnection::await_answer() {
  stream_.expires_never();
  handler_timer_.expires_after(server_->limits.handler);
  handler_timer_.async_wait([self = shared_from_this(), number = request_](error_code error) {
    if (!error) self->answer(number, http_error(503, "the broker did not answer in time"));
  });
}

void HttpConnection::answer(std::uint64_t request, HttpResponse response) {
  if (request != request_ || !stream_.socket().is_open()) return;
  ++request_;
  handler_timer_.cancel();
  stream_.expires_after(server_->limits.write);
  const bool keep_alive = keep_alive_;
  const auto written = [self = shared_from_this(), keep_alive](error_code error, std::size_t) {
    self->on_written(error, keep_alive);
  };
  if (head_) {
    auto message = make_response<http::empty_body>(response, keep_alive);
    message.content_length(response.body.size());
    beast::async_write(stream_, http::message_generator(std::move(message)), written);
  } else {
    auto message = make_response<http::string_body>(response, keep_alive);
    message.body() = std::move(response.body);
    message.prepare_payload();
    beast::async_write(stream_, http::message_generator(std::move(message)), written);
  }
}

void HttpConnection::on_written(error_code error, bool keep_alive) {
  if (error) return close();
  if (!keep_alive) return linger();
  await_request(server_->limits.idle);
}

// A socket that is closed with bytes unread resets the connection, and the client may never see the
// answer: so say that this was all, and read on for a moment.
void HttpConnection::linger() {
  error_code ignored;
  stream_.socket().shutdown(asio::socket_base::shutdown_send, ignored);
  stream_.expires_after(server_->limits.linger);
  buffer_.clear();
  drain(kLingerBytes);
}

void HttpConnection::drain(std::size_t left) {
  stream_.async_read_some(buffer_.prepare(kReadBytes),
                          [self = shared_from_this(), left](error_code error, std::size_t bytes) {
                            if (error || bytes >= left) return self->close();
                            self->drain(left - bytes);
                          });
}

}  // namespace spillway::broker
