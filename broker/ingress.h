// Ingress: the listeners for producers, and each connection until it has said Hello.
//
// Operation: listen() for each address, then connections are accepted until stop(). A connection
// has kHelloLimit to say Hello with a stream that exists and a token that fits; then it is handed
// on as an Introduction, without its socket ever being read by two threads. Otherwise it gets a
// Reject.
// Concurrency: one thread, that of its io_context. Introductions leave on that thread.
// Lifetime: the io_context must outlive it. A connection that was handed on counts against the
// limit of its listener while Introduction::slot lives; one that is refused, until it is closed.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "broker/config/config.h"
#include "broker/producer_session.h"
#include "metrics/probes.h"
#include "wire/reject.h"

namespace spillway::broker {

inline constexpr std::chrono::milliseconds kHelloLimit{10'000};
inline constexpr std::size_t kMaxConnections = 1024;  // of one listener
inline constexpr std::size_t kMinConnections = 16;    // however few descriptors there are
inline constexpr std::size_t kMaxRefusals = 64;       // waited for until they have read why
// After an accept that failed, such as for want of descriptors.
inline constexpr std::chrono::milliseconds kAcceptPause{100};

class Ingress {
 public:
  // Why a Hello is not welcome; nothing: it is.
  using Check = std::function<std::optional<wire::Refusal>(const v1::Hello& hello)>;
  using Introduce = std::function<void(Introduction introduction)>;

  // Each listener takes `max_connections`.
  Ingress(boost::asio::io_context& io, metrics::IngressProbe& probe, std::size_t max_connections,
          Check check, Introduce introduce);
  ~Ingress();
  Ingress(const Ingress&) = delete;
  Ingress& operator=(const Ingress&) = delete;

  // The address as bound, with the port that the system chose for port 0. A Unix socket that a
  // process left behind is replaced; one that somebody listens on is an error.
  Result<config::Address> listen(const config::Ingress& ingress);
  // No new connections; those that have not said Hello are refused.
  void stop();

 private:
  class Listener;
  class Handshake;
  struct Shared;

  std::shared_ptr<Shared> shared_;
  std::vector<std::shared_ptr<Listener>> listeners_;
};

// Whether `token` is one of `tokens`, in a time that does not depend on where they differ.
bool token_fits(const std::string& token, const std::vector<std::string>& tokens);

}  // namespace spillway::broker
