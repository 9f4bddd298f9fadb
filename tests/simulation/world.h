// World: one real StreamMachine in a simulated process, with simulated sinks, journal, producers
// and clocks; carries out its actions in order as the broker does, and checks the guarantees after
// every step. README.md says what is checked.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "recovery/stream_machine.h"
#include "tests/simulation/counts.h"
#include "tests/simulation/plan.h"
#include "tests/simulation/producer.h"
#include "tests/simulation/random.h"
#include "tests/simulation/sim_journal.h"
#include "tests/simulation/sim_sink.h"

namespace spillway::simulation {

// What comes due. Things of the broker's process end with it, things of the world do not.
enum class What : std::uint8_t {
  start_broker,
  commit_done,
  reopened,
  latch_done,
  read_done,
  located,
  sink_connect,
  sink_arrive,
  sink_ack,
  frame_in,
  session_ended,
  frame_out,
  producer_acts,
  rival_acts,
  disk_has_room,
  operator_acts,
  stop_expires,
};

class World {
 public:
  World(std::uint64_t seed, Counts& counts, Trace& trace);
  void run();

  // --- for the components ------------------------------------------------------------------------
  Random& random() { return random_; }
  recovery::Instant now() const { return now_; }
  bool faults_on() const { return faults_on_; }
  // Whether this fault happens now; counts it.
  bool hit(Fault fault);
  void count(Fault fault);
  void schedule(recovery::Millis delay, What what, std::size_t who = 0, std::uint64_t a = 0,
                std::uint64_t b = 0);
  void tell(const recovery::Event& event);
  void tell_batch(const recovery::event::BatchCame& batch, const std::vector<Record>& records);
  void tell_acknowledged(std::size_t sink, Attempt attempt, Offset through);
  void tell_rejected(std::size_t sink, Attempt attempt, Offset first, Offset last,
                     std::uint64_t bytes);
  const Journal& journal() const { return journal_; }
  const Plan& plan() const { return plan_; }
  bool broker_up() const { return machine_ != nullptr && !stopping_; }
  // In the offsets of the running broker.
  const Record& record(Offset offset) const;
  const Record* known(Offset offset) const;
  Position position_of(Offset offset) const { return machine_->epochs().position_of(offset); }
  Offset offset_of(Position position) const;
  // The same, of a sink: an epoch that a lost store knew has no records here.
  Offset end_of(Position last) const;
  Offset stored_cursor(std::size_t sink) const;
  // Before its first record, where a sink of the world begins.
  Position begin_of(std::size_t sink) const { return begins_[sink]; }
  SinkId id_of(std::size_t sink) const;
  // Something durable was lost: some rules are off, for what the broker can no longer know.
  bool lost_something() const { return lost_something_; }
  // Whether this went with a store, and that is on record: nobody skips it any more.
  bool excuses(std::size_t sink, Position at) const {
    return lost_something_ && (excused_[sink].contains(at) || journal_.ledgered(sink, at));
  }
  // The last sequence of an epoch that has ended, as the broker knows it.
  std::optional<std::uint64_t> end_of_epoch(std::uint64_t number) const;
  bool acknowledges_for_good() const {
    return plan_.policy.acks == recovery::Acks::all && !policy_changed_;
  }
  bool is_current(SessionId session) const { return machine_ && machine_->session() == session; }
  void count_reject(recovery::RejectCode code) {
    ++counts_.rejects[static_cast<std::size_t>(code)];
  }
  void progress() {
    ++progress_;
    custody_dirty_ = true;
  }
  bool tracing() const { return trace_.on(); }
  template <class... Parts>
  void trace(const Parts&... parts) {
    if (trace_.on()) trace_.line(now_, parts...);
  }

 private:
  struct Item {
    recovery::Instant at{};
    std::uint64_t order = 0;
    std::uint32_t life = 0;  // of the broker; 0: of the world
    What what{};
    std::uint32_t who = 0;
    std::uint64_t a = 0;
    std::uint64_t b = 0;
    bool operator<(const Item& other) const {
      return at != other.at ? at > other.at : order > other.order;
    }
  };
  struct PendingRead {
    std::uint64_t id = 0;
    std::size_t sink = 0;
    recovery::event::ReadDone done;
  };

