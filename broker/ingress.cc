#include "broker/ingress.h"

#include <unistd.h>

#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstring>
#include <filesystem>
#include <set>
#include <utility>

#include "broker/admin/listener.h"
#include "broker/log/log.h"

namespace spillway::broker {

namespace asio = boost::asio;
using boost::system::error_code;
using wire::RejectCode;

namespace {

std::atomic<std::uint64_t> next_session{1};

std::string describe(const Connection::Socket& socket) {
  error_code error;
  const auto remote = socket.remote_endpoint(error);
  if (error) return "unknown";
  if (remote.protocol().family() == AF_UNIX) return "unix";
  asio::ip::tcp::endpoint endpoint;
  if (remote.size() > endpoint.capacity()) return "unknown";
  std::memcpy(endpoint.data(), remote.data(), remote.size());
  endpoint.resize(remote.size());
  const auto host = endpoint.address().to_string();
  const std::string shown = endpoint.address().is_v6() ? "[" + host + "]" : host;
  return shown + ":" + std::to_string(endpoint.port());
}

}  // namespace

bool token_fits(const std::string& token, const std::vector<std::string>& tokens) {
  bool fits = false;
  for (const std::string& candidate : tokens) {
    if (candidate.empty()) continue;
    unsigned difference = token.size() == candidate.size() ? 0 : 1;
    for (std::size_t i = 0; i < token.size(); ++i) {
      const auto ours = static_cast<unsigned char>(candidate[i % candidate.size()]);
      difference |= static_cast<unsigned char>(token[i]) ^ static_cast<unsigned>(ours);
    }
    if (difference == 0) fits = true;
  }
  return fits;
}

struct Ingress::Shared {
  asio::io_context& io;
  metrics::IngressProbe& probe;
  const std::size_t max_connections;
  Check check;
  Introduce introduce;
  std::set<std::shared_ptr<Handshake>> handshakes;
  bool stopped = false;
};

// --- until Hello
// ----------------------------------------------------------------------------------

class Ingress::Handshake final : public Connection::Handler,
                                 public std::enable_shared_from_this<Handshake> {
 public:
  Handshake(std::shared_ptr<Shared> shared, Connection::Socket socket, std::shared_ptr<void> slot)
      : shared_(std::move(shared)),
        address_(describe(socket)),
        slot_(std::move(slot)),
        deadline_(shared_->io),
        connection_(std::make_shared<Connection>(
            std::move(socket), wire::FrameReader(wire::kMaxControlBytes), *this, slot_)) {}

  void start() {
    deadline_.expires_after(kHelloLimit);
    deadline_.async_wait([self = shared_from_this()](error_code error) {
      if (!error) self->refuse({RejectCode::malformed, "no Hello within 10 seconds"});
    });
    connection_->start();
  }

  void refuse(const wire::Refusal& refusal) {
    if (done_) return;
    log::warning(
        "producer refused",
        {{"address", address_}, {"code", wire::name_of(refusal.code)}, {"why", refusal.text}});
    shared_->probe.rejected(wire::name_of(refusal.code));
    connection_->farewell(wire::encode_reject(refusal));
    finish();
  }

 private:
  void on_bytes() override {
    const auto self = shared_from_this();
    const auto bytes = connection_->reader().next();
    if (!bytes) return refuse({RejectCode::malformed, bytes.error().message});
    if (!*bytes) return;
    const auto frame = wire::decode(**bytes);
    if (!frame) return refuse({RejectCode::malformed, frame.error().message});
    if (!frame->has_hello()) return refuse({RejectCode::malformed, "the first frame is not Hello"});
    const v1::Hello& hello = frame->hello();
    if (hello.min_version() > wire::kVersion || hello.max_version() < wire::kVersion) {
      return refuse({RejectCode::unsupported_version,
                     "this broker speaks only version " + std::to_string(wire::kVersion)});
    }
    if (const auto refusal = shared_->check(hello)) return refuse(*refusal);
    Introduction introduction;
    introduction.session = SessionId{next_session++};
    introduction.protocol = connection_->protocol();
    introduction.reader = std::move(connection_->reader());
    introduction.hello = hello;
    introduction.address = address_;
    introduction.slot = std::move(slot_);
    introduction.descriptor = connection_->release();
    finish();
    if (introduction.descriptor >= 0) shared_->introduce(std::move(introduction));
  }

  void on_closed(std::string_view) override { finish(); }
  void on_drained() override {}

  void finish() {
    done_ = true;
    deadline_.cancel();
    connection_->close_unless_parting();
    shared_->handshakes.erase(shared_from_this());
  }

  const std::shared_ptr<Shared> shared_;
  const std::string address_;
  std::shared_ptr<void> slot_;
  asio::steady_timer deadline_;
  const std::shared_ptr<Connection> connection_;
  bool done_ = false;
};

// --- listeners
// ------------------------------------------------------------------------------------

class Ingress::Listener : public std::enable_shared_from_this<Listener> {
 public:
  explicit Listener(std::shared_ptr<Shared> shared)
      : shared_(std::move(shared)),
        acceptor_(shared_->io),
        pause_(shared_->io),
        open_(std::make_shared<std::atomic<std::size_t>>(0)) {}

