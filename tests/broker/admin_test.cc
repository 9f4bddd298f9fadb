#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio.hpp>
#include <boost/json.hpp>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "broker/admin/client.h"
#include "broker/admin/router.h"
#include "broker/admin/server.h"

namespace spillway::broker {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using std::chrono::milliseconds;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

config::Address loopback(std::uint16_t port = 0) {
  return {config::Address::Kind::tcp, "127.0.0.1", port, {}};
}

config::Address unix_at(const std::string& path) {
  return {config::Address::Kind::unix_socket, {}, 0, path};
}

// What a client sees, byte by byte.
class RawClient {
 public:
  explicit RawClient(const config::Address& address) : socket_(context_) {
    socket_.connect({asio::ip::make_address(address.host), address.port});
  }
  // Ignores an error: the server may have closed.
  void send(const std::string& bytes) {
    boost::system::error_code ignored;
    asio::write(socket_, asio::buffer(bytes), ignored);
  }
  // Everything until the server closes.
  std::string read_all() {
    boost::system::error_code error;
    asio::read(socket_, asio::dynamic_buffer(text_), error);
    return std::exchange(text_, {});
  }
  // Through `end`.
  std::string read_until(const std::string& end) {
    boost::system::error_code error;
    const std::size_t size = asio::read_until(socket_, asio::dynamic_buffer(text_), end, error);
    std::string result = text_.substr(0, size);
    text_.erase(0, size);
    return result;
  }

 private:
  asio::io_context context_;
  tcp::socket socket_;
  std::string text_;
};

class AdminTest : public testing::Test {
 protected:
  ~AdminTest() override {
    asio::post(context_, [this] {
      if (server_) server_->stop();
    });
    work_.reset();
    if (thread_.joinable()) thread_.join();
  }

  void start(AdminLimits limits = {}, const config::Address& listen = loopback()) {
    server_.emplace(context_, limits);
    server_->route("GET", "/echo/{a}/to/{b}", [](HttpRequest request, Responder respond) {
      respond({.body = request.parameters["a"] + "|" + request.parameters["b"] + "|" +
                       request.query["q"] + "|" + request.path});
    });
    server_->route("POST", "/count", [](HttpRequest request, Responder respond) {
      respond({.body = std::to_string(request.body.size())});
    });
    server_->route("GET", "/count", [](HttpRequest, Responder respond) { respond({.body = "0"}); });
    server_->route("GET", "/held", [this](HttpRequest, Responder respond) {
      held_.push_back(std::move(respond));
      is_held_.set_value();
    });
    server_->route("GET", "/api/v1/status",
                   [](HttpRequest, Responder respond) { respond({.body = "status"}); });
    server_->route("GET", "/forgotten", [](HttpRequest, Responder) {});
    server_->route("GET", "/text", [](HttpRequest, Responder respond) {
      respond({.body = "hello", .content_type = "text/plain"});
    });
    const auto bound = server_->listen(listen);
    ASSERT_TRUE(bound) << bound.error().message;
    address_ = *bound;
    thread_ = std::thread([this] { context_.run(); });
  }

  HttpReply call(const std::string& target, const std::string& method = "GET",
                 const std::string& body = {}) {
    const auto reply = http_call(address_, {.method = method, .target = target, .body = body});
    EXPECT_TRUE(reply) << reply.error().message;
    return reply ? *reply : HttpReply{};
  }