  // changes.cc: what happens between two lives of the broker, and to the store
  void change_limits();
  void change_sinks();
  bool plan_start(const recovery::StreamPolicy& policy, recovery::event::Started& started);
  void obey_refusal();
  std::optional<std::size_t> misplaced_sink() const;
  void forget_sink(const recovery::SinkState& stored);
  void add_sink();
  void lose_tail();
  void lose_store();
  void excuse_uncovered();
  void excuse_unstored(std::size_t sink);
  void note_begins();
  bool restoring() const;
  bool may_lose() const {
    return journal_.state() != nullptr && !sinks_changed_ && !policy_changed_;
  }
  bool damage_is_known() const;
  bool damage_is_latched() const;

  // world.cc: the run
  void step();
  void inject();
  void dispatch(const Item& item);
  void start_broker();
  void crash();
  void begin_liveness();
  bool drained() const;
  void operate();
  recovery::Now time() const { return {now_, wall_}; }

  // world_actions.cc: what the machine asks for
  void trace_event(const recovery::Event& event);
  void execute(const recovery::Action& action);
  void run(const recovery::action::Admit&);
  void run(const recovery::action::Duplicate&);
  void run(const recovery::action::Discard&);
  void run(const recovery::action::AdmitSkip&);
  void run(const recovery::action::Welcome&);
  void run(const recovery::action::Reject&);
  void run(const recovery::action::Finish&);
  void run(const recovery::action::Cut&);
  void run(const recovery::action::Acknowledge&);
  void run(const recovery::action::Halt&);
  void run(const recovery::action::Resume&);
  void run(const recovery::action::Evict&);
  void run(const recovery::action::Write&);
  void run(const recovery::action::Trim&);
  void run(const recovery::action::WriteLatch&);
  void run(const recovery::action::Read&);
  void run(const recovery::action::Locate&);
  void run(const recovery::action::Connect&);
  void run(const recovery::action::Close&);
  void run(const recovery::action::Send&);
  void run(const recovery::action::SendSkip&);
  void run(const recovery::action::Moved&);
  void run(const recovery::action::CoverageMoved&);
  void run(const recovery::action::Lost&);
  void run(const recovery::action::Note&);
  void run(const recovery::action::Reply&);
  void run(const recovery::action::StopDone&);
  void push_block(Offset first, std::uint64_t count, std::uint64_t running_bytes);
  void finish_commits(std::uint64_t last);
  bool follows_a_refusal(const Journal::Commit& commit) const;
  recovery::WriteOutcome store(const Journal::Commit& commit);
  void reopen_journal();
  void stale_event();
  void command(recovery::SinkCommand command, std::size_t sink);
  void reset_sink(std::size_t sink);
  void clear_halt();

  // check_limits.cc
  void jump(recovery::WallMs by);
  void settle_jumps();
  void watch_next_life();
  void watch_started();
  void watch_limits();
  bool over_records(std::size_t i) const;
  recovery::Millis longest_wait(std::size_t i) const;
  void check_age(std::size_t i) const;
  void check_outage(std::size_t i) const;
  void check_cut(const recovery::action::Locate& locate);
  void watch_jumps(const recovery::Event& event, const std::vector<Offset>& before);

  // checks.cc
  std::size_t index_of(SinkId id) const { return active_[value_of(id)]; }
  Sink& sink_of(SinkId id) { return sinks_[index_of(id)]; }
  void check_step();
  void check_custody();
  void check_end();
  void forget_promises();
  void check_taken(Position taken);
  void check_stopped();
  void check_same(const Record& record) const;
  void check_drop(const recovery::Loss& loss) const;
  void check_reserve(const Journal::Commit& commit, Offset append_first) const;
  void check_mark(const recovery::action::Welcome& welcome) const;
  void check_quorum(const std::vector<Record>& records) const;
  bool done_with(std::size_t sink, const Record& record) const;
  void promise(Position safe);
  bool covered(std::size_t sink, const Record& record) const;

  const std::uint64_t seed_;
  Counts& counts_;
  Trace& trace_;
  Random random_;
  Plan plan_;
  Journal journal_;
  std::deque<Sink> sinks_;           // destinations, those of the past among them
  std::vector<std::size_t> active_;  // of the policy's sinks, in its order
  std::vector<Position> begins_;     // what is at or before it is none of the sink's business
  std::vector<bool> begun_;          // that is known
  Producer producer_;

