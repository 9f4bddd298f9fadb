// The baseline of what passes through: reads, writes on, nothing else.
//
//   bench_relay --listen ADDRESS --connect ADDRESS
//
// One connection at a time, bytes both ways, with 256 KiB between a read and a write.
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vector>

#include "tests/bench/io.h"

namespace spillway::bench {
namespace {

void pass_on(int left, int right) {
  std::vector<std::byte> buffer(256 << 10);
  const auto pass = [&](int from, int to) {
    const ssize_t got = ::recv(from, buffer.data(), buffer.size(), 0);
    return got > 0 && write_all(to, std::span(buffer).first(static_cast<std::size_t>(got)));
  };
  for (;;) {
    pollfd waiting[] = {{left, POLLIN, 0}, {right, POLLIN, 0}};
    if (::poll(waiting, 2, -1) < 0) die("poll");
    if (waiting[0].revents != 0 && !pass(left, right)) return;
    if (waiting[1].revents != 0 && !pass(right, left)) return;
  }
}

}  // namespace
}  // namespace spillway::bench

int main(int argc, char** argv) {
  using namespace spillway::bench;
  const Arguments arguments(argc, argv);
  const std::string target = arguments.text("--connect");
  const int listener = listen_at(arguments.text("--listen"));
  Line().add("ready", now()).print();
  for (;;) {
    const int left = accept_from(listener);
    const int right = connect_to(target);
    pass_on(left, right);
    ::close(left);
    ::close(right);
  }
}