  asio::io_context context_;
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work_{
      context_.get_executor()};
  std::optional<AdminServer> server_;
  std::vector<Responder> held_;
  std::promise<void> is_held_;
  config::Address address_;
  std::thread thread_;
};

TEST_F(AdminTest, a_route_gets_its_parameters_and_query_decoded) {
  start();
  const HttpReply reply = call("/echo/a%2Fb%20c/to/d?q=1%262&r=3");
  EXPECT_EQ(reply.status, 200u);
  EXPECT_EQ(reply.content_type, "application/json");
  EXPECT_THAT(reply.body, StartsWith("a/b c|d|1&2|"));
}

TEST_F(AdminTest, names_survive_the_way_through_the_clients_encoding) {
  start();
  const std::string name = "we/ird na?me&%";
  EXPECT_THAT(call("/echo/" + url_encode(name) + "/to/x?q=" + url_encode(name)).body,
              StartsWith(name + "|x|" + name + "|"));
}

TEST_F(AdminTest, a_path_that_is_not_there_is_a_404_with_an_error_in_json) {
  start();
  const HttpReply reply = call("/nowhere");
  EXPECT_EQ(reply.status, 404u);
  EXPECT_EQ(boost::json::parse(reply.body).at("error").as_string(),
            "there is nothing at this path");
  EXPECT_EQ(call("/echo/a/to").status, 404u);
  EXPECT_EQ(call("/echo/a/to/b/c").status, 404u);
  EXPECT_EQ(call("/echo//to/b").status, 404u);
}

TEST_F(AdminTest, another_method_is_a_405_that_names_those_there_are) {
  start();
  RawClient client(address_);
  client.send("DELETE /count HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const std::string answer = client.read_all();
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 405 Method Not Allowed\r\n"));
  EXPECT_THAT(answer, HasSubstr("Allow: POST, GET\r\n"));
}

TEST_F(AdminTest, a_head_is_a_get_without_the_body) {
  start();
  RawClient client(address_);
  client.send("HEAD /text HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const std::string answer = client.read_all();
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr("Content-Length: 5\r\n"));
  EXPECT_THAT(answer, HasSubstr("Content-Type: text/plain\r\n"));
  EXPECT_THAT(answer, EndsWith("\r\n\r\n"));
}

TEST_F(AdminTest, one_connection_takes_many_requests_also_sent_ahead) {
  start();
  RawClient client(address_);
  client.send("GET /text HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(client.read_until("hello"), EndsWith("hello"));
  client.send(
      "POST /count HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"
      "GET /text HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const std::string answers = client.read_all();
  EXPECT_THAT(answers, HasSubstr("\r\n\r\n3HTTP/1.1 200 OK"));
  EXPECT_THAT(answers, EndsWith("hello"));
}

TEST_F(AdminTest, a_body_at_the_limit_is_taken_and_one_byte_more_is_a_413) {
  start();
  EXPECT_EQ(call("/count", "POST", std::string(AdminLimits{}.body_bytes, 'x')).body, "65536");
  EXPECT_EQ(call("/count", "POST", std::string(AdminLimits{}.body_bytes + 1, 'x')).status, 413u);
}

TEST_F(AdminTest, a_large_body_sees_its_413_although_it_is_never_read) {
  start();
  EXPECT_EQ(call("/count", "POST", std::string(500'000, 'x')).status, 413u);
}

TEST_F(AdminTest, a_header_over_the_limit_is_a_431) {
  start();
  RawClient client(address_);
  client.send("GET /text HTTP/1.1\r\nHost: x\r\nX: " + std::string(9000, 'x') + "\r\n\r\n");
  EXPECT_THAT(client.read_all(), StartsWith("HTTP/1.1 431 "));
}

TEST_F(AdminTest, what_is_not_http_is_a_400_and_harms_nobody_else) {
  start();
  RawClient client(address_);
  client.send("\x01\x02 garbage\r\n\r\n");
  EXPECT_THAT(client.read_all(), StartsWith("HTTP/1.1 400 "));
  EXPECT_EQ(call("/text").body, "hello");
}

TEST_F(AdminTest, a_target_that_is_no_path_is_a_400) {
  start();
  RawClient client(address_);
  client.send("GET /%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(client.read_all(), StartsWith("HTTP/1.1 400 "));
}

TEST_F(AdminTest, a_request_that_trickles_in_is_cut_off_at_its_deadline) {
  start({.request = milliseconds(100)});
  RawClient client(address_);
  client.send("GET /text HTTP/1.1\r\nHost:");
  EXPECT_EQ(client.read_all(), "");
}

TEST_F(AdminTest, a_connection_that_says_nothing_is_closed) {
  start({.request = milliseconds(50), .idle = milliseconds(50)});
  RawClient silent(address_);
  EXPECT_EQ(silent.read_all(), "");
  RawClient idle(address_);
  idle.send("GET /text HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(idle.read_all(), EndsWith("hello"));
}

TEST_F(AdminTest, connections_over_the_limit_get_a_503_and_a_place_once_one_is_free) {
  start({.connections = 2});
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 2; ++i) {
    clients.push_back(std::make_unique<RawClient>(address_));
    clients.back()->send("GET /text HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_THAT(clients.back()->read_until("hello"), EndsWith("hello"));
  }
  EXPECT_EQ(call("/text").status, 503u);
  // The last byte that a client sees is written before its connection is forgotten, so ask again.
  clients.clear();
  unsigned status = 503;
  while (status == 503) status = call("/text").status;
  EXPECT_EQ(status, 200u);
}

TEST_F(AdminTest, connections_beyond_the_refusals_are_closed_unheard) {
  start({.connections = 1, .refusals = 1});
  RawClient first(address_);
  first.send("GET /text HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(first.read_until("hello"), EndsWith("hello"));
  RawClient second(address_);
  RawClient third(address_);
  EXPECT_EQ(third.read_all(), "");
  second.send("GET /text HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(second.read_all(), StartsWith("HTTP/1.1 503 "));
}

TEST_F(AdminTest, an_answer_may_come_later_from_another_thread) {
  start();
  auto reply = std::async(std::launch::async, [this] { return call("/held"); });
  is_held_.get_future().wait();
  held_.at(0)({.body = "late"});
  held_.at(0)({.body = "twice"});
  EXPECT_EQ(reply.get().body, "late");
}

TEST_F(AdminTest, a_request_that_is_given_up_is_a_500) {
  start();
  EXPECT_EQ(call("/forgotten").status, 500u);
}

TEST_F(AdminTest, a_handler_that_takes_too_long_is_a_503_and_its_answer_goes_nowhere) {
  start({.handler = milliseconds(50)});
  RawClient client(address_);
  client.send("GET /held HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(client.read_until("}\n"), StartsWith("HTTP/1.1 503 "));
  held_.at(0)({.body = "too late"});
  client.send("GET /text HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(client.read_all(), testing::AllOf(StartsWith("HTTP/1.1 200"), EndsWith("hello")));
}

TEST_F(AdminTest, an_answer_to_a_client_that_has_gone_does_no_harm) {
  start();
  {
    RawClient client(address_);
    client.send("GET /held HTTP/1.1\r\nHost: x\r\n\r\n");
    is_held_.get_future().wait();
  }
  held_.at(0)({.body = "anybody?"});
  EXPECT_EQ(call("/text").body, "hello");
}

TEST_F(AdminTest, a_page_of_another_site_may_not_post) {
  start();
  const auto post = [this](const std::string& origin) {
    RawClient client(address_);
    client.send("POST /count HTTP/1.1\r\nHost: localhost:9464\r\nOrigin: " + origin +
                "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    return client.read_all().substr(0, 12);
  };
  EXPECT_EQ(post("http://evil.example"), "HTTP/1.1 403");
  EXPECT_EQ(post("null"), "HTTP/1.1 403");
  EXPECT_EQ(post("http://localhost:9464"), "HTTP/1.1 200");
}

// Another site's name may be made to lead here, and its pages are then of one origin with us.
class AdminHostTest : public AdminTest {
 protected:
  std::string ask(const std::string& request, const std::string& host) {
    RawClient client({config::Address::Kind::tcp, "127.0.0.1", address_.port, {}});
    client.send(request + " HTTP/1.1\r\n" + (host.empty() ? "" : "Host: " + host + "\r\n") +
                "Origin: http://" + host + "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    return client.read_all();
  }
  std::string status(const std::string& request, const std::string& host) {
    return ask(request, host).substr(9, 3);
  }
};

TEST_F(AdminHostTest, a_name_that_was_made_to_lead_to_loopback_opens_neither_posts_nor_the_api) {
  start();
  for (const std::string host : {"evil.example", "evil.example:9464", "127.0.0.1.evil.example",
                                 "localhost.evil.example", "[::1].evil", "localhost@evil"}) {
    EXPECT_EQ(status("POST /count", host), "403") << host;
    EXPECT_EQ(status("GET /api/v1/status", host), "403") << host;
    EXPECT_EQ(status("GET /%61pi/v1/status", host), "403") << host;
    EXPECT_EQ(status("HEAD /api/v1/status", host), "403") << host;
    EXPECT_EQ(status("GET /text", host), "200") << "as a monitor may ask " << host;
  }
  EXPECT_THAT(ask("GET /api/v1/status", "evil.example"), HasSubstr("not evil.example"));
  for (const std::string host : {"127.0.0.1", "127.0.0.1:9464", "[::1]:9464", "[::1]", "localhost",
                                 "LocalHost:9464", "10.0.0.7:80"}) {
    EXPECT_EQ(status("POST /count", host), "200") << host;
    EXPECT_EQ(status("GET /api/v1/status", host), "200") << host;
  }
  RawClient old(address_);
  old.send("GET /api/v1/status HTTP/1.0\r\n\r\n");
  EXPECT_THAT(old.read_all(), EndsWith("status"));
}

TEST_F(AdminHostTest, where_others_may_ask_too_they_do_so_by_a_name) {
  start({}, {config::Address::Kind::tcp, "0.0.0.0", 0, {}});
  EXPECT_EQ(status("POST /count", "broker.internal"), "200");
  EXPECT_EQ(status("GET /api/v1/status", "broker.internal:9464"), "200");
}

TEST_F(AdminTest, stopping_closes_what_is_open) {
  start();
  RawClient idle(address_);
  idle.send("GET /text HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(idle.read_until("hello"), EndsWith("hello"));
  RawClient waiting(address_);
  waiting.send("GET /held HTTP/1.1\r\nHost: x\r\n\r\n");
  is_held_.get_future().wait();
  asio::post(context_, [this] { server_->stop(); });
  EXPECT_EQ(idle.read_all(), "");
  EXPECT_EQ(waiting.read_all(), "");
  const auto reply = http_call(address_, {});
  ASSERT_FALSE(reply);
  EXPECT_THAT(reply.error().message, HasSubstr("cannot reach a broker at tcp://127.0.0.1:"));
}

TEST_F(AdminTest, a_port_that_is_taken_is_an_error_that_names_it) {
  start();
  asio::io_context context;
  AdminServer second(context);
  const auto bound = second.listen(address_);
  ASSERT_FALSE(bound);
  EXPECT_THAT(bound.error().message, HasSubstr("cannot listen on tcp://127.0.0.1:"));
}

TEST_F(AdminTest, the_client_gives_up_after_its_timeout) {
  start();
  const auto reply = http_call(address_, {.target = "/held", .timeout = milliseconds(100)});
  ASSERT_FALSE(reply);
  EXPECT_THAT(reply.error().message, HasSubstr("no answer from"));
}

class UnixAdminTest : public testing::Test {
 protected:
  UnixAdminTest() : path_("/tmp/spillway_admin_test." + std::to_string(getpid())) {}
  ~UnixAdminTest() override { unlink(path_.c_str()); }

  std::string path_;
};

TEST_F(UnixAdminTest, a_unix_socket_serves_with_its_mode_and_goes_with_the_server) {
  asio::io_context context;
  AdminServer server(context);
  server.route("GET", "/", [](HttpRequest, Responder respond) { respond({.body = "root"}); });
  const auto bound = server.listen(unix_at(path_), std::filesystem::perms(0600));
  ASSERT_TRUE(bound) << bound.error().message;
  struct stat status {};
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  std::thread thread([&context] { context.run(); });
  const auto reply = http_call(*bound, {});
  asio::post(context, [&server] { server.stop(); });
  thread.join();
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ(reply->body, "root");
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(UnixAdminTest, a_socket_left_behind_is_replaced_but_one_in_use_and_a_file_are_not) {
  asio::io_context context;
  { asio::local::stream_protocol::acceptor dead(context, {path_}); }
  ASSERT_TRUE(std::filesystem::exists(path_));
  AdminServer first(context);
  ASSERT_TRUE(first.listen(unix_at(path_)));
  AdminServer second(context);
  EXPECT_FALSE(second.listen(unix_at(path_)));
  EXPECT_TRUE(std::filesystem::exists(path_));
  first.stop();
  std::fclose(std::fopen(path_.c_str(), "w"));
  EXPECT_FALSE(second.listen(unix_at(path_)));
  EXPECT_TRUE(std::filesystem::is_regular_file(path_));
}

TEST_F(UnixAdminTest, a_path_that_is_too_long_is_said_so) {
  asio::io_context context;
  AdminServer server(context);
  const auto bound = server.listen(unix_at("/tmp/" + std::string(200, 'x')));
  ASSERT_FALSE(bound);
  EXPECT_THAT(bound.error().message, HasSubstr("longer than a Unix socket allows"));
}

TEST(RouterTest, a_fixed_route_added_first_wins_over_a_parameter) {
  HttpRouter router;
  std::string chosen;
  router.add("GET", "/a/fixed", [&](HttpRequest, Responder) { chosen = "fixed"; });
  router.add("GET", "/a/{name}", [&](HttpRequest r, Responder) { chosen = r.parameters["name"]; });
  HttpResponse otherwise;
  for (const char* path : {"/a/fixed", "/a/else"}) {
    auto match = router.match("GET", path, otherwise);
    ASSERT_TRUE(match);
    match->handler(match->request, Responder([](HttpResponse) {}));
    EXPECT_EQ("/a/" + chosen, path);
  }
}

}  // namespace
}  // namespace spillway::broker