  Result<config::Address> listen(const config::Ingress& ingress) {
    auto opened = open_listener(shared_->io, ingress.listen,
                                static_cast<std::filesystem::perms>(ingress.mode));
    if (!opened) return opened.error();
    acceptor_ = std::move(*opened);
    path_ = ingress.listen.path;
    return bound_address(acceptor_, ingress.listen);
  }

  void accept() {
    acceptor_.async_accept(
        [self = shared_from_this()](error_code error, Connection::Socket socket) {
          if (self->shared_->stopped) return;
          if (error) return self->pause(error);
          self->take(std::move(socket));
          self->accept();
        });
  }

  void stop() {
    error_code ignored;
    acceptor_.close(ignored);
    pause_.cancel();
    if (!path_.empty()) ::unlink(path_.c_str());
  }

 private:
  void take(Connection::Socket socket) {
    error_code ignored;
    if (path_.empty()) socket.set_option(asio::ip::tcp::no_delay(true), ignored);
    ++*open_;
    shared_->probe.connected();
    std::shared_ptr<void> slot(nullptr, [open = open_, &probe = shared_->probe](void*) {
      --*open;
      probe.disconnected();
    });
    const std::size_t most = shared_->max_connections;
    if (*open_ > most + kMaxRefusals) return dismiss(socket);
    const bool full = *open_ > most;
    error_code gone;
    socket.local_endpoint(gone);
    if (gone) return;
    const auto handshake = std::make_shared<Handshake>(shared_, std::move(socket), std::move(slot));
    shared_->handshakes.insert(handshake);
    if (full) return handshake->refuse({RejectCode::busy, "too many connections"});
    handshake->start();
  }

  // Says why if that can be done at once: nothing is waited for, and nothing kept.
  void dismiss(Connection::Socket& socket) {
    const wire::Refusal refusal{RejectCode::busy, "too many connections"};
    shared_->probe.rejected(wire::name_of(refusal.code));
    const std::string bytes = wire::encode_reject(refusal);
    error_code ignored;
    socket.non_blocking(true, ignored);
    socket.send(asio::buffer(bytes), 0, ignored);
  }

  void pause(error_code error) {
    log::warning("accept failed", {{"why", error.message()}});
    pause_.expires_after(kAcceptPause);
    pause_.async_wait([self = shared_from_this()](error_code cancelled) {
      if (!cancelled && !self->shared_->stopped) self->accept();
    });
  }

  const std::shared_ptr<Shared> shared_;
  StreamAcceptor acceptor_;
  asio::steady_timer pause_;
  std::string path_;
  const std::shared_ptr<std::atomic<std::size_t>> open_;
};

Ingress::Ingress(asio::io_context& io, metrics::IngressProbe& probe, std::size_t max_connections,
                 Check check, Introduce introduce)
    : shared_(std::make_shared<Shared>(
          Shared{io, probe, max_connections, std::move(check), std::move(introduce), {}, false})) {}

Ingress::~Ingress() { stop(); }

Result<config::Address> Ingress::listen(const config::Ingress& ingress) {
  const auto listener = std::make_shared<Listener>(shared_);
  auto bound = listener->listen(ingress);
  if (!bound) {
    listener->stop();
    return bound;
  }
  listeners_.push_back(listener);
  listener->accept();
  return bound;
}

void Ingress::stop() {
  if (std::exchange(shared_->stopped, true)) return;
  for (const auto& listener : listeners_) listener->stop();
  const auto handshakes = shared_->handshakes;
  for (const auto& handshake : handshakes) {
    handshake->refuse({RejectCode::shutting_down, "the broker stops"});
  }
}

}  // namespace spillway::broker
