#include "broker/config/check.h"

#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <system_error>

#include "broker/config/units.h"

namespace spillway::config {
namespace {

namespace fs = std::filesystem;

std::string errno_text() { return std::strerror(errno); }

// What the tree takes on disk, as du counts it; files that vanish meanwhile count nothing.
std::uint64_t disk_use(const fs::path& folder) {
  std::uint64_t blocks = 0;
  std::error_code error;
  for (auto at = fs::recursive_directory_iterator(folder, error);
       !error && at != fs::recursive_directory_iterator(); at.increment(error)) {
    struct stat info {};
    if (::lstat(at->path().c_str(), &info) == 0) {
      blocks += static_cast<std::uint64_t>(info.st_blocks);
    }
  }
  return blocks * 512;
}

fs::path nearest_existing(fs::path path) {
  std::error_code error;
  path = fs::absolute(path, error);
  while (!fs::exists(path, error) && path.has_parent_path() && path != path.parent_path()) {
    path = path.parent_path();
  }
  return path;
}

class Checker {
 public:
  explicit Checker(const Config& config) : config_(config) {}

  Environment run() {
    folder("data_dir", config_.data_dir);
    disk();
    listener("admin.listen", config_.admin.listen);
    if (!is_loopback(config_.admin.listen)) {
      warning("admin.listen", to_string(config_.admin.listen) +
                                  " is not loopback: whoever reaches it may pause and reset sinks");
    }
    for (std::size_t i = 0; i < config_.ingress.size(); ++i) {
      listener("ingress[" + std::to_string(i) + "].listen", config_.ingress[i].listen);
    }
    for (std::size_t i = 0; i < config_.streams.size(); ++i) {
      const auto& stream = config_.streams[i];
      const auto path = "stream[" + std::to_string(i) + "]";
      tokens(path + ".token_file", stream.token_file);
      for (std::size_t k = 0; k < stream.sinks.size(); ++k) {
        sink(path + ".sink[" + std::to_string(k) + "]", stream.sinks[k]);
      }
    }
    return std::move(out_);
  }

 private:
  void checked(std::string text) { out_.checked.push_back(std::move(text)); }
  void problem(const std::string& key, std::string text) {
    out_.problems.push_back({config_.file.string(), 0, 0, key, std::move(text)});
  }
  void warning(const std::string& key, std::string text) {
    out_.warnings.push_back({config_.file.string(), 0, 0, key, std::move(text)});
  }

  // Exists and takes files, or can be made.
  bool folder(const std::string& key, const fs::path& path) {
    const auto existing = nearest_existing(path);
    std::error_code error;
    if (!fs::is_directory(existing, error)) {
      problem(key, existing.string() + " is not a directory");
      return false;
    }
    if (::access(existing.c_str(), W_OK | X_OK) != 0) {
      problem(key, existing.string() + " cannot be written: " + errno_text());
      return false;
    }
    const bool exists = fs::exists(path, error);
    checked(key + ": " + path.string() + (exists ? " can be written" : " can be made"));
    return true;
  }

  void disk() {
    const auto& journal = config_.journal;
    std::error_code error;
    const auto space = fs::space(nearest_existing(config_.data_dir), error);
    if (error) {
      problem("data_dir", "no word on its free disk space: " + error.message());
      return;
    }
    const auto used = disk_use(config_.data_dir);
    checked("journal.max_disk_bytes: " + format_bytes(journal.max_disk_bytes) + ", " +
            format_bytes(used) + " used, " + format_bytes(space.available) + " free on disk");
    if (space.available <= journal.min_free_disk) {
      problem("journal.min_free_disk", "only " + format_bytes(space.available) + " are free, " +
                                           format_bytes(journal.min_free_disk) +
                                           " are to be kept free: nothing could be journaled");
    } else if (space.available - journal.min_free_disk + used < journal.max_disk_bytes) {
      warning("journal.max_disk_bytes",
              format_bytes(journal.max_disk_bytes) + " cannot be reached: " +
                  format_bytes(space.available - journal.min_free_disk + used) +
                  " are there once min_free_disk is kept");
    }
  }

