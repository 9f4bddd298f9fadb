// Stream: the shell around one StreamMachine. It turns what sockets, sinks, the journal and
// operators say into events, and carries out the machine's actions in order.
//
// Operation: start(), then welcome producers with introduce(); stop() once, which answers when all
// is as safe as it can be. Everything that happens passes handle(): one event at a time, never
// nested.
// Concurrency: everything on its io_context's one thread, but for what says otherwise. Journal
// completions are posted there.
// Lifetime: the journal and the metrics must outlive it; shared, because what it has asked for
// answers to it.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/config/config.h"
#include "broker/producer_session.h"
#include "broker/sinks/sink.h"
#include "broker/status.h"
#include "broker/window.h"
#include "journal/journal.h"
#include "metrics/forecast.h"
#include "metrics/probes.h"
#include "recovery/stream_machine.h"

namespace spillway::broker {

class Stream final : public SessionOwner, public std::enable_shared_from_this<Stream> {
 public:
  struct Setup {
    config::Stream config;
    recovery::StreamPolicy policy;
    journal::Journal& journal;
    metrics::Metrics& metrics;
    metrics::IngressProbe& ingress;
  };
  Stream(boost::asio::io_context& io, Setup setup);
  ~Stream() override;

  const std::string& name() const { return name_; }         // from any thread
  boost::asio::io_context& io() { return io_; }             // from any thread
  const config::Stream& config() const { return config_; }  // from any thread

  // `recovered` as the journal opened, `state` as plan_start() made it. Reads what it needs to know
  // of the backlog, then begins to connect sinks; `done` when producers may come.
  void start(journal::Recovered recovered, recovery::DurableState state,
             std::vector<recovery::HaltCause> latched, std::function<void()> done);
  // Makes safe what is not, says Goodbye, stops the sinks.
  void stop(std::function<void()> done);

  void introduce(Introduction introduction);

  void journal_down();
  void journal_reopened(const journal::Recovered& recovered);
  void disk_has_room();

  using Reply = std::function<void(bool ok, std::string text)>;
  // False: there is no such sink, and `reply` is not called.
  bool command(const std::string& sink, recovery::SinkCommand command, Reply reply);
  // Records that the sink has not taken are let go only with `accept_drop`.
  bool reset(const std::string& sink, std::optional<Position> from, bool accept_drop, Reply reply);
  // Answers false only where it cannot be tried; halted() says whether causes are left.
  void clear_halt(recovery::event::HaltCleared how, Reply reply);

  bool halted() const { return machine_.halted(); }
  StreamStatus status() const;
  // Seconds until a sink's max_bytes or max_records acts, at the growth of the last minute: 0 while
  // the stream is halted, infinity without growth. As of the last sample(); from any thread.
  double limit_left() const { return limit_left_; }
  void sample();  // sets the gauges, forgets dead letters that are durable

 private:
  // What one sink says, told to the stream with the sink's name.
  class Port final : public SinkEvents {
   public:
    Port(Stream& stream, SinkId id) : stream_(stream), id_(id) {}
    void connected(Attempt attempt, std::optional<Position> held) override;
    void lost(Attempt attempt, LossCause cause, std::string text) override;
    void acked(Attempt attempt, Offset through) override;
    void rejected(Attempt attempt, Offset first, Offset last, std::string text) override;
    void nudge() override;

   private:
    Stream& stream_;
    const SinkId id_;
  };
  struct Sent {
    BlockPtr block;
    metrics::Mode mode{};
  };
  struct DeadRecord {  // refused, on its way into the dead letters
    Offset first = 0;
    Offset last = 0;
    BlockPtr record;
  };
  struct Slot {
    Slot(Stream& stream, SinkId id, const config::Sink& config, metrics::Metrics& metrics);
    const SinkId id;
    const config::Sink& config;
    metrics::SinkProbe probe;
    Port port;
    std::unique_ptr<Sink> sink;
    Attempt attempt{};
    bool connected = false;
    bool retrying = false;  // an attempt has been made before
    std::optional<std::uint64_t>
        closing;  // records unacknowledged when we closed; the why comes next
    std::deque<Sent> in_flight;
    std::uint64_t read_id = 0;
    std::vector<BlockPtr> read;  // what the journal returned for it
    std::vector<DeadRecord> dead;
    std::optional<SinkStatus::LastError> last_error;
    std::uint64_t attempts = 0;
    std::optional<std::int64_t> outage_since;  // told to the metrics
    std::optional<recovery::Instant> replaying_since;
    Offset replay_from = 0;
    metrics::Forecast backlog_bytes{metrics::kForecastSeconds};
    metrics::Forecast backlog_records{metrics::kForecastSeconds};
  };

  // SessionOwner
  void run_came(SessionId session, const Run& run) override;
  void session_ended(SessionId session, std::string_view why) override;
  void refused(wire::RejectCode code) override;

