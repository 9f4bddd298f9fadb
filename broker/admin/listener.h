// Opening a listening socket, TCP or Unix, for one kind of code to serve both.
#pragma once

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <vector>

#include "base/result.h"
#include "broker/config/config.h"

namespace spillway::broker {

using StreamAcceptor = boost::asio::basic_socket_acceptor<boost::asio::generic::stream_protocol>;

// Binds and listens. A Unix socket left behind by a dead process is replaced, one that somebody
// listens on is an error; nobody can connect before it has its permissions.
Result<StreamAcceptor> open_listener(boost::asio::io_context& context,
                                     const config::Address& address, std::filesystem::perms mode);

// Where `acceptor`, opened for `address`, really listens.
config::Address bound_address(const StreamAcceptor& acceptor, const config::Address& address);

// Whether only this machine's own programs reach it, over TCP.
bool is_bound_to_loopback(const StreamAcceptor& acceptor);

// What `address` stands for, in the order to try. Asks the system's resolver for names.
Result<std::vector<boost::asio::generic::stream_protocol::endpoint>> stream_endpoints(
    const config::Address& address);

}  // namespace spillway::broker
