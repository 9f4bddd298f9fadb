// Broker: the process. Journal, streams on their reactors, listeners, the admin server, signals.
//
// Operation: start() opens the journal, brings its streams in line with the configuration and
// begins; run() serves until stop() or a signal. The first SIGTERM or SIGINT stops in order, within
// stop_timeout; the second ends the process at once.
// Concurrency: run() is the control thread: signals, listeners up to Hello, the admin server,
// gauges. Each stream lives on one reactor thread. Nothing but messages passes between them.
#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"
#include "broker/admin/server.h"
#include "broker/config/config.h"
#include "broker/ingress.h"
#include "broker/status.h"
#include "broker/stream.h"
#include "journal/journal.h"
#include "metrics/forecast.h"
#include "metrics/metrics.h"
#include "metrics/probes.h"

namespace spillway::broker {

class Broker {
 public:
  // `accept_drop`: what is over a limit that was lowered since the last start may be dropped.
  explicit Broker(config::Config config, bool accept_drop = false);
  ~Broker();
  Broker(const Broker&) = delete;
  Broker& operator=(const Broker&) = delete;

  // Nothing, or why it cannot start and what to do about it.
  std::optional<Error> start();
  // The exit code: 0 when everything was made safe in time.
  int run();
  int exit_code() const { return exit_code_; }

 private:
  using Io = boost::asio::io_context;
  struct Reactor {
    Io io{1};
    boost::asio::executor_work_guard<Io::executor_type> work{io.get_executor()};
    std::thread thread;
  };
  struct Plan {  // a stream that is about to start
    journal::Recovered recovered;
    recovery::DurableState state;
    std::vector<recovery::HaltCause> latched;
  };

  // broker.cc
  std::optional<Error> open_journal();
  std::optional<Error> check_sockets() const;
  std::optional<Error> make_streams();
  Result<Plan> plan(const config::Stream& stream, const recovery::StreamPolicy& policy);
  std::optional<Error> open_admin();
  void start_streams();
  void open_ingress();
  void watch_signals();
  void stop(const std::string& why);
  void end(bool in_time);
  void fan_out(std::function<void(Stream&)> tell);
  // Runs `ask` on every stream's reactor, then `done` on the control thread.
  void gather(std::function<void(Stream&, std::size_t)> ask, std::function<void()> done);
  std::optional<wire::Refusal> check_hello(const v1::Hello& hello) const;
  void introduce(Introduction introduction);
  void sample();
  void sample_journal();
  // Seconds until the first limit acts at present growth.
  double limit_left(const journal::Stats& stats) const;
  std::shared_ptr<Stream> find_stream(const std::string& name) const;

  // routes.cc
  void add_routes();
  void serve_metrics(const Responder& respond);
  void serve_status(const Responder& respond);
  void command_sink(const HttpRequest& request, const Responder& respond,
                    recovery::SinkCommand command);
  void reset_sink(const HttpRequest& request, const Responder& respond);
  void clear_halt(const HttpRequest& request, const Responder& respond);

  const config::Config config_;
  const bool accept_drop_;
  const std::chrono::steady_clock::time_point started_at_;
  std::uint64_t descriptors_ = 0;  // that this process may have open
  metrics::Metrics metrics_;       // outlives all that has a probe
  metrics::JournalProbe journal_probe_;
  metrics::IngressProbe ingress_probe_;
  metrics::Forecast disk_forecast_;
  metrics::Forecast free_forecast_;  // of the free bytes, negative: so that they rise to a limit

  Io control_{1};
  std::vector<std::unique_ptr<Reactor>> reactors_;
  std::unique_ptr<journal::Journal> journal_;
  std::vector<std::shared_ptr<Stream>> streams_;
  std::map<std::string, std::vector<std::string>>
      tokens_;  // of a stream; none: no token is asked for
  std::vector<Plan> plans_;
  std::unique_ptr<AdminServer> admin_;
  std::unique_ptr<Ingress> ingress_;
  boost::asio::signal_set signals_;
  boost::asio::steady_timer sample_timer_;
  boost::asio::steady_timer stop_timer_;
  bool ready_ = false;
  bool stopping_ = false;
  int exit_code_ = 0;
};

// Runs a broker until it is told to stop; the exit code of the process. `cannot_start` gets why it
// did not start, which is logged too. For the command line.
int run_broker(const config::Config& config, bool accept_drop, std::string& cannot_start);

}  // namespace spillway::broker