  // stream.cc
  void handle(recovery::Event event);
  void step(const recovery::Event& event);
  void arm();
  recovery::Now now() const;
  void begin(recovery::event::Started started, std::function<void()> done);
  void finish_stop();
  Slot& slot_of(SinkId id) { return *slots_[value_of(id)]; }
  Slot* find_slot(const std::string& sink);
  ProducerSession* session_of(SessionId id);
  // The first record of the run whose position is here with other content.
  std::optional<Position> fork_of(const Run& run) const;
  Position position_of(Offset offset) const { return machine_.epochs().position_of(offset); }

  // stream_start.cc
  struct Starting;
  void read_backlog(std::shared_ptr<Starting> starting);
  void take_backlog(const std::shared_ptr<Starting>& starting, Offset offset,
                    const journal::ReadResult& result);

  // stream_sinks.cc
  void sink_connected(Slot& slot, Attempt attempt, std::optional<Position> held);
  void sink_lost(Slot& slot, Attempt attempt, LossCause cause, std::string text);
  void sink_acked(Slot& slot, Attempt attempt, Offset through);
  void sink_rejected(Slot& slot, Attempt attempt, Offset first, Offset last, std::string text);
  BlockPtr find_sent(const Slot& slot, Offset first, Offset last) const;
  ConnectHint hint_for(const Slot& slot, Attempt attempt) const;
  void note_closed(Slot& slot, metrics::Failure why);

  // stream_actions.cc
  void execute(recovery::Action& action);
  void on(recovery::action::Admit& a);
  void on(recovery::action::Duplicate& a);
  void on(recovery::action::Discard& a);
  void on(recovery::action::AdmitSkip& a);
  void on(recovery::action::Welcome& a);
  void on(recovery::action::Reject& a);
  void on(recovery::action::Finish& a);
  void on(recovery::action::Cut& a);
  void on(recovery::action::Acknowledge& a);
  void on(recovery::action::Halt& a);
  void on(recovery::action::Resume& a);
  void on(recovery::action::Evict& a);
  void on(recovery::action::Write& a);
  void on(recovery::action::Trim& a);
  void on(recovery::action::WriteLatch& a);
  void on(recovery::action::Read& a);
  void on(recovery::action::Locate& a);
  void on(recovery::action::Connect& a);
  void on(recovery::action::Close& a);
  void on(recovery::action::Send& a);
  void on(recovery::action::SendSkip& a);
  void on(recovery::action::Moved& a);
  void on(recovery::action::CoverageMoved& a);
  void on(recovery::action::Lost& a);
  void on(recovery::action::Note& a);
  void on(recovery::action::Reply& a);
  void on(recovery::action::StopDone& a);
  void read_done(Slot& slot, std::uint64_t id, journal::ReadResult result);
  journal::LedgerEntry ledger_entry(const recovery::Loss& loss) const;
  void add_dead_letters(const recovery::action::Write& write, journal::Commit& commit);

  // stream_status.cc
  SinkStatus sink_status(const Slot& slot, const recovery::Now& at) const;
  void sample_sink(Slot& slot, const recovery::Now& at);
  double forecast(Slot& slot, const recovery::Now& at) const;
  void note_outage(Slot& slot, const recovery::Now& at);
  void note_safe();
  void note_causes();
  void log_halt(const recovery::HaltCause& cause) const;
  void note_blocked();

  boost::asio::io_context& io_;
  const config::Stream config_;
  const std::string name_;
  journal::Journal& journal_;
  metrics::IngressProbe& ingress_;
  metrics::StreamProbe probe_;
  recovery::StreamMachine machine_;
  Window window_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::map<SessionId, std::shared_ptr<ProducerSession>> sessions_;
  SessionId producer_{};                // the one that was welcomed last
  std::uint64_t generation_asked_ = 0;  // by the newest Hello
  std::map<std::uint64_t, Reply> replies_;
  std::uint64_t next_request_ = 1;

  boost::asio::steady_timer timer_;
  std::optional<recovery::Instant> armed_;
  std::deque<recovery::Event> queue_;
  std::vector<recovery::Action> actions_;
  const Run* run_ = nullptr;  // the batches at hand
  bool stepping_ = false;
  recovery::WallMs stepped_at_ = 0;

  std::uint64_t journal_generation_ = 0;
  bool journal_writable_ = true;
  Offset safe_noted_ = 0;
  std::vector<recovery::HaltCause> causes_noted_;
  bool blocked_noted_ = false;
  std::function<void()> stopped_;
  bool started_ = false;
  std::atomic<double> limit_left_ = metrics::kNever;
};

HaltStatus halt_status(const std::vector<recovery::HaltCause>& causes);

// What the machines must know of a stream's configuration.
recovery::StreamPolicy policy_of(const config::Stream& stream, const config::Journal& journal,
                                 std::uint64_t seed);

}  // namespace spillway::broker
