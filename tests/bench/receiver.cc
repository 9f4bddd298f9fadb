// The far end of the benchmark: takes records and says so, nothing else.
//
//   bench_receiver --listen ADDRESS --protocol spillway|lines [--expect RECORDS]
//
// Prints {"ready"} once it listens; {"connected": AT} and {"first": AT} for each connection, its
// first record; and, when so many records came, one line with when the first and the last of them
// did, bytes and its CPU time. Times are seconds of the monotonic clock. Serves until it is killed.
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/bench/io.h"
#include "wire/batch.h"
#include "wire/frame.h"

namespace spillway::bench {
namespace {

struct Totals {
  std::uint64_t expected = 0;
  std::uint64_t records = 0;
  std::uint64_t bytes = 0;
  double first = 0;
  double cpu_at_first = 0;
  std::map<std::string, Position> held;  // of each stream, across connections

  void took(std::uint64_t count, std::uint64_t size) {
    if (records == 0) {
      first = now();
      cpu_at_first = cpu_seconds();
    }
    const bool before = records < expected;
    records += count;
    bytes += size;
    if (!before || records < expected) return;
    Line()
        .add("records", static_cast<double>(records))
        .add("bytes", static_cast<double>(bytes))
        .add("first", first)
        .add("last", now())
        .add("cpu", cpu_seconds() - cpu_at_first)
        .print();
  }
};

class Peer {
 public:
  explicit Peer(int socket) : socket_(socket) { Line().add("connected", now()).print(); }
  virtual ~Peer() { ::close(socket_); }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  int socket() const { return socket_; }
  // False when it is over.
  virtual bool readable() = 0;

 protected:
  void note_first() {
    if (!std::exchange(began_, true)) Line().add("first", now()).print();
  }
  const int socket_;

 private:
  bool began_ = false;
};

// Another broker, as far as a spillway sink or a producer can tell: checks what a broker checks.
class SpillwayPeer final : public Peer {
 public:
  SpillwayPeer(int socket, Totals& totals) : Peer(socket), totals_(totals) {}

  bool readable() override {
    const std::span<std::byte> room = reader_.prepare();
    const ssize_t got = ::recv(socket_, room.data(), room.size(), 0);
    if (got <= 0) return false;
    reader_.commit(static_cast<std::size_t>(got));
    const Position before = held_ != nullptr ? *held_ : Position{};
    for (;;) {
      const auto frame = reader_.next();
      if (!frame) die(frame.error().message);
      if (!*frame) break;
      if (wire::is_batch(**frame)) {
        take(**frame);
      } else if (!answer(**frame)) {
        return false;
      }
    }
    return held_ == nullptr || *held_ == before ||
           write_all(socket_, wire::encode_ack(*held_, *held_));
  }

 private:
  void take(std::span<const std::byte> frame) {
    if (held_ == nullptr) die("a batch before Hello");
    const auto bytes = wire::batch_of(frame);
    if (!bytes) die(bytes.error().message);
    const auto batch = wire::parse_batch(*bytes);
    if (!batch) die(batch.error().message);
    std::optional<wire::NewestMark> mark;
    const auto refusal = wire::scan_records(*batch, std::uint64_t{1} << 30, parts_, shapes_, mark);
    if (refusal) die(refusal->text);
    const bool follows =
        batch->epoch != held_->epoch || batch->first_sequence == held_->sequence + 1;
    if (!follows) die("a gap before " + to_string(batch->first()));
    note_first();
    *held_ = batch->last();
    totals_.took(batch->count, batch->records.size());
  }

  bool answer(std::span<const std::byte> bytes) {
    const auto frame = wire::decode(bytes);
    if (!frame) die(frame.error().message);
    if (frame->has_ping()) return write_all(socket_, wire::encode_pong(frame->ping().nonce()));
    if (frame->has_goodbye()) return false;
    if (!frame->has_hello()) return true;
    const v1::Hello& hello = frame->hello();
    held_ = &totals_.held[hello.stream()];
    const Position held = *held_;
    const std::uint64_t own = hello.own_epoch();
    v1::Frame reply;
    v1::Welcome& welcome = *reply.mutable_welcome();
    welcome.set_version(wire::kVersion);
    welcome.set_generation(std::max<std::uint64_t>(1, hello.generation()));
    welcome.set_epoch(own != 0 ? own : std::max<std::uint64_t>(1, held.epoch));
    if (held.sequence != 0) {
      *welcome.mutable_held() = wire::to_proto(held);
      *welcome.mutable_safe() = wire::to_proto(held);
    }
    welcome.set_max_frame_bytes(wire::kDefaultMaxFrameBytes);
    welcome.set_max_record_bytes(std::uint64_t{1} << 30);
    welcome.set_max_in_flight_bytes(std::uint64_t{48} << 20);  // as a broker of 64 MiB says
    welcome.set_ping_interval_ms(5000);
    return write_all(socket_, wire::encode(reply));
  }

  Totals& totals_;
  Position* held_ = nullptr;  // of the stream that Hello named
  wire::FrameReader reader_;
  wire::PartState parts_;
  std::vector<wire::RecordShape> shapes_;
};

// A tcp sink with framing = "lines" and acknowledge = "count".
class LinesPeer final : public Peer {
 public:
  LinesPeer(int socket, Totals& totals) : Peer(socket), totals_(totals), buffer_(1 << 20) {}

  bool readable() override {
    const ssize_t got = ::recv(socket_, buffer_.data(), buffer_.size(), 0);
    if (got <= 0) return false;
    const auto size = static_cast<std::size_t>(got);
    const auto count =
        static_cast<std::uint64_t>(std::count(buffer_.data(), buffer_.data() + size, '\n'));
    taken_ += count;
    if (count == 0) return true;
    note_first();
    totals_.took(count, size);
    return write_all(socket_, std::to_string(taken_) + "\n");
  }

 private:
  Totals& totals_;
  std::vector<char> buffer_;
  std::uint64_t taken_ = 0;
};

[[noreturn]] void serve(const Arguments& arguments) {
  const bool lines = arguments.text("--protocol") == "lines";
  Totals totals;
  totals.expected = arguments.number("--expect", 0);
  const int listener = listen_at(arguments.text("--listen"));
  Line().add("ready", now()).print();
  const int poller = ::epoll_create1(EPOLL_CLOEXEC);
  const auto watch = [poller](int socket) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = socket;
    if (::epoll_ctl(poller, EPOLL_CTL_ADD, socket, &event) != 0) die("epoll_ctl");
  };
  watch(listener);
  std::map<int, std::unique_ptr<Peer>> peers;
  std::array<epoll_event, 64> ready;
  for (;;) {
    const int count = ::epoll_wait(poller, ready.data(), ready.size(), -1);
    if (count < 0) die("epoll_wait");
    for (const epoll_event& event : std::span(ready).first(static_cast<std::size_t>(count))) {
      if (event.data.fd != listener) {
        const auto peer = peers.find(event.data.fd);
        if (!peer->second->readable()) peers.erase(peer);
        continue;
      }
      const int socket = accept_from(listener);
      if (lines) {
        peers[socket] = std::make_unique<LinesPeer>(socket, totals);
      } else {
        peers[socket] = std::make_unique<SpillwayPeer>(socket, totals);
      }
      watch(socket);
    }
  }
}

}  // namespace
}  // namespace spillway::bench

int main(int argc, char** argv) { spillway::bench::serve(spillway::bench::Arguments(argc, argv)); }
