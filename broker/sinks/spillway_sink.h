// SpillwaySink: hands a stream on to another broker, over spillway.v1.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <vector>

#include "broker/config/config.h"
#include "broker/sinks/sink.h"

namespace spillway::broker {

class SpillwayConnection;
struct RelayMemory;

// See Sink for operation, threads and lifetime; each attempt is a SpillwayConnection. The token
// file is read at every connect, so that a new token needs no restart.
class SpillwaySink final : public Sink {
 public:
  SpillwaySink(boost::asio::io_context& io, config::SpillwaySink options, SinkEvents& events);
  ~SpillwaySink() override;

  void connect(ConnectHint hint) override;
  void send(Attempt attempt, const std::vector<BlockPtr>& blocks) override;
  void close(Attempt attempt) override;
  void stop(std::function<void()> done) override;

 private:
  bool asked_to_wait(Attempt attempt);
  void end();

  boost::asio::io_context& io_;
  config::SpillwaySink options_;
  SinkEvents& events_;
  std::shared_ptr<RelayMemory> memory_;
  boost::asio::steady_timer goodbye_timer_;
  std::shared_ptr<int> alive_;  // until stop()
  bool nudge_armed_ = false;
  Attempt attempt_{};
  std::shared_ptr<SpillwayConnection> connection_;
};

}  // namespace spillway::broker
