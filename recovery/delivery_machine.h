// DeliveryMachine: what one sink of one stream should do next.
//
// Operation: step() takes a fact and appends actions. Four numbers are the whole specification:
// cursor <= acked <= sent <= head (but for what a sink reported itself), and bytes in flight within
// the limit, which never stops inside a record. The cursor is the stream machine's; this one keeps
// acked and sent.
// Concurrency: none; one thread, no re-entry. Lifetime: the WindowIndex must outlive it.
#pragma once

#include <deque>
#include <optional>
#include <span>
#include <string_view>
#include <variant>
#include <vector>

#include "recovery/action.h"
#include "recovery/backoff.h"
#include "recovery/durable_state.h"
#include "recovery/event.h"
#include "recovery/policy.h"
#include "recovery/window_index.h"

namespace spillway::recovery {

// One row of the transition table of recovery/README.md.
struct DeliveryTransition {
  State from;
  State to;
  Cause cause;
};
std::span<const DeliveryTransition> delivery_transitions();
std::string_view name_of(State state);
std::string_view name_of(Cause cause);

inline constexpr std::uint64_t kReadBytes = std::uint64_t{1} << 20;  // of one read from the journal

namespace delivery {

struct Started {
  Offset acked = 0;
  std::uint64_t running_bytes = 0;  // through acked
  bool paused = false;
  bool parked = false;
  WallMs oldest_received = 0;  // of the record after acked; 0: unknown
};
// head: the last record there is; readable: the last one that can be read from the journal.
struct Extended {
  Offset head = 0;
  Offset readable = 0;
};
struct Connected {
  Attempt attempt{};
};
// Where the sink goes on, once that is known.
struct Positioned {
  Offset acked = 0;
};
struct Lost {
  Attempt attempt{};
  SinkLoss cause{};
};
struct Acked {
  Attempt attempt{};
  Offset through = 0;
};
// Nothing more to this sink until Skipped, Restarted, Parked or Resumed: something about it is on
// its way to the disk. `rejected`: because the sink refused a record, and has ended the attempt.
struct Held {
  bool rejected = false;
};
// What was on its way is not coming: go on as before, after a pause.
struct Released {};
struct Skipped {
  SkipRange range;
};  // durable: a skip block is sent instead of these
// The cursor was moved by policy or by an operator: connect anew and go on from there.
struct Restarted {
  Offset acked = 0;
  std::uint64_t running_bytes = 0;
};
// With nothing in flight: the sink has all through here, no more and no less. A first Hello said
// so, or an epoch ended before what the sink reported.
struct Corrected {
  Offset acked = 0;
};
// What the sink reported, and what was to be skipped, beyond `head` belongs to no record of this
// stream.
struct Clamped {
  Offset head = 0;
};
struct ReadDone {
  std::uint64_t id = 0;
  bool ok = false;
  std::span<const BlockInfo> blocks;
};
struct Parked {};
struct Paused {};
struct Resumed {};    // by an operator, out of parked or paused
struct Reconnect {};  // now, whatever the backoff says
struct Ticked {};
struct Stopped {};

using Event = std::variant<Started, Extended, Connected, Positioned, Lost, Acked, Held, Released,
                           Skipped, Restarted, Corrected, Clamped, ReadDone, Parked, Paused,
                           Resumed, Reconnect, Ticked, Stopped>;
}  // namespace delivery

class DeliveryMachine {
 public:
  DeliveryMachine(SinkId id, const SinkPolicy& policy, const WindowIndex& window,
                  std::uint64_t seed);

  void step(Instant now, const delivery::Event& event, std::vector<Action>& out);
  // When to send Ticked next; nothing: no need.
  std::optional<Instant> deadline() const;

  State state() const { return state_; }
  Attempt attempt() const { return attempt_; }
  bool connected() const { return connected_; }  // its position may still be unknown
  bool positioned() const { return positioned_; }
  bool refusing() const { return refusing_; }  // the last attempt ended with the receiver's no
  Offset acked() const { return acked_; }
  Offset sent() const { return sent_; }
  std::uint64_t running_acked() const {
    return acked_bytes_;
  }  // running byte count through acked()
  WallMs oldest_received() const {
    return oldest_received_;
  }  // of the record after acked(); 0: unknown
  std::uint64_t in_flight_bytes() const { return in_flight_bytes_; }
  // One attempt has ended or succeeded since start, and since it was given up for a reason of ours;
  // or none is made, as it is parked.
  bool attempted() const { return attempted_; }
  int failures() const { return backoff_.failures(); }
  bool reads(std::uint64_t id) const { return reading_ == id; }
  const std::deque<SkipRange>& skips() const { return skips_; }

 private:
  void on(const delivery::Started&);
  void on(const delivery::Extended&);
  void on(const delivery::Connected&);
  void on(const delivery::Positioned&);
  void on(const delivery::Lost&);
  void on(const delivery::Acked&);
  void on(const delivery::Held&);
  void on(const delivery::Released&);
  void on(const delivery::Skipped&);
  void on(const delivery::Restarted&);
  void on(const delivery::Corrected&);
  void on(const delivery::Clamped&);
  void on(const delivery::ReadDone&);
  void on(const delivery::Parked&);
  void on(const delivery::Paused&);
  void on(const delivery::Resumed&);
  void on(const delivery::Reconnect&);
  void on(const delivery::Ticked&);
  void on(const delivery::Stopped&);

  void enter(State to, Cause cause);
  void connect();
  void close_connection();  // ends the attempt, whoever began it
  void lose(State to, Cause cause);
  void retry_later();
  void pump();
  void send_from_window(Offset limit);
  void send_skip(const SkipRange& range);
  void request_read(Offset limit);
  void note_sent(const BlockInfo& block, Offset first, Offset last);
  void set_acked(Offset acked);
  void settle_state();
  const SkipRange* skip_at_or_after(Offset offset) const;
  bool may_send_more() const;
  void check() const;

  const SinkId id_;
  const SinkPolicy policy_;
  const WindowIndex& window_;
  Backoff backoff_;

  State state_ = State::journaling;
  Attempt attempt_{};
  bool connecting_ = false;
  bool connected_ = false;
  bool positioned_ = false;
  bool refusing_ = false;
  bool attempted_ = false;
  bool stopped_ = false;
  bool held_ = false;
  bool inside_record_ = false;  // the last thing sent leaves a multi-part record unfinished
  Offset acked_ = 0;
  Offset sent_ = 0;
  std::uint64_t acked_bytes_ = 0;
  std::uint64_t in_flight_bytes_ = 0;
  WallMs oldest_received_ = 0;
  Offset head_ = 0;
  Offset readable_ = 0;
  std::deque<BlockInfo> in_flight_;  // cut to what was sent and is not acknowledged
  std::deque<SkipRange> skips_;
  std::optional<std::uint64_t> reading_;
  Offset read_through_ = 0;
  std::uint64_t read_id_ = 0;
  std::optional<Instant> connect_at_;
  std::optional<Instant> ack_by_;
  std::optional<Instant> read_at_;  // a failed read, or the rate limit
  Instant rate_free_at_{};          // when the rate limit lets the next read begin

  Instant now_{};
  std::vector<Action>* out_ = nullptr;
};

}  // namespace spillway::recovery