  void listener(const std::string& key, const Address& address) {
    if (address.kind == Address::Kind::unix_socket) {
      const fs::path path = address.path;
      std::error_code error;
      if (fs::exists(path, error) && !fs::is_socket(path, error)) {
        problem(key, path.string() + " exists and is not a socket");
      } else if (const auto missing = missing_folder(path);
                 missing && path.parent_path() != config_.data_dir) {  // that one the journal makes
        problem(key, path.string() + " cannot be made, " + *missing);
      } else {
        folder(key, path.parent_path());
      }
      return;
    }
    addrinfo* found = resolve(address, true);
    if (found == nullptr) {
      problem(key, "the host of " + to_string(address) + " is unknown");
      return;
    }
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, ::freeaddrinfo);
    const int fd = ::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
      problem(key, "cannot listen on " + to_string(address) + ": " + errno_text());
      return;
    }
    const int on = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (::bind(fd, found->ai_addr, found->ai_addrlen) == 0) {
      checked(key + ": " + to_string(address) + " is free");
    } else if (errno == EADDRINUSE) {
      warning(key, to_string(address) + " is in use, by a running broker perhaps");
    } else {
      problem(key, "cannot listen on " + to_string(address) + ": " + errno_text());
    }
    ::close(fd);
  }

  static addrinfo* resolve(const Address& address, bool passive) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0);
    addrinfo* found = nullptr;
    const auto port = std::to_string(address.port);
    if (::getaddrinfo(address.host.c_str(), port.c_str(), &hints, &found) != 0) return nullptr;
    return found;
  }

  // A sink may well be away: what it says of itself is no problem, only a warning.
  void target(const std::string& key, const Address& address) {
    if (address.kind != Address::Kind::tcp) return;
    addrinfo* found = resolve(address, false);
    if (found == nullptr) {
      warning(key, "the host of " + to_string(address) + " cannot be resolved now");
      return;
    }
    ::freeaddrinfo(found);
    checked(key + ": the host of " + to_string(address) + " is known");
  }

  void tokens(const std::string& key, const fs::path& file) {
    if (file.empty()) return;
    const auto read = read_tokens(file);
    if (!read) {
      problem(key, read.error().message);
    } else {
      checked(key + ": " + std::to_string(read->size()) + " tokens in " + file.string());
    }
  }

  void sink(const std::string& key, const Sink& sink) {
    if (const auto* file = std::get_if<FileSink>(&sink.destination)) {
      std::error_code error;
      if (fs::exists(file->path, error) && !fs::is_regular_file(file->path, error)) {
        problem(key + ".path", file->path.string() + " exists and is not a file");
      } else if (const auto missing = missing_folder(file->path)) {
        warning(key + ".path", file->path.string() + " cannot be made, " + *missing +
                                   " (until then the sink is away)");
      } else if (folder(key + ".path", file->path.parent_path()) && fs::exists(file->path, error) &&
                 ::access(file->path.c_str(), R_OK | W_OK) != 0) {
        problem(key + ".path", file->path.string() + " cannot be written: " + errno_text());
      }
    } else if (const auto* tcp = std::get_if<TcpSink>(&sink.destination)) {
      target(key + ".connect", tcp->connect);
    } else if (const auto* relay = std::get_if<SpillwaySink>(&sink.destination)) {
      target(key + ".connect", relay->connect);
      tokens(key + ".token_file", relay->token_file);
    }
    if (sink.max_bytes && *sink.max_bytes > config_.journal.max_disk_bytes) {
      warning(key + ".max_bytes",
              format_bytes(*sink.max_bytes) + " can never trip: journal.max_disk_bytes (" +
                  format_bytes(config_.journal.max_disk_bytes) + ") comes first, and halts");
    }
  }

  const Config& config_;
  Environment out_;
};

}  // namespace

std::optional<std::string> missing_folder(const fs::path& file) {
  const fs::path folder = file.has_parent_path() ? file.parent_path() : fs::path(".");
  std::error_code error;
  if (fs::exists(folder, error) || error) return std::nullopt;
  return "its folder " + folder.string() + " does not exist: mkdir -p " + folder.string();
}

Environment check_environment(const Config& config) { return Checker(config).run(); }

}  // namespace spillway::config
