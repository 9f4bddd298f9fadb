// Client: publishes records to a stream of a Spillway broker, and keeps each until it is
// acknowledged.
//
//   spillway::client::Options options;
//   options.connect = "tcp://127.0.0.1:7070";
//   options.stream = "blocks";
//   auto client = spillway::client::Client::create(options, {}).value();
//   spillway::client::Record record;
//   record.payload = "hello";
//   client->publish(record);   // waits only while too much is unacknowledged
//   client->flush();           // waits until the broker answers for all of it
//
// Operation: publish() encodes a record into memory of the client and returns its position; a
// thread of the client's sends it. A lost connection is made again with backoff, and what the
// broker does not hold is sent again, in order. What cannot be cured by trying again (state
// `failed`) ends the client.
// Concurrency: every method may be called from any thread. Events run on the client's thread: they
// must not block, and must not call a method that waits; try_publish() and status() are fine.
// Lifetime: ~Client ends the connection in order and drops what is not acknowledged: flush() first.
// Errors: an Error is about this call (a record over its limits) or, in state `failed`, the reason.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/position.h"
#include "base/result.h"

namespace spillway::client {

using Milliseconds = std::chrono::milliseconds;
// Waits for ever.
inline constexpr Milliseconds kForever = Milliseconds::max();

struct Options {
  std::string connect;  // "tcp://host:port" or "unix:///path"
  std::string stream;
  std::string token;  // if the stream asks for one
  // The records are a function of their position, or of the newest mark: this producer goes on
  // right after what the stream holds (see wait_connected()), and has lost nothing when it forgot
  // the rest.
  bool resumes = false;
  bool assign_epoch = false;  // begin in a new epoch
  // What an earlier process of the same producer knew, if that was kept; see Status. Unless it
  // `resumes`, this one then begins in a new epoch: nobody knows what else the earlier one sent.
  std::optional<Position> acknowledged;

  // Bounds the memory of unacknowledged records; publish() waits beyond. One record alone may
  // exceed it. The broker has a limit of its own, and the lower one counts for what is sent. More
  // than the path to the sinks holds adds waiting, not speed: rate times round trip is enough.
  std::uint64_t max_in_flight_bytes = std::uint64_t{16} << 20;
  // Larger payloads travel as parts of this size. 1 byte to 1 MiB.
  std::uint64_t part_bytes = std::uint64_t{1} << 20;

  Milliseconds connect_timeout{5000};
  // For the Welcome: a broker first ends an older connection of this producer, up to 10 s.
  Milliseconds welcome_timeout{15000};
  Milliseconds reconnect_initial{100};   // then times reconnect_multiplier
  Milliseconds reconnect_max{5000};
  double reconnect_multiplier = 2.0;
  double reconnect_jitter = 0.2;         // of each delay, up or down
  Milliseconds give_up_after = kForever; // without a connection: state `failed`
  std::uint64_t seed = 0;                // of the jitter; 0: any
  std::string agent = "spillway-client"; // a name for the broker's log
};

enum class State {
  connecting,  // no connection yet, or not now; it is being tried
  live,
  halted,  // connected, and the broker takes no new records
  failed,  // for good: see Status::error
  closed,
};
std::string_view name_of(State state);

// Records that belong together; see wire/README.md. A record of its own has `none`.
enum class Group : std::uint8_t { none = 0, begins = 1, continues = 2, ends = 3 };

struct Header {
  std::string_view key;
  std::string_view value;
};

// What is published. It points to the caller's memory, which is not used once publish() returned.
struct Record {
  std::string_view payload;
  std::string_view key;
  std::string_view type;
  std::span<const Header> headers;
  std::optional<std::int64_t> timestamp_ms;
  Group group = Group::none;
  std::string_view mark;  // a token of the producer's, to find its place again; at most 4 KiB
};

struct HaltCause {
  std::string kind;  // such as "outage_timeout"
  std::string sink;  // empty: not about one sink
  std::string text;
  Position position;
  std::int64_t since_ms = 0;  // since 1970
};

// The stream as the broker described it at the last connection.
struct Welcome {
  std::uint64_t generation = 0;
  std::uint64_t epoch = 0;
  Position held;  // the broker has the stream through here
  Position safe;  // and answers for it through here
  std::string mark;  // the newest at or before held; empty: none
  Position mark_position;
  std::uint64_t max_record_bytes = 0;
  std::uint64_t max_in_flight_bytes = 0;
};

// The broker opened a new epoch that this producer did not ask for (both had lost their memory).
// Records from `first_before` on are now counted from {epoch, 1} on; positions that publish()
// returned for them mean these in every call.
struct EpochChange {
  Position first_before;
  std::uint64_t epoch = 0;
  std::uint64_t records = 0;
};

// Any may be empty.
struct Events {
  std::function<void(Position safe)> on_acknowledged;  // cumulative
  std::function<void(Position taken)> on_taken;        // by every sink; cumulative
  std::function<void(const std::vector<HaltCause>&)> on_halt;
  std::function<void()> on_resume;
  std::function<void(State, const std::string& why)> on_state;
  std::function<void(const EpochChange&)> on_epoch;
};

struct Status {
  State state = State::connecting;
  std::string error;  // the newest reason for not being live; in `failed`, the final one
  std::uint64_t generation = 0;
  std::uint64_t epoch = 0;
  Position published;     // the newest, of this client; {0, 0}: none
  Position acknowledged;  // seen by this client, or of Options
  Position taken;
  std::uint64_t kept_records = 0;  // not acknowledged; parts count
  std::uint64_t kept_bytes = 0;
  std::uint64_t connections = 0;  // that reached Welcome
  std::vector<HaltCause> halt;
};

class Client {
 public:
  // An Error says which option is wrong. Connecting goes on in the background.
  static Result<std::unique_ptr<Client>> create(Options options, Events events);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Waits for the first Welcome and for room, queues the record, and returns its position (of its
  // last part, if it was cut).
  Result<Position> publish(const Record& record);
  // All of them, or none; the position of the last. The records must not be empty.
  Result<Position> publish(std::span<const Record> records);
  // The same, but nothing if there was no room within `timeout`.
  Result<std::optional<Position>> publish_for(std::span<const Record> records,
                                              Milliseconds timeout);
  Result<std::optional<Position>> try_publish(const Record& record);

  // False if it did not come to pass within `timeout`; an Error if it cannot any more.
  Result<bool> wait_acknowledged(Position position, Milliseconds timeout = kForever);
  Result<bool> wait_taken(Position position, Milliseconds timeout = kForever);
  // Until all that was published is acknowledged.
  Result<bool> flush(Milliseconds timeout = kForever);
  // The newest Welcome; waits for the first. A producer that resumes goes on after its `held`.
  Result<std::optional<Welcome>> wait_connected(Milliseconds timeout = kForever);

  // Rewrites history from here on: waits until all that was published is acknowledged, then asks
  // the broker for a new epoch, which is returned. Others that publish meanwhile wait. After a
  // timeout the epoch may still come, if all had been acknowledged.
  Result<std::optional<std::uint64_t>> new_epoch(Milliseconds timeout = kForever);

  Status status() const;
  // Ends the connection in order. Every call that waits, and every later one, gets an Error.
  void close();

 private:
  class Impl;
  explicit Client(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace spillway::client