  // time and the queue
  recovery::Instant now_{recovery::Millis(1'000'000)};
  recovery::WallMs wall_ = 1'700'000'000'000;
  recovery::WallMs wall_floor_ = 0;  // never before: what only the clock remembers
  std::vector<Item> queue_;
  std::uint64_t order_ = 0;
  std::uint32_t life_ = 0;
  std::uint64_t steps_ = 0;
  std::uint64_t idle_ticks_ = 0;     // without time passing
  std::uint64_t useless_ticks_ = 0;  // one after the other, without an action, within a second
  recovery::Instant useless_since_{};
  std::uint64_t silent_resumes_ = 0;  // since something was admitted, or a halt was told
  std::uint64_t clears_ = 0;          // of a halt, by the operator of the last part
  std::uint64_t progress_ = 0;
  std::uint64_t faults_seen_ = 0;
  bool faults_on_ = true;

  bool accept_drop_ = false;  // of this life

  // what limits may count: per sink, since it last acknowledged something
  struct Watch {
    Offset acked = 0;
    recovery::Instant progress_at{};
    recovery::Millis excused{0};  // of the world's, then
    std::optional<recovery::Instant> paused_at;
    recovery::Millis paused{0};
    std::optional<recovery::Instant> waits_since;  // something undelivered has
    recovery::Millis waits_excused{0};
  };
  std::vector<Watch> watches_;
  struct Jump {
    Offset from = 0;
    Offset to = 0;
    bool asked = false;  // for a place to cut, by what waited before it
  };
  std::vector<Jump> jumps_;          // by index in active_
  std::vector<bool> over_at_start_;  // a limit, that nobody agreed to drop at
  std::map<std::uint64_t, std::vector<Watch>> asked_watches_;  // with a write that is under way
  std::vector<Watch> stored_watches_;
  recovery::WallMs jumped_ = 0;       // since the broker last looked
  recovery::Millis excused_time_{0};  // by which the clock went ahead while no broker could see it
  recovery::Millis unseen_time_{0};   // the same, if this broker ends before it writes that down
  recovery::Instant started_at_{};
  bool refused_in_life_ = false;  // by the disk
  std::vector<recovery::HaltCause> causes_;

  // the broker's process
  std::unique_ptr<recovery::StreamMachine> machine_;
  std::vector<recovery::Action> actions_;
  std::vector<Record> records_;  // all that this process admitted or found in the journal
  Offset records_first_ = 1;
  std::deque<recovery::BlockInfo> window_;
  std::uint64_t window_bytes_ = 0;
  const std::vector<Record>* batch_ = nullptr;  // at hand, while the machine looks at it
  std::vector<PendingRead> reads_;
  std::vector<recovery::action::Locate> locates_;
  bool welcomed_ = false;
  std::unique_ptr<recovery::StreamMachine> retired_;  // stopped, and still on the stack
  std::uint64_t max_block_bytes_ = 0;
  bool stopping_ = false;
  bool halted_before_ = false;
  bool group_open_before_ = false;
  bool telling_ = false;

  // the journal's process
  std::deque<Journal::Commit> commits_;            // queued, in order
  std::optional<recovery::WriteOutcome> refused_;  // so is what comes right after
  std::uint64_t journal_generation_ = 0;           // of what is queued; others fail
  bool journal_down_ = false;
  bool disk_full_ = false;
  std::optional<recovery::Instant> latch_asked_;  // since when the machine wants causes on disk
  std::vector<recovery::HaltCause> latching_;
  std::uint64_t latch_id_ = 0;

  // what was promised to producers, in order
  std::vector<Record> promised_;
  std::vector<std::size_t> frontier_;  // per sink: before it everything is taken or ledgered
  Position told_safe_;
  bool custody_dirty_ = true;
  bool lost_something_ = false;
  bool sinks_changed_ = false;
  bool damaged_ = false;         // the machine knows of damage, and no operator has accepted it
  bool unreported_ = false;      // and no latch says so yet
  Offset restore_to_ = 0;        // what a store that came back shorter had held
  std::set<std::string> moved_;  // sinks that an operator reset in this life
  std::set<std::size_t> ever_moved_;
  std::uint64_t first_entry_ = 0;            // of the ledger, in this life
  std::vector<std::set<Position>> excused_;  // per sink: lost with the store
  bool policy_changed_ = false;
  std::uint64_t next_request_ = 1;
  std::vector<std::uint64_t> requests_;  // not answered yet
};

}  // namespace spillway::simulation
