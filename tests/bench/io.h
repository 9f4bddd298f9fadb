// What the programs of the benchmark share: blocking sockets, time, and what they print.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace spillway::bench {

// Seconds since some moment.
double now();
// User and system time of this process, in seconds.
double cpu_seconds();

// --name VALUE pairs. What is missing or wrong ends the program with exit code 2.
class Arguments {
 public:
  Arguments(int argc, char** argv);
  std::string text(std::string_view name, std::string_view otherwise) const;
  std::string text(std::string_view name) const;
  std::uint64_t number(std::string_view name, std::uint64_t otherwise) const;
  bool has(std::string_view name) const;

 private:
  std::vector<std::string> words_;
};

[[noreturn]] void die(const std::string& why);

// "tcp://127.0.0.1:PORT" or "unix://PATH". Large buffers, no delay. Each ends the program when it
// fails.
int listen_at(const std::string& address);
int accept_from(int listener);
int connect_to(const std::string& address);
// False at the end of the stream or after a reset.
bool write_all(int socket, std::span<const std::byte> bytes);
inline bool write_all(int socket, std::string_view text) {
  return write_all(socket, std::as_bytes(std::span(text)));
}

// One JSON object on a line, flushed.
class Line {
 public:
  Line& add(std::string_view name, double value);
  Line& add(std::string_view name, std::string_view value);
  void print();

 private:
  void key(std::string_view name);
  std::string text_ = "{";
};

// The value below which a share of them lies; sorts.
double percentile(std::vector<double>& values, double share);

}  // namespace spillway::bench
