// A broker that does what a test says, line by line, on the test's own thread: everything here
// blocks, and throws when the client does not do its part within kPatience.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "client/client.h"
#include "wire/batch.h"
#include "wire/frame.h"

namespace spillway::client {

inline constexpr std::chrono::seconds kPatience{20};
inline constexpr std::uint64_t kEpoch = 1'700'000'000;

// One Batch as it came.
struct Sent {
  Position first;
  std::optional<Position> previous;
  std::vector<std::string> payloads;
  std::vector<wire::RecordShape> shapes;
  std::string records;
  std::vector<std::string> details;  // per record: key, type, headers, part, mark, as text
};

// What Welcome says unless a test says otherwise.
struct Greeting {
  std::uint64_t generation = 1;
  std::uint64_t epoch = kEpoch;
  Position held;
  Position safe;
  std::uint64_t max_record_bytes = std::uint64_t{64} << 20;
  std::uint64_t max_in_flight_bytes = std::uint64_t{48} << 20;
  std::uint64_t ping_interval_ms = 60'000;
  bool halted = false;
  std::string mark;
};

class Peer {
 public:
  explicit Peer(int socket) : socket_(socket) {}
  ~Peer() { close(); }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  v1::Hello hello();
  void welcome(const Greeting& greeting);
  // Hello and Welcome.
  v1::Hello greet(const Greeting& greeting = {});
  Sent batch();  // throws if its records are not right
  // Batches until `count` records came, as if they were one.
  Sent records(std::size_t count);
  v1::Frame control();  // the next frame that is not a batch
  bool ended();         // waits for the end; false if a frame comes instead

  void send(const std::string& bytes);
  void ack(Position safe, Position taken = {}) { send(wire::encode_ack(safe, taken)); }
  void reject(wire::RejectCode code, const std::string& text);
  void halt();
  void resume(Position held);
  // Whether nothing but control frames had come when the client answered a ping.
  bool quiet();
  void close();

 private:
  // False at the end of the stream.
  bool next(std::string& frame);

  int socket_;
  wire::FrameReader reader_;
};

class FakeBroker {
 public:
  FakeBroker();  // on a loopback port
  explicit FakeBroker(const std::string& path);
  ~FakeBroker();
  FakeBroker(const FakeBroker&) = delete;
  FakeBroker& operator=(const FakeBroker&) = delete;

  const std::string& address() const { return address_; }
  std::unique_ptr<Peer> accept();
  void stop_listening();

 private:
  int socket_ = -1;
  std::string address_;
};

// Collects events; any of them can be awaited.
class Log {
 public:
  Events events();
  // Waits for an event that reads so, among those not yet awaited; what came before it is passed
  // over.
  void await(const std::string& text);
  bool has(const std::string& text) const;

 private:
  void add(std::string text);

  mutable std::mutex mutex_;
  std::condition_variable added_;
  std::vector<std::string> texts_;
  std::size_t awaited_ = 0;
};

// Options for a test: quick to reconnect, always with the same jitter.
Options options_for(const FakeBroker& broker);
Result<Position> publish(Client& client, std::string_view payload);

}  // namespace spillway::client
