// StreamMachine: what one stream should do next: admission, custody, coverage, trimming, halting,
// producers, and one DeliveryMachine for each sink.
//
// Operation: step() takes a fact and the time, and appends actions that the shell carries out in
// order. It never fails, never re-enters, holds no payload. The durable part is one value, `want_`:
// changing it and writing it are apart, so that whatever piled up while a write was under way goes
// with the next one, and what waits for durability waits for a change number.
// Concurrency: none; one thread. The rules are numbered in recovery/README.md (D1-D8, G1-G12).
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "recovery/action.h"
#include "recovery/clock_steps.h"
#include "recovery/delivery_machine.h"
#include "recovery/durable_state.h"
#include "recovery/epochs.h"
#include "recovery/event.h"
#include "recovery/policy.h"
#include "recovery/window_index.h"

namespace spillway::recovery {

struct CoverageTransition {
  Coverage from;
  Coverage to;
  std::string_view when;
};
std::span<const CoverageTransition> coverage_transitions();
std::string_view name_of(Coverage coverage);

inline constexpr Millis kQuietBeforeClosing{1000};  // no reason to journal for so long
inline constexpr int kPressedShare = 8;         // of spill_after, without progress in half a window
inline constexpr Millis kHandoverLimit{10000};  // for an older session to finish its record
inline constexpr Millis kLatchPatience{1000};   // then the producer hears of a halt anyway
inline constexpr Millis kDiskRetry{250};
inline constexpr Millis kLocateRetry{200};
inline constexpr Millis kNoOutageBefore{30000};  // after start
inline constexpr std::size_t kMaxPendingMarks = 4096;
inline constexpr std::uint64_t kEpochSpread = std::uint64_t{1} << 20;  // after a loss: 12 days
inline constexpr std::uint64_t kAppendBytes = std::uint64_t{2} << 20;  // of one commit
inline constexpr std::size_t kAppendsUnderWay = 64;

class StreamMachine {
 public:
  explicit StreamMachine(StreamPolicy policy);

  void step(Now now, const Event& event, std::vector<Action>& out);
  // When to send Ticked next; nothing: no need.
  std::optional<Instant> deadline() const;

  // Views for status, metrics and tests.
  const StreamPolicy& policy() const { return policy_; }
  const DurableState& durable() const { return durable_; }
  const DurableState& wanted() const { return want_; }
  const EpochTable& epochs() const { return table_; }
  Coverage coverage() const { return cov_; }
  bool known() const { return known_; }  // the head is
  Offset head() const { return head_; }
  Offset safe() const { return safe_; }
  Offset taken() const { return known_ ? min_effective() : 0; }
  Offset journal_end() const { return durable_end_; }
  Offset watermark() const { return watermark_of(durable_); }
  const WindowIndex& window() const { return window_; }
  const std::vector<HaltCause>& causes() const { return causes_; }
  bool halted() const { return !causes_.empty(); }
  bool blocked() const { return blocked_; }
  bool journal_down() const { return journal_down_; }
  // What a journal came back without is not all in it again.
  bool restoring() const;
  std::optional<SessionId> session() const { return session_; }
  const DeliveryMachine& delivery(SinkId sink) const { return sinks_[value_of(sink)]->delivery; }
  // The position through which a sink has acknowledged, or which policy let it pass durably.
  Offset effective(SinkId sink) const { return effective(*sinks_[value_of(sink)]); }
  // Where a sink stands: it took all through `took`, and needs nothing through `passed`.
  struct Standing {
    Offset took = 0;
    Offset passed = 0;
  };
  Standing standing(SinkId sink) const { return standing(*sinks_[value_of(sink)]); }
  // After which record a reset goes on, as far as records exist: the head, or the record before
  // `from`. Nothing: its epoch is not known.
  std::optional<Offset> reset_target(const std::optional<Position>& from) const;
  struct Backlog {
    std::uint64_t records = 0;
    std::uint64_t bytes = 0;
    WallMs oldest_received = 0;  // 0: nothing is undelivered
  };
  Backlog backlog(SinkId sink) const { return backlog(*sinks_[value_of(sink)]); }
  struct Outage {
    bool on = false;
    WallMs since = 0;
    std::optional<Millis> remaining;  // until outage_timeout trips; nothing: unlimited or no outage
  };
  Outage outage(SinkId sink) const;
  // The policy's, with what an operator has added. Nothing: unlimited.
  struct Limits {
    std::optional<std::uint64_t> max_bytes;
    std::optional<Millis> max_age;
    std::optional<Millis> outage_timeout;
  };
  Limits limits(SinkId sink) const;
  // What a relay tells its receiver about itself (D4): the cursor and the first record at hand.
  Offset oldest_available() const;
  // The first record that a sink can be sent again.
  Offset rewindable() const;

