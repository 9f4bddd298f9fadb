// Actions: what the shell is to do next, in order, named in the imperative. A shell is a switch
// over them with one call per case.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/loss.h"
#include "base/position.h"
#include "recovery/durable_state.h"
#include "recovery/halt.h"

namespace spillway::recovery {

enum class State { journaling, replaying, live, parked, paused };
enum class Coverage { unknown, closed, opening, open, closing, sealing };
enum class Source { memory, journal };

// Why a delivery changed its state.
enum class Cause {
  started,
  caught_up,
  fell_behind,
  positioned_live,
  positioned_replaying,
  lost,
  refused,
  protocol,
  ack_timeout,
  rejected,
  moved,
  paused,
  parked,
  resumed,
  stopped,
};

enum class RejectCode {
  fenced,
  replaced,
  gap,
  fork,
  epoch,
  in_flight,
  shutting_down,
  malformed,
  journal_down,
};

// A range that did not reach a sink. The same id replaces the entry written before.
struct Loss {
  std::uint64_t id = 0;
  std::string sink;  // empty: every sink of the stream
  Offset first = 0;
  Offset last = 0;          // before `first`: nothing after all
  std::uint64_t fresh = 0;  // records that its entry did not name before; 0 while it is growing
  Position first_position;
  Position last_position;
  LossReason reason{};
  WallMs time = 0;
  bool upper_bound = false;
  bool growing = false;  // its end is not known yet; `last` says nothing
  std::string text;
};

struct DeadLetterNote {
  SinkId sink{};
  Offset first = 0;
  Offset last = 0;
  std::string reason;
  WallMs time = 0;
  std::uint64_t bytes = 0;
  std::uint64_t entry = 0;  // of the ledger, that goes with it
};

namespace action {

// --- producers --------------------------------------------------------------------------------
// Takes records [skip, skip + count) of the batch at hand into the window, as block(s) from `first`
// on
// (`position`, with `running_bytes` through the last). What is before is a duplicate, what is after
// is refused or discarded.
struct Admit {
  SessionId session{};
  std::uint64_t skip = 0;
  std::uint64_t count = 0;
  Offset first = 0;
  Position position;
  std::uint64_t running_bytes = 0;
};
// These records of the batch at hand are here already: compare their CRCs where they are in memory.
struct Duplicate {
  SessionId session{};
  Offset first = 0;
  std::uint64_t count = 0;
};
struct Discard {
  SessionId session{};
  std::uint64_t count = 0;
};  // met while halted; will come again
// A range that no producer sends any more, taken into the window as a skip block for every sink.
struct AdmitSkip {
  Offset first = 0;
  Position position;
  std::uint64_t count = 0;
  LossReason reason{};
  std::uint64_t running_bytes = 0;
};
struct Welcome {
  SessionId session{};
  std::uint64_t generation = 0;
  Position held;
  Position safe;
  std::string mark;
  Position mark_position;
  std::vector<HaltCause> halted;  // empty: not halted
};
struct Reject {  // and close
  SessionId session{};
  RejectCode code{};
  bool retryable = false;
  std::string text;
};
struct Finish {
  SessionId session{};
};  // let it finish the record it is sending, then end it
struct Cut {
  SessionId session{};
};  // end it now
struct Acknowledge {
  Position safe;
  Position taken;
};  // to the current session
struct Halt {
  std::vector<HaltCause> causes;
};  // tell producers
struct Resume {
  Position held;
};

// --- window and journal -------------------------------------------------------------------------
struct Evict {
  Offset through = 0;
};
// One atomic, synced commit, answered by Written. At most one is under way.
struct Write {
  std::uint64_t id = 0;
  Offset append_first =
      0;  // blocks of the window, sliced at append_first; none if append_last is 0
  Offset append_last = 0;
  std::vector<AdmitSkip> fills;  // appended first, where the journal has lost what lay there
  std::shared_ptr<const DurableState> state;
  Offset watermark = 0;
  std::vector<Loss> losses;
  std::vector<DeadLetterNote> dead_letters;
  bool use_group_reserve = false;
};
struct Trim {};  // give back files at or below the durable watermark
struct WriteLatch {
  std::uint64_t id = 0;
  std::vector<HaltCause> causes;
};
struct Read {
  SinkId sink{};
  std::uint64_t id = 0;
  Offset from = 0;
  Offset through = 0;
  std::uint64_t max_bytes = 0;
};
struct Locate {
  SinkId sink{};
  std::uint64_t id = 0;
  Offset offset_min = 0;
  std::uint64_t bytes_min = 0;
  WallMs received_min = 0;
};

// --- sinks ------------------------------------------------------------------------------------
struct Connect {
  SinkId sink{};
  Attempt attempt{};
};
struct Close {
  SinkId sink{};
  Attempt attempt{};
};
struct Send {  // whole blocks, but for the first and the last
  SinkId sink{};
  Attempt attempt{};
  Offset first = 0;
  Offset last = 0;
  Source source{};
  std::uint64_t read_id = 0;  // for Source::journal
};
struct SendSkip {
  SinkId sink{};
  Attempt attempt{};
  Offset first = 0;
  Offset last = 0;
  LossReason reason{};
};

// --- reports: log and metrics -------------------------------------------------------------------
struct Moved {
  SinkId sink{};
  State from{};
  State to{};
  Cause cause{};
};
struct CoverageMoved {
  Coverage from{};
  Coverage to{};
  Offset first = 0;
  Offset end = 0;
};
struct Lost {
  Loss loss;
};  // became durable in the ledger
struct Note {
  std::optional<SinkId> sink;
  std::string text;
  bool warning = false;
};
struct Reply {
  std::uint64_t request = 0;
  bool ok = false;
  std::string text;
};
struct StopDone {};

}  // namespace action

using Action =
    std::variant<action::Admit, action::Duplicate, action::Discard, action::AdmitSkip,
                 action::Welcome, action::Reject, action::Finish, action::Cut, action::Acknowledge,
                 action::Halt, action::Resume, action::Evict, action::Write, action::Trim,
                 action::WriteLatch, action::Read, action::Locate, action::Connect, action::Close,
                 action::Send, action::SendSkip, action::Moved, action::CoverageMoved, action::Lost,
                 action::Note, action::Reply, action::StopDone>;

}  // namespace spillway::recovery
