#include "broker/config/config.h"

#include <arpa/inet.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>

namespace spillway::config {
namespace {

constexpr std::string_view kTcp = "tcp://";
constexpr std::string_view kUnix = "unix://";
constexpr std::size_t kMaxName = 64;
constexpr std::size_t kMaxUnixPath = sizeof(sockaddr_un::sun_path) - 1;

// One IPv6 address has many spellings.
std::string canonical(const std::string& host) {
  in6_addr address{};
  char text[INET6_ADDRSTRLEN] = {};
  if (inet_pton(AF_INET6, host.c_str(), &address) != 1) return host;
  return inet_ntop(AF_INET6, &address, text, sizeof(text));
}

Error bad_address(std::string_view text, std::string_view why, bool plain_is_tcp) {
  return Error{"\"" + std::string(text) + "\" is not an address: " + std::string(why) + " (write " +
               (plain_is_tcp ? "host:port, " : "") + "tcp://host:port or unix:///path)"};
}

Result<Address> parse_tcp(std::string_view whole, std::string_view rest, bool plain_is_tcp) {
  const auto bad = [&](std::string_view why) { return bad_address(whole, why, plain_is_tcp); };
  Address address;
  std::string_view port;
  if (rest.starts_with('[')) {
    const auto end = rest.find(']');
    if (end == std::string_view::npos) return bad("a '[' without its ']'");
    address.host = rest.substr(1, end - 1);
    in6_addr parsed{};
    if (inet_pton(AF_INET6, address.host.c_str(), &parsed) != 1) {
      return bad("no IPv6 address in []");
    }
    rest.remove_prefix(end + 1);
    if (!rest.starts_with(':')) return bad("the port is missing");
    port = rest.substr(1);
  } else {
    const auto colon = rest.rfind(':');
    if (colon == std::string_view::npos) return bad("the port is missing");
    address.host = rest.substr(0, colon);
    port = rest.substr(colon + 1);
    if (address.host.empty()) return bad("the host is missing");
    if (address.host.find(':') != std::string::npos) return bad("write an IPv6 host in []");
    if (address.host.find_first_of("/ @?#") != std::string::npos) return bad("the host is no name");
  }
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
  if (error != std::errc{} || end != port.data() + port.size()) {
    return bad("the port must be a number from 0 to 65535");
  }
  return address;
}

}  // namespace

std::string to_string(const Address& address) {
  if (address.kind == Address::Kind::unix_socket) return std::string(kUnix) + address.path;
  const bool v6 = address.host.find(':') != std::string::npos;
  return std::string(kTcp) + (v6 ? "[" + address.host + "]" : address.host) + ":" +
         std::to_string(address.port);
}

Result<Address> parse_address(std::string_view text, bool plain_is_tcp) {
  if (text.starts_with(kUnix)) {
    Address address;
    address.kind = Address::Kind::unix_socket;
    address.path = text.substr(kUnix.size());
    if (address.path.empty()) return bad_address(text, "the path is missing", plain_is_tcp);
    if (address.path.size() > kMaxUnixPath) {
      return bad_address(text, "the path is longer than " + std::to_string(kMaxUnixPath) + " bytes",
                         plain_is_tcp);
    }
    return address;
  }
  if (text.starts_with(kTcp)) return parse_tcp(text, text.substr(kTcp.size()), plain_is_tcp);
  if (plain_is_tcp && text.find("://") == std::string_view::npos) {
    return parse_tcp(text, text, plain_is_tcp);
  }
  return bad_address(text, "the scheme is missing or unknown", plain_is_tcp);
}

bool is_loopback(const Address& address) {
  if (address.kind == Address::Kind::unix_socket || address.host == "localhost") return true;
  in_addr v4{};
  if (inet_pton(AF_INET, address.host.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
  in6_addr v6{};
  return inet_pton(AF_INET6, address.host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6) != 0;
}

bool is_same_place(const Address& left, const Address& right) {
  if (left.kind != right.kind || left.kind != Address::Kind::tcp) return left == right;
  if (left.port != right.port) return false;
  const auto localhost = [](const std::string& host) {
    return host == "127.0.0.1" || host == "::1";
  };
  const std::string a = canonical(left.host);
  const std::string b = canonical(right.host);
  return a == b || (a == "localhost" && localhost(b)) || (b == "localhost" && localhost(a));
}

bool is_name(std::string_view text) {
  const bool letters = std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
  return !text.empty() && text.size() <= kMaxName && letters && text != "." && text != "..";
}

std::string_view type_of(const Sink& sink) {
  struct Name {
    std::string_view operator()(const FileSink&) const { return "file"; }
    std::string_view operator()(const TcpSink&) const { return "tcp"; }
    std::string_view operator()(const SpillwaySink&) const { return "spillway"; }
  };
  return std::visit(Name{}, sink.destination);
}

std::string sink_identity(const Sink& sink) {
  struct Identity {
    std::string operator()(const FileSink& file) const {
      return "file " + file.path.lexically_normal().string();
    }
    std::string operator()(const TcpSink& tcp) const { return "tcp " + to_string(tcp.connect); }
    std::string operator()(const SpillwaySink& relay) const {
      return "spillway " + to_string(relay.connect) + " " + relay.stream;
    }
  };
  return std::visit(Identity{}, sink.destination);
}

std::string to_string(const Diagnostic& diagnostic) {
  std::string out = diagnostic.file;
  if (diagnostic.line != 0) {
    out += ":" + std::to_string(diagnostic.line) + ":" + std::to_string(diagnostic.column);
  }
  out += ": ";
  if (!diagnostic.key.empty()) out += diagnostic.key + ": ";
  return out + diagnostic.message;
}

Result<std::vector<std::string>> read_tokens(const std::filesystem::path& file) {
  struct stat info {};
  if (::stat(file.c_str(), &info) != 0) {
    return Error{"cannot read token file " + file.string() + ": " + std::strerror(errno)};
  }
  if (!S_ISREG(info.st_mode)) return Error{"token file " + file.string() + " is not a file"};
  if ((info.st_mode & (S_IROTH | S_IWOTH)) != 0) {
    return Error{"token file " + file.string() + " is open to everybody; chmod 640 it"};
  }
  std::ifstream in(file);
  if (!in) return Error{"cannot read token file " + file.string() + ": " + std::strerror(errno)};
  std::vector<std::string> tokens;
  std::string line;
  while (std::getline(in, line)) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (!line.empty() && line.front() != '#') tokens.push_back(line);
  }
  if (tokens.empty()) return Error{"token file " + file.string() + " holds no token"};
  return tokens;
}

}  // namespace spillway::config
