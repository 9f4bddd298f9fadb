// Connection: one producer's socket with frames cut out of it and a bounded queue of what goes
// back.
//
// Operation: start() reads until an error; Handler::on_bytes() comes after each read, and takes
// frames from reader(). send() queues. farewell() sends a last frame, then waits a moment for the
// peer to have read it: closing with unread input would make the kernel throw the last frame away.
// Concurrency: one thread, that of its io_context. Lifetime: keeps itself alive while something is
// under way; a handler that goes away calls close_unless_parting() first.
#pragma once

#include <array>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "wire/frame.h"

namespace spillway::broker {

// A peer that does not read so much of what is sent to it is ended.
inline constexpr std::size_t kMaxSendQueueBytes = std::size_t{1} << 20;
inline constexpr std::chrono::milliseconds kFarewellLimit{2000};

// Whether the peer has hung up, whatever it said before.
bool hung_up(int descriptor);

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Socket = boost::asio::generic::stream_protocol::socket;

  class Handler {
   public:
    virtual ~Handler() = default;
    virtual void on_bytes() = 0;
    // Once, and nothing after it. Not after close() or farewell().
    virtual void on_closed(std::string_view why) = 0;
    // Everything queued has been handed to the kernel.
    virtual void on_drained() = 0;
  };

  // `slot` is let go of when the socket is closed or released.
  Connection(Socket socket, wire::FrameReader reader, Handler& handler, std::shared_ptr<void> slot);

  void start();
  void send(std::string bytes);
  void farewell(std::string bytes);
  void close();
  // close(), but for a farewell that is under way: that ends by itself.
  void close_unless_parting();

  bool sending() const { return !going_.empty(); }
  wire::FrameReader& reader() { return reader_; }
  // Hands the descriptor on, to live on another thread. Nothing may be queued; the read that is
  // under way ends without a word.
  boost::asio::generic::stream_protocol protocol() const { return protocol_; }
  int release();

 private:
  void read();
  void write();
  void discard();
  void fail(std::string_view why);

  Socket socket_;
  boost::asio::generic::stream_protocol protocol_;
  wire::FrameReader reader_;
  Handler* handler_;
  std::shared_ptr<void> slot_;
  boost::asio::steady_timer farewell_timer_;
  std::array<char, 4096> discarded_;
  std::vector<std::string> queue_;
  std::vector<std::string> going_;
  std::size_t queued_bytes_ = 0;
  bool ending_ = false;
  bool closed_ = false;
};

}  // namespace spillway::broker