 private:
  struct WaitingSkip {
    SkipRange range;
    std::uint64_t change = 0;
  };
  // Where a sink that drops its oldest is to be cut off: at the first place beyond all of these.
  struct Cut {
    LossReason reason{};
    Offset offset_min = 0;
    std::uint64_t bytes_min = 0;
    WallMs received_min = 0;
  };
  // From where a sink still needs records, with what its limits count there.
  struct Place {
    Offset through = 0;
    std::uint64_t running_bytes = 0;
    WallMs received = 0;  // of the record after it; 0: unknown
  };
  struct Sink {
    Sink(SinkId id_, const SinkPolicy& policy_, const WindowIndex& window, std::uint64_t seed)
        : id(id_), policy(policy_), delivery(id_, policy_, window, seed) {}
    SinkId id;
    const SinkPolicy& policy;
    DeliveryMachine delivery;
    bool report_waits = false;  // connected, its position not resolved yet
    std::optional<Position> reported;
    Offset floor = 0;                        // what the sink is known to have taken by itself
    bool fresh = false;                      // new to this store: what it reports wins
    std::vector<WaitingSkip> waiting_skips;  // told to the delivery once durable
    std::vector<SkipRange> not_taken;        // skipped, and not safe by other means yet (quorum)
    bool drop_durable = false;               // the open-ended drop is in the ledger
    std::uint64_t drop_change = 0;
    std::optional<SkipRange> ending_drop;  // of an open-ended drop, being closed
    std::uint64_t ending_change = 0;
    std::optional<Loss> last_drop;  // by a limit; one that goes on from there is the same entry
    std::optional<std::uint64_t> restart_change;  // Restarted once this is durable
    Offset restart_at = 0;
    struct Answer {  // to an operator, once the change is durable
      std::uint64_t change = 0;
      std::uint64_t request = 0;
      std::string text;
    };
    std::vector<Answer> answers;
    std::optional<std::uint64_t> locating;
    Cut cut;                                              // what is being located
    std::optional<std::pair<Offset, Offset>> reset_lost;  // ledgered by resets of this process
    Place seen;              // while it was in the window, which it may have left since
    Place located;           // by the last drop of this process, for the sink or before it
    Instant locate_at{};     // after the journal could not be looked at
    bool drop_held = false;  // a lowered limit would drop, and nobody agreed
    std::optional<Instant> outage_began;  // on the steady clock, pauses taken out
    std::optional<Instant> paused_at;
    Instant progress_at{};  // of the last acknowledgement
    Offset progress_acked = 0;
    Millis extra_time{0};  // an operator's extension
    std::uint64_t extra_bytes = 0;
    std::uint64_t refused_bytes = 0;  // of the record at which max_bytes halted
    bool blocking = false;
    bool reopen_after_drop = false;  // held while its drop becomes durable
  };
  struct PendingHello {
    event::HelloCame hello;
    bool prepared = false;
    std::uint64_t change = 0;  // Welcome once this is durable
    std::uint64_t generation = 0;
    std::optional<Instant> cut_at;  // the older session is ended then
  };
  struct Writing {
    std::uint64_t id = 0;
    std::uint64_t changes = 0;
    Offset append_first = 0;
    Offset append_last = 0;
    std::shared_ptr<const DurableState> state;
    std::vector<Loss> losses;
    std::vector<DeadLetterNote> dead_letters;
    bool filled = false;        // no hole is left once it is durable
    bool from_reserve = false;  // the rest of a group, at a disk that takes nothing else
    bool final = false;
  };

  // stream_machine.cc: life and custody; stream_writes.cc: writes
  void on(const event::Started&);
  void on(const event::Ticked&);
  void on(const event::StopAsked& e);
  void on(const event::Written&);
  void on(const event::DiskHasRoom&);
  void settle();
  void flush();
  void start_write(Offset append_first, Offset append_last, bool final);
  bool rest_of_group() const;
  bool is_clean(Offset offset) const;
  Offset append_through() const;
  bool may_follow() const;
  Instant checkpoint_due() const;
  void finish_write(Writing writing);
  void put_back(std::deque<Writing> writings);
  void take_back_dead_letters();
  void apply_durable();
  void fill_snapshot(DurableState& state, Offset append_last) const;
  void acknowledge();
  Offset safe_target() const;
  Offset quorum_through() const;
  void trim();
  std::uint64_t change() { return ++changes_; }
  bool durable_at(std::uint64_t change) const { return durable_changes_ >= change; }
  Offset progress() const;
  Offset sendable() const;
  Offset settled() const;
  bool epochs_durable() const;
  Offset epoch_base_waiting() const;
  Offset watermark_of(const DurableState& state) const;
  void check() const;

