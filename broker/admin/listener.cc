#include "broker/admin/listener.h"

#include <sys/stat.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <cstring>
#include <string>
#include <system_error>

namespace spillway::broker {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using Generic = asio::generic::stream_protocol;

Error failed(const config::Address& address, const std::string& what, const error_code& error) {
  return {"cannot " + what + " " + to_string(address) + ": " + error.message()};
}

tcp::endpoint tcp_endpoint(const StreamAcceptor& acceptor) {
  const Generic::endpoint generic = acceptor.local_endpoint();
  tcp::endpoint endpoint;
  std::memcpy(endpoint.data(), generic.data(), generic.size());
  endpoint.resize(generic.size());
  return endpoint;
}

// Whether the file at the path is a socket that nobody listens on.
bool is_left_behind(asio::io_context& context, const std::string& path) {
  struct stat status {};
  if (lstat(path.c_str(), &status) != 0 || !S_ISSOCK(status.st_mode)) return false;
  asio::local::stream_protocol::socket socket(context);
  error_code error;
  socket.connect(path, error);
  return error == asio::error::connection_refused;
}

}  // namespace

Result<std::vector<Generic::endpoint>> stream_endpoints(const config::Address& address) {
  std::vector<Generic::endpoint> endpoints;
  if (address.kind == config::Address::Kind::unix_socket) {
    if (address.path.size() >= sizeof(sockaddr_un::sun_path)) {
      return Error{"the path of " + to_string(address) + " is longer than a Unix socket allows"};
    }
    endpoints.emplace_back(asio::local::stream_protocol::endpoint(address.path));
    return endpoints;
  }
  asio::io_context context;
  error_code error;
  const auto found = tcp::resolver(context).resolve(address.host, std::to_string(address.port),
                                                    tcp::resolver::numeric_service, error);
  if (error) return failed(address, "resolve", error);
  for (const auto& each : found) endpoints.emplace_back(each.endpoint());
  return endpoints;
}

Result<StreamAcceptor> open_listener(asio::io_context& context, const config::Address& address,
                                     std::filesystem::perms mode) {
  const auto endpoints = stream_endpoints(address);
  if (!endpoints) return endpoints.error();
  const Generic::endpoint& endpoint = endpoints->front();
  const bool is_unix = address.kind == config::Address::Kind::unix_socket;
  if (is_unix && is_left_behind(context, address.path)) {
    std::error_code ignored;
    std::filesystem::remove(address.path, ignored);
  }
  StreamAcceptor acceptor(context);
  error_code error;
  acceptor.open(endpoint.protocol(), error);
  if (!error && !is_unix) acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (error) return failed(address, "listen on", error);
  if (is_unix) {
    std::error_code refused;
    std::filesystem::permissions(address.path, mode, refused);
    if (refused) return Error{"cannot set the mode of " + address.path + ": " + refused.message()};
  }
  acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) return failed(address, "listen on", error);
  return acceptor;
}

config::Address bound_address(const StreamAcceptor& acceptor, const config::Address& address) {
  config::Address bound = address;
  if (address.kind == config::Address::Kind::tcp) bound.port = tcp_endpoint(acceptor).port();
  return bound;
}

bool is_bound_to_loopback(const StreamAcceptor& acceptor) {
  if (acceptor.local_endpoint().protocol().family() == AF_UNIX) return false;
  return tcp_endpoint(acceptor).address().is_loopback();
}

}  // namespace spillway::broker
