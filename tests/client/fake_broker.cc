#include "tests/client/fake_broker.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <stdexcept>
#include <utility>

namespace spillway::client {
namespace {

void check(bool good, const char* what) {
  if (!good) throw std::runtime_error(std::string(what) + ": " + std::strerror(errno));
}

void wait_readable(int socket) {
  pollfd entry{socket, POLLIN, 0};
  const auto patience = std::chrono::duration_cast<std::chrono::milliseconds>(kPatience);
  if (poll(&entry, 1, static_cast<int>(patience.count())) != 1) {
    throw std::runtime_error("the client did not do its part in time");
  }
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string details_of(const wire::RecordView& record) {
  std::string text = text_of(record.key) + "/" + std::string(record.type) + "/";
  for (const wire::HeaderView& header : record.headers()) {
    text += std::string(header.key) + "=" + text_of(header.value) + ",";
  }
  text += "/" + (record.timestamp_ms ? std::to_string(*record.timestamp_ms) : "") + "/";
  text += std::to_string(static_cast<int>(record.group)) + "/";
  text += (record.part ? std::to_string(*record.part) : "") + (record.last_part ? "!" : "") + "/";
  return text + text_of(record.mark);
}

}  // namespace

bool Peer::next(std::string& frame) {
  for (;;) {
    const auto ready = reader_.next();
    if (!ready) throw std::runtime_error("no frame: " + ready.error().message);
    if (*ready) {
      frame = text_of(**ready);
      return true;
    }
    wait_readable(socket_);
    const std::span<std::byte> room = reader_.prepare();
    const ssize_t size = recv(socket_, room.data(), room.size(), 0);
    if (size <= 0) return false;
    reader_.commit(static_cast<std::size_t>(size));
  }
}

Sent Peer::batch() {
  std::string frame;
  for (;;) {
    if (!next(frame)) throw std::runtime_error("the client closed instead of sending a batch");
    const auto bytes = std::as_bytes(std::span(std::as_const(frame)));
    if (!wire::is_batch(bytes)) continue;
    const wire::BatchView view = wire::parse_batch(wire::batch_of(bytes).value()).value();
    Sent sent{view.first(), view.previous, {}, {}, text_of(view.records), {}};
    wire::PartState parts;
    std::optional<wire::NewestMark> mark;
    const auto refusal = wire::scan_records(view, 1 << 30, parts, sent.shapes, mark);
    if (refusal) throw std::runtime_error("a bad batch: " + refusal->text);
    wire::RecordReader reader(view.records, view.first());
    for (wire::RecordView record; reader.next(record);) {
      sent.payloads.push_back(text_of(record.payload));
      sent.details.push_back(details_of(record));
    }
    return sent;
  }
}

Sent Peer::records(std::size_t count) {
  Sent all = batch();
  while (all.payloads.size() < count) {
    const Sent more = batch();
    if (more.first != Position{all.first.epoch, all.first.sequence + all.payloads.size()}) {
      throw std::runtime_error("a batch that does not follow: " + to_string(more.first));
    }
    all.payloads.insert(all.payloads.end(), more.payloads.begin(), more.payloads.end());
    all.details.insert(all.details.end(), more.details.begin(), more.details.end());
    all.records += more.records;
  }
  return all;
}

v1::Frame Peer::control() {
  std::string frame;
  for (;;) {
    if (!next(frame)) throw std::runtime_error("the client closed");
    const auto bytes = std::as_bytes(std::span(std::as_const(frame)));
    if (!wire::is_batch(bytes)) return wire::decode(bytes).value();
  }
}

v1::Hello Peer::hello() {
  const v1::Frame frame = control();
  if (!frame.has_hello()) throw std::runtime_error("no Hello");
  return frame.hello();
}

void Peer::welcome(const Greeting& greeting) {
  v1::Frame frame;
  auto& welcome = *frame.mutable_welcome();
  welcome.set_version(wire::kVersion);
  welcome.set_generation(greeting.generation);
  welcome.set_epoch(greeting.epoch);
  if (greeting.held != Position{}) *welcome.mutable_held() = wire::to_proto(greeting.held);
  if (greeting.safe != Position{}) *welcome.mutable_safe() = wire::to_proto(greeting.safe);
  welcome.set_max_frame_bytes(wire::kDefaultMaxFrameBytes);
  welcome.set_max_record_bytes(greeting.max_record_bytes);
  welcome.set_max_in_flight_bytes(greeting.max_in_flight_bytes);
  welcome.set_ping_interval_ms(greeting.ping_interval_ms);
  welcome.set_mark(greeting.mark);
  if (greeting.halted) {
    auto& cause = *welcome.add_halt();
    cause.set_kind(v1::HALT_KIND_MAX_BYTES);
    cause.set_text("full");
  }
  send(wire::encode(frame));
}

v1::Hello Peer::greet(const Greeting& greeting) {
  v1::Hello message = hello();
  welcome(greeting);
  return message;
}

bool Peer::ended() {
  std::string frame;
  return !next(frame);
}

void Peer::send(const std::string& bytes) {
  check(::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
            static_cast<ssize_t>(bytes.size()),
        "send");
}

void Peer::reject(wire::RejectCode code, const std::string& text) {
  send(wire::encode_reject({code, text}));
}

void Peer::halt() {
  v1::Frame frame;
  auto& cause = *frame.mutable_halt()->add_causes();
  cause.set_kind(v1::HALT_KIND_OUTAGE_TIMEOUT);
  cause.set_sink("warehouse");
  cause.set_text("too long");
  send(wire::encode(frame));
}

void Peer::resume(Position held) {
  v1::Frame frame;
  *frame.mutable_resume()->mutable_held() = wire::to_proto(held);
  send(wire::encode(frame));
}

bool Peer::quiet() {
  send(wire::encode_ping(4242));
  std::string frame;
  for (;;) {
    if (!next(frame)) throw std::runtime_error("the client closed");
    const auto bytes = std::as_bytes(std::span(std::as_const(frame)));
    if (wire::is_batch(bytes)) return false;
    const v1::Frame message = wire::decode(bytes).value();
    if (message.has_pong() && message.pong().nonce() == 4242) return true;
  }
}

void Peer::close() {
  if (socket_ >= 0) ::close(socket_);
  socket_ = -1;
}

FakeBroker::FakeBroker() : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  check(bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0, "bind");
  check(listen(socket_, 16) == 0, "listen");
  socklen_t size = sizeof(address);
  check(getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size) == 0, "getsockname");
  address_ = "tcp://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
}

