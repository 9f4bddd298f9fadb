// AdminServer: the small HTTP/1.1 server of the broker, for operators, scrapers and the command
// line.
//
// Operation: route() first, then listen(). Handlers answer through their Responder, at once or
// later. Bounded in everything (AdminLimits), so that no client can hold it up or make it grow.
// Concurrency: all methods on the thread that runs the io_context, or while nobody runs it.
// Handlers run on that thread; Responders work from any.
// Lifetime: the io_context must outlive the server; stop() closes everything at once.
// Limitations: no TLS, no authentication: listen on loopback or on a Unix socket.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "broker/admin/http.h"
#include "broker/config/config.h"

namespace spillway::broker {

struct AdminLimits {
  std::size_t header_bytes = std::size_t{8} << 10;  // more is a 431
  std::size_t body_bytes = std::size_t{64} << 10;   // more is a 413
  std::size_t connections = 64;                     // more get a 503
  std::size_t refusals = 16;                        // of these at once; more are closed unheard
  std::chrono::milliseconds request{10'000};        // from the first byte of a request to its last
  std::chrono::milliseconds idle{30'000};           // between two requests of a connection
  std::chrono::milliseconds handler{10'000};        // then a 503
  std::chrono::milliseconds write{10'000};          // for the client to take the response
  std::chrono::milliseconds linger{2'000};          // for the client to see why it is closed
};

class AdminServer {
 public:
  explicit AdminServer(boost::asio::io_context& context, AdminLimits limits = {});
  ~AdminServer();
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

  // See HttpRouter::add().
  void route(std::string method, std::string_view pattern, HttpHandler handler);

  // Begins to accept. `mode` are the permissions of a Unix socket. Gives the address as bound, with
  // the port that the system chose for port 0.
  Result<config::Address> listen(const config::Address& address,
                                 std::filesystem::perms mode = std::filesystem::perms(0660));
  void stop();

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace spillway::broker
