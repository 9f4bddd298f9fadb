// FileSink: appends records to a file, durable before they are acknowledged.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "broker/config/config.h"
#include "broker/sinks/disk.h"
#include "broker/sinks/sink.h"

namespace spillway::broker {

// A disk that has not opened the file for so long counts as not there.
inline constexpr std::chrono::seconds kFileOpenTimeout{5};

// Operation: a worker thread owns the FileWriter; everything queued is one group, one sync.
// Concurrency: see Sink. No call waits for the worker. A worker that hangs in the disk delays only
// stop()'s callback; a sink that is destroyed meanwhile leaves it behind, and it touches nothing
// more.
class FileSink final : public Sink {
 public:
  // `disk` must outlive the sink, and its worker if that was left behind.
  FileSink(boost::asio::io_context& io, config::FileSink options, SinkEvents& events,
           Disk& disk = Disk::real());
  ~FileSink() override;

  void connect(ConnectHint hint) override;
  void send(Attempt attempt, const std::vector<BlockPtr>& blocks) override;
  void close(Attempt attempt) override;
  void stop(std::function<void()> done) override;

 private:
  struct Shared;
  struct Report;

  static void work(const std::shared_ptr<Shared>& shared);
  static void post(const std::shared_ptr<Shared>& shared, Report report);
  void on_report(Report report);
  void end_attempt();

  boost::asio::io_context& io_;
  SinkEvents& events_;
  std::shared_ptr<Shared> shared_;
  std::thread worker_;
  boost::asio::steady_timer open_timer_;
  Attempt attempt_{};
  bool active_ = false;     // attempt_ has not ended
  bool connected_ = false;  // and was answered
  std::function<void()> stopped_;
};

}  // namespace spillway::broker
