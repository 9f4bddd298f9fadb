#include "broker/admin/server.h"

#include <boost/asio/steady_timer.hpp>
#include <optional>
#include <utility>

#include "broker/admin/connection.h"
#include "broker/admin/listener.h"

namespace spillway::broker {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

// Without file descriptors accept() fails at once and for as long: do not spin.
constexpr std::chrono::milliseconds kAcceptPause{100};

}  // namespace

class AdminServer::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(asio::io_context& context, AdminLimits limits)
      : context_(context), pause_(context), state_(std::make_shared<AdminState>()) {
    state_->limits = limits;
  }

  HttpRouter& router() { return state_->router; }

  Result<config::Address> listen(const config::Address& address, std::filesystem::perms mode) {
    auto opened = open_listener(context_, address, mode);
    if (!opened) return opened.error();
    acceptor_.emplace(std::move(*opened));
    address_ = bound_address(*acceptor_, address);
    if (is_bound_to_loopback(*acceptor_)) state_->own_host = address.host;
    accept();
    return address_;
  }

  void stop() {
    if (acceptor_ && acceptor_->is_open()) {
      error_code ignored;
      acceptor_->close(ignored);
      std::error_code gone;
      if (!address_.path.empty()) std::filesystem::remove(address_.path, gone);
    }
    pause_.cancel();
    for (HttpConnection* connection : state_->connections) connection->close();
  }

 private:
  void accept() {
    acceptor_->async_accept([self = shared_from_this()](
                                error_code error, asio::generic::stream_protocol::socket socket) {
      self->on_accept(error, std::move(socket));
    });
  }

  void on_accept(error_code error, asio::generic::stream_protocol::socket socket) {
    if (!acceptor_->is_open()) return;
    if (error) {
      pause_.expires_after(kAcceptPause);
      return pause_.async_wait([self = shared_from_this()](error_code cancelled) {
        if (!cancelled && self->acceptor_->is_open()) self->accept();
      });
    }
    const std::size_t open = state_->connections.size();
    const AdminLimits& limits = state_->limits;
    if (open < limits.connections + limits.refusals) {
      std::make_shared<HttpConnection>(std::move(socket), state_, open >= limits.connections)
          ->start();
    }
    accept();
  }

  asio::io_context& context_;
  asio::steady_timer pause_;
  std::shared_ptr<AdminState> state_;
  std::optional<StreamAcceptor> acceptor_;
  config::Address address_;
};

AdminServer::AdminServer(asio::io_context& context, AdminLimits limits)
    : impl_(std::make_shared<Impl>(context, limits)) {}

AdminServer::~AdminServer() { stop(); }

void AdminServer::route(std::string method, std::string_view pattern, HttpHandler handler) {
  impl_->router().add(std::move(method), pattern, std::move(handler));
}

Result<config::Address> AdminServer::listen(const config::Address& address,
                                            std::filesystem::perms mode) {
  return impl_->listen(address, mode);
}

void AdminServer::stop() { impl_->stop(); }

}  // namespace spillway::broker
