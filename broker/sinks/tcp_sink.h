// TcpSink: records as lines or with their length, to whoever listens at an address.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <vector>

#include "broker/config/config.h"
#include "broker/sinks/sink.h"

namespace spillway::broker {

class TcpConnection;

// See Sink for operation, threads and lifetime; each attempt is a TcpConnection.
class TcpSink final : public Sink {
 public:
  TcpSink(boost::asio::io_context& io, config::TcpSink options, SinkEvents& events);
  ~TcpSink() override;

  void connect(ConnectHint hint) override;
  void send(Attempt attempt, const std::vector<BlockPtr>& blocks) override;
  void close(Attempt attempt) override;
  void stop(std::function<void()> done) override;

 private:
  void end();

  boost::asio::io_context& io_;
  config::TcpSink options_;
  SinkEvents& events_;
  Attempt attempt_{};
  std::shared_ptr<TcpConnection> connection_;
};

}  // namespace spillway::broker