  // stream_reopen.cc: less than was confirmed
  void compare_start(Offset end, Offset high_water);
  void on(const event::JournalDown&);
  void on(const event::JournalReopened&);
  void restore(const event::JournalReopened& e, bool older);
  DurableState aligned(const std::optional<DurableState>& found) const;
  std::vector<action::AdmitSkip> fill_hole(Offset watermark) const;

  // stream_hello.cc: producers, epochs, gaps
  void on(const event::HelloCame&);
  void on(const event::SessionEnded&);
  void prepare_hello();
  std::optional<Offset> adopt_acknowledged(const event::HelloCame& hello, bool& adopted);
  void resolve_head(const event::HelloCame& hello, std::optional<Offset> acknowledged);
  void resolve_cursors(Offset held, Offset vouched);
  bool has_room(const event::HelloCame& hello) const;
  bool wants_new_epoch(const event::HelloCame& hello, bool adopted) const;
  void open_epoch(std::uint64_t number);
  void begin_epoch(std::uint64_t number, Offset base);
  void handle_gap(const event::HelloCame& hello, std::optional<Offset> acknowledged);
  void pass_gap();
  void end_gap();
  bool may_welcome() const;
  void welcome();
  void become_known();
  void reject(SessionId session, RejectCode code, bool retryable, std::string text);

  // stream_admission.cc
  void on(const event::BatchCame&);
  void discard_behind(const event::BatchCame& batch);
  bool check_epoch(const event::BatchCame& batch);
  bool has_room(const event::BatchCame& batch) const;
  std::uint64_t admissible(const event::BatchCame& batch, std::uint64_t skip);
  void admit(const event::BatchCame& batch, std::uint64_t skip, std::uint64_t count);
  void take(BlockInfo block, std::uint64_t count);
  void admit_block(const event::BatchCame& batch, std::uint64_t skip, std::uint64_t count,
                   bool ends_clean);
  void end_group();
  std::uint64_t running_at_safe() const;
  void reach_safe(Offset through);

  // stream_coverage.cc
  void settle_coverage();
  bool reason_to_journal() const;
  Instant spill_by(Offset taken, const BlockInfo& oldest) const;
  std::optional<Instant> spill_at() const;
  void enter(Coverage to);
  Offset openable() const;
  void begin_opening();
  void extend_sinks();
  void evict();

  // stream_sinks.cc
  void on(const event::SinkConnected&);
  void on(const event::SinkLost&);
  void on(const event::SinkAcked&);
  void on(const event::SinkRejected&);
  void on(const event::SinkNudged&);
  void on(const event::ReadDone&);
  void on(const event::SinkCommanded&);
  void on(const event::SinkReset&);
  void resolve_report(Sink& sink);
  void position(Sink& sink, Offset acked);
  void park(Sink& sink, std::string reason);
  Offset move_cursor(Sink& sink, Offset target, Offset took, Offset passed);
  void add_skip(Sink& sink, SkipRange range);
  void settle_sink(Sink& sink);
  void restart(Sink& sink, Offset at, std::uint64_t running_bytes);
  Offset effective(const Sink& sink) const;
  Standing standing(const Sink& sink) const;
  Offset min_effective() const;
  Sink& sink_of(SinkId id) { return *sinks_[value_of(id)]; }
  SinkState& state_of(const Sink& sink) { return want_.sinks[value_of(sink.id)]; }
  const SinkState& state_of(const Sink& sink) const { return want_.sinks[value_of(sink.id)]; }
  void deliver(Sink& sink, const delivery::Event& event) {
    sink.delivery.step(now_.steady, event, *out_);
  }

  // stream_drops.cc
  void on(const event::Located&);
  void begin_drop(Sink& sink, LossReason reason);
  void end_drop(Sink& sink);
  void drop_oldest(Sink& sink, LossReason reason);
  void drop_in_window(Sink& sink, const Cut& cut);
  void drop_through(Sink& sink, Offset last, LossReason reason);
  Loss make_loss(std::string sink, Offset first, Offset last, LossReason reason, bool upper_bound);
  bool names_skipped(const Sink& sink, const Loss& loss) const;
  void record_loss(Loss loss);

