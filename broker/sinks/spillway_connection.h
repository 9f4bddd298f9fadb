// SpillwayConnection: one attempt of a spillway sink: this broker as the producer of another one.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/block.h"
#include "broker/config/config.h"
#include "broker/sinks/connector.h"
#include "broker/sinks/relay_queue.h"
#include "broker/sinks/sink.h"
#include "wire/frame.h"

namespace spillway::broker {

// A receiver may let a Welcome wait for 10 s while it ends an older connection.
inline constexpr std::chrono::seconds kWelcomeTimeout{15};
// If the receiver names no ping interval.
inline constexpr std::chrono::milliseconds kDefaultPingInterval{5000};
// A receiver that says goodbye cannot keep us away for longer.
inline constexpr std::chrono::milliseconds kMaxRetryAfter{30000};

// What outlives an attempt, in memory only.
struct RelayMemory {
  std::uint64_t generation = 0;    // as the receiver assigned it to this process
  bool name_newest_epoch = false;  // the receiver has gone beyond the epoch of the next record
  std::chrono::steady_clock::time_point not_before{};  // what a Goodbye asked for
};

// Operation: Hello, Welcome, then blocks as Batch frames of the bytes they are. The receiver's
// `safe` is what it is trusted with; records between its `safe` and its `held` are kept out of the
// connection, and acknowledged like those that were sent. When the receiver is halted the attempt
// ends, but the connection stays to hear Resume, which becomes a nudge().
// Concurrency: everything on the io_context's thread. Pending operations keep the connection alive,
// but after close() it calls nobody.
class SpillwayConnection : public std::enable_shared_from_this<SpillwayConnection> {
 public:
  SpillwayConnection(boost::asio::io_context& io, config::SpillwaySink options, std::string token,
                     ConnectHint hint, std::shared_ptr<RelayMemory> memory, SinkEvents& events);

  void start();
  void send(const std::vector<BlockPtr>& blocks);
  void close();
  // The attempt has ended, and the connection only waits for Resume.
  bool waiting_for_resume() const { return state_ == State::halted; }

 private:
  enum class State { connecting, greeting, open, halted, closed };

  void on_connected(StreamSocket socket, std::string error);
  void say_hello();
  void read();
  bool read_frames();
  void on_frame(std::span<const std::byte> bytes);
  void on_welcome(const v1::Welcome& welcome);
  void on_ack(const v1::Ack& ack);
  void on_reject(const v1::Reject& reject);
  void on_goodbye(const v1::Goodbye& goodbye);
  void halt(std::string text);
  void pump();
  void gather_blocks();
  void settle();
  void write_control(std::string frame);
  void start_pings(std::chrono::milliseconds interval);
  void on_ping_timer();
  void lose(LossCause cause, std::string text);

  config::SpillwaySink options_;
  std::string token_;
  ConnectHint hint_;
  std::shared_ptr<RelayMemory> memory_;
  SinkEvents& events_;
  StreamSocket socket_;
  std::shared_ptr<Connector> connector_;
  boost::asio::steady_timer timer_;  // for Welcome, then for pings
  State state_ = State::connecting;

  wire::FrameReader reader_;
  RelayQueue queue_;

  bool writing_ = false;
  std::string write_error_;  // not empty: nothing can be written any more
  std::string control_;      // frames that go before the next blocks
  std::string control_writing_;
  std::vector<std::string> headers_;
  std::vector<BlockPtr> blocks_writing_;
  std::vector<boost::asio::const_buffer> buffers_;

  std::chrono::milliseconds ping_interval_{kDefaultPingInterval};
  bool sent_since_ping_ = false;
  int silent_intervals_ = 0;
};

}  // namespace spillway::broker
