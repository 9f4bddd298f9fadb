#include "tests/bench/io.h"

#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace spillway::bench {

namespace {

constexpr int kSocketBytes = 1 << 20;

struct Endpoint {
  sockaddr_storage address{};
  socklen_t length = 0;
  int family = AF_INET;
};

Endpoint parse(const std::string& address) {
  Endpoint endpoint;
  if (address.starts_with("unix://")) {
    sockaddr_un local{};
    local.sun_family = AF_UNIX;
    const std::string path = address.substr(7);
    if (path.size() >= sizeof(local.sun_path)) die(path + " is too long for a socket");
    std::memcpy(local.sun_path, path.c_str(), path.size() + 1);
    std::memcpy(&endpoint.address, &local, sizeof(local));
    endpoint.length = sizeof(local);
    endpoint.family = AF_UNIX;
    return endpoint;
  }
  const auto colon = address.rfind(':');
  if (!address.starts_with("tcp://") || colon < 6) die(address + " is no address");
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_family = AF_INET;
  addrinfo* found = nullptr;
  const std::string host = address.substr(6, colon - 6);
  if (::getaddrinfo(host.c_str(), address.c_str() + colon + 1, &hints, &found) != 0) {
    die(address + " is not found");
  }
  std::memcpy(&endpoint.address, found->ai_addr, found->ai_addrlen);
  endpoint.length = found->ai_addrlen;
  ::freeaddrinfo(found);
  return endpoint;
}

void tune(int socket, int family) {
  ::setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &kSocketBytes, sizeof(kSocketBytes));
  ::setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &kSocketBytes, sizeof(kSocketBytes));
  const int on = 1;
  if (family == AF_INET) ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

}  // namespace

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

void die(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  std::exit(2);
}

Arguments::Arguments(int argc, char** argv) : words_(argv + 1, argv + argc) {}

bool Arguments::has(std::string_view name) const {
  return std::ranges::find(words_, name) != words_.end();
}

std::string Arguments::text(std::string_view name, std::string_view otherwise) const {
  const auto at = std::ranges::find(words_, name);
  if (at == words_.end()) return std::string(otherwise);
  if (at + 1 == words_.end()) die(std::string(name) + " needs a value");
  return *(at + 1);
}

std::string Arguments::text(std::string_view name) const {
  if (!has(name)) die(std::string(name) + " is missing");
  return text(name, "");
}

std::uint64_t Arguments::number(std::string_view name, std::uint64_t otherwise) const {
  if (!has(name)) return otherwise;
  const std::string word = text(name);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc() || end != word.data() + word.size()) {
    die(std::string(name) + " is no number: " + word);
  }
  return value;
}

int listen_at(const std::string& address) {
  const Endpoint endpoint = parse(address);
  const int socket = ::socket(endpoint.family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  tune(socket, endpoint.family);  // before listen(), or the window does not scale
  if (::bind(socket, reinterpret_cast<const sockaddr*>(&endpoint.address), endpoint.length) != 0 ||
      ::listen(socket, SOMAXCONN) != 0) {
    die("cannot listen at " + address + ": " + std::strerror(errno));
  }
  return socket;
}

int accept_from(int listener) {
  const int socket = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  if (socket < 0) die(std::string("accept: ") + std::strerror(errno));
  sockaddr_storage local{};
  socklen_t length = sizeof(local);
  ::getsockname(socket, reinterpret_cast<sockaddr*>(&local), &length);
  tune(socket, local.ss_family);
  return socket;
}

int connect_to(const std::string& address) {
  const Endpoint endpoint = parse(address);
  const int socket = ::socket(endpoint.family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  tune(socket, endpoint.family);
  if (::connect(socket, reinterpret_cast<const sockaddr*>(&endpoint.address), endpoint.length) !=
      0) {
    die("cannot connect to " + address + ": " + std::strerror(errno));
  }
  return socket;
}

bool write_all(int socket, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (written <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return true;
}

void Line::key(std::string_view name) {
  if (text_.size() > 1) text_ += ", ";
  text_.append("\"").append(name).append("\": ");
}

Line& Line::add(std::string_view name, double value) {
  key(name);
  char digits[32];
  std::snprintf(digits, sizeof(digits), "%.9g", value);
  text_ += digits;
  return *this;
}

Line& Line::add(std::string_view name, std::string_view value) {
  key(name);
  text_.append("\"").append(value).append("\"");
  return *this;
}

void Line::print() {
  std::printf("%s}\n", text_.c_str());
  std::fflush(stdout);
}

double percentile(std::vector<double>& values, double share) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  const auto index = static_cast<std::size_t>(share * static_cast<double>(values.size()));
  return values[std::min(index, values.size() - 1)];
}

}  // namespace spillway::bench