FakeBroker::FakeBroker(const std::string& path) : socket_(socket(AF_UNIX, SOCK_STREAM, 0)) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  check(bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0, "bind");
  check(listen(socket_, 16) == 0, "listen");
  address_ = "unix://" + path;
}

FakeBroker::~FakeBroker() { stop_listening(); }

void FakeBroker::stop_listening() {
  if (socket_ >= 0) ::close(socket_);
  socket_ = -1;
}

std::unique_ptr<Peer> FakeBroker::accept() {
  wait_readable(socket_);
  const int connection = ::accept(socket_, nullptr, nullptr);
  check(connection >= 0, "accept");
  return std::make_unique<Peer>(connection);
}

Events Log::events() {
  Events events;
  events.on_acknowledged = [this](Position p) { add("acknowledged " + to_string(p)); };
  events.on_taken = [this](Position p) { add("taken " + to_string(p)); };
  events.on_halt = [this](const std::vector<HaltCause>& causes) {
    for (const HaltCause& cause : causes) add("halt " + cause.kind + " " + cause.sink);
  };
  events.on_resume = [this] { add("resume"); };
  events.on_state = [this](State state, const std::string& why) {
    if (!why.empty()) add("because " + why);
    add(std::string(name_of(state)));
  };
  events.on_epoch = [this](const EpochChange& change) {
    add("epoch " + std::to_string(change.epoch) + " from " + to_string(change.first_before) +
        " records " + std::to_string(change.records));
  };
  return events;
}

void Log::add(std::string text) {
  const std::lock_guard lock(mutex_);
  texts_.push_back(std::move(text));
  added_.notify_all();
}

void Log::await(const std::string& text) {
  std::unique_lock lock(mutex_);
  const bool found = added_.wait_for(lock, kPatience, [&] {
    for (; awaited_ < texts_.size(); ++awaited_) {
      if (texts_[awaited_] == text) {
        ++awaited_;
        return true;
      }
    }
    return false;
  });
  if (found) return;
  std::string all;
  for (const std::string& one : texts_) all += "\n  " + one;
  throw std::runtime_error("no event \"" + text + "\"; there were:" + all);
}

bool Log::has(const std::string& text) const {
  const std::lock_guard lock(mutex_);
  for (const std::string& one : texts_) {
    if (one.find(text) != std::string::npos) return true;
  }
  return false;
}

Options options_for(const FakeBroker& broker) {
  Options options;
  options.connect = broker.address();
  options.stream = "blocks";
  options.reconnect_initial = Milliseconds{1};
  options.reconnect_max = Milliseconds{20};
  options.seed = 7;
  return options;
}

Result<Position> publish(Client& client, std::string_view payload) {
  Record record;
  record.payload = payload;
  return client.publish(record);
}

}  // namespace spillway::client