  // stream_limits.cc
  void on(const event::LatchWritten&);
  void on(const event::HaltCleared&);
  void settle_limits();
  void follow_clock();
  void track_outage(Sink& sink);
  void judge(Sink& sink);
  void extend(Sink& sink, const event::HaltCleared& e);
  void judge_disk();
  void judge_journal();
  void settle_latch();
  bool under_limit(const Sink& sink, CauseKind kind) const;
  std::optional<Millis> outage_elapsed(const Sink& sink) const;
  std::uint64_t max_bytes(const Sink& sink) const;
  std::uint64_t byte_limit(const Sink& sink) const;
  static bool lost_something(const Sink& sink);
  void end_unwanted_drop(Sink& sink);
  Place place_of(const Sink& sink) const;
  void raise(CauseKind kind, std::string sink, std::string text);
  void clear(CauseKind kind, std::string_view sink);
  bool has_cause(CauseKind kind, std::string_view sink = {}) const;
  Backlog backlog(const Sink& sink) const;
  Millis age_of(const Backlog& waiting) const;

  const StreamPolicy policy_;
  std::vector<std::unique_ptr<Sink>> sinks_;
  DurableState want_;
  DurableState durable_;
  EpochTable table_{want_.epochs};
  WindowIndex window_;
  std::uint64_t running_bytes_ = 0;  // through head
  Offset head_ = 0;
  Offset clean_head_ = 0;  // the last record after which no group is unfinished
  // The head that a start found: what came before it is gone, so that only the next record can tell
  // whether a group is unfinished there. Until then no drop ends there.
  std::optional<Offset> torn_;
  bool known_ = false;
  bool started_ = false;
  bool was_clean_ = true;
  std::uint64_t epoch_margin_ = 0;  // beyond what a journal that lost something may have given out

  Coverage cov_ = Coverage::unknown;
  Offset appended_ = 0;     // queued for the journal or durable there, while it is open
  Offset durable_end_ = 0;  // of the journal
  Offset closing_end_ = 0;
  Offset open_first_ = 0;
  std::optional<Instant> quiet_since_;
  Offset safe_ = 0;
  std::uint64_t safe_running_ = 0;  // bytes through it
  Offset acks_after_ = 0;  // a stricter `acks` than the stored one is stored once this is safe
  Offset told_safe_ = 0;
  Offset told_taken_ = 0;
  bool blocked_ = false;
  std::deque<std::pair<Offset, std::string>> marks_;  // ascending, beyond the stored one

  std::uint64_t changes_ = 0;
  std::uint64_t durable_changes_ = 0;
  std::uint64_t revision_ = 0;
  std::uint64_t next_id_ = 1;    // of writes, latch writes and locates
  std::deque<Writing> writing_;  // under way, in order; behind an append only appends
  std::deque<Writing> failed_;   // what became of them is known once the journal is open again
  std::vector<Loss> losses_;
  std::deque<std::pair<Offset, std::uint64_t>>
      unsaid_;  // skip blocks, and the changes they wait for
  std::vector<DeadLetterNote> dead_letters_;
  Instant wrote_at_{};
  Offset progress_written_ = ~Offset{0};
  Offset trimmed_ = 0;
  Offset watermark_written_ = 0;  // the highest that a write named, whatever became of it
  Offset evicted_ = 0;            // what the shell was told of the window
  Offset released_ = 0;           // sinks may have been sent what comes through here
  Offset hole_first_ = 0;         // what the journal lost of its middle; 0: nothing
  Offset hole_last_ = 0;
  std::optional<std::uint64_t> mark_cut_;   // until then the stored mark lies beyond the head
  std::optional<std::uint64_t> restoring_;  // nothing is acknowledged before this is durable
  Offset restore_to_ = 0;                   // and before the journal reaches to here again
  bool journal_down_ = false;
  std::optional<Instant> failing_since_;  // until a write succeeds
  std::optional<WriteOutcome> disk_refused_;
  Instant disk_retry_at_{};
  bool disk_dropped_ = false;  // for the last refusal

  std::optional<SessionId> session_;
  std::optional<PendingHello> hello_;
  std::optional<std::uint64_t> known_change_;  // the head is known once this is durable
  bool discarding_ = false;                    // until the record after head comes again
  bool resume_owed_ = false;  // the producer must hear where to go on, even if it heard no Halt
  std::optional<Offset> gap_through_;  // the range after head that nobody sends any more
  bool accept_gap_ = false;
  std::optional<std::uint64_t> resume_after_;  // a change that must be durable before Resume

  std::vector<HaltCause> causes_;
  std::vector<HaltCause> latched_;         // as last written
  std::optional<std::uint64_t> latch_id_;  // a write under way
  std::vector<HaltCause> latching_;
  std::optional<Instant> latch_wanted_;  // since when what is written is not what holds
  Instant latch_retry_at_{};
  bool told_halt_ = false;
  std::vector<HaltCause> told_causes_;

  bool stopping_ = false;
  bool stop_done_ = false;
  Instant started_at_{};
  Now now_;
  ClockSteps clock_;
  std::vector<Action>* out_ = nullptr;
};

}  // namespace spillway::recovery
