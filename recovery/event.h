// Events: facts that the shell tells the stream machine, named in the past tense.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/loss.h"
#include "base/position.h"
#include "recovery/durable_state.h"
#include "recovery/halt.h"
#include "recovery/time.h"
#include "recovery/window_index.h"

namespace spillway::recovery {

// What one record of a batch says about its neighbours.
struct RecordInfo {
  std::uint64_t bytes = 0;
  bool continues = false;      // of a group or a multi-part record that began before it
  bool open = false;           // after it a group or a multi-part record is unfinished
  bool inside_record = false;  // after it a multi-part record is unfinished
};

enum class SinkLoss { connect_failed, broken, refused, protocol };
enum class WriteOutcome { ok, failed, disk_bound, min_free };
enum class SinkCommand { pause, resume, reconnect };

namespace event {

// --- life -------------------------------------------------------------------------------------
struct Started {
  std::optional<DurableState> state;  // as stored; nothing: a new stream
  Offset journal_end = 0;             // last record in the journal, where coverage is open
  bool end_clean = false;             // no group is unfinished there
  std::uint64_t end_running_bytes = 0;
  // Per sink of the stored state, while coverage is open: the running byte count through where it
  // goes on (goes_on_after), and the receipt of the record after it.
  struct Backlog {
    std::uint64_t running_bytes = 0;
    WallMs oldest_received = 0;
  };
  std::vector<Backlog> backlogs;
  std::vector<HaltCause> latched;
  Offset watermark = 0;   // the journal's own: nothing at or before it is there
  Offset high_water = 0;  // the last record that was ever durable, by a mark of the journal's own
  std::string damage;     // what does not add up in the journal; empty: nothing
};
struct Ticked {};  // a deadline() has passed
// Spill what is not safe, write a last checkpoint, then say StopDone.
struct StopAsked {
  bool writable = true;  // false: the journal takes nothing, so it is done at once
};

// --- producers --------------------------------------------------------------------------------
enum class EpochWish { none, assign, own };
struct HelloCame {
  SessionId session{};
  std::uint64_t generation = 0;  // 0: assign one
  std::optional<Position> acknowledged;
  std::optional<Position> oldest;
  bool resumes = false;
  EpochWish wish = EpochWish::none;
  std::uint64_t own_epoch = 0;  // for EpochWish::own
};
struct BatchCame {
  SessionId session{};
  Position first;
  std::uint64_t count = 0;
  std::uint64_t bytes = 0;
  std::optional<LossReason> skip;       // a range without records
  std::optional<Position> previous;     // named by the first batch of an epoch
  std::span<const RecordInfo> records;  // `count` of them; empty for a skip
  // The newest mark among the records, with its index.
  std::optional<std::uint64_t> mark_index;
  std::string_view mark;
};
struct SessionEnded {
  SessionId session{};
};

// --- sinks ------------------------------------------------------------------------------------
struct SinkConnected {
  SinkId sink{};
  Attempt attempt{};
  std::optional<Position> held;  // what the destination says it holds
};
struct SinkLost {
  SinkId sink{};
  Attempt attempt{};
  SinkLoss cause = SinkLoss::broken;
};
struct SinkAcked {
  SinkId sink{};
  Attempt attempt{};
  Offset through = 0;
};
struct SinkRejected {  // for good; one record, or all parts of one. The attempt has ended
  SinkId sink{};
  Attempt attempt{};
  Offset first = 0;
  Offset last = 0;
  std::uint64_t bytes = 0;
  std::string reason;
};
struct SinkNudged {
  SinkId sink{};
};  // the receiver's word that it is back

// --- journal ----------------------------------------------------------------------------------
struct Written {
  std::uint64_t id = 0;
  WriteOutcome outcome = WriteOutcome::ok;
};
struct JournalDown {};
struct JournalReopened {
  std::optional<DurableState> state;
  Offset end = 0;
  std::string damage;
};
struct DiskHasRoom {};  // above limit and reserve again
struct LatchWritten {
  std::uint64_t id = 0;
  bool ok = false;
};
struct ReadDone {
  SinkId sink{};
  std::uint64_t id = 0;
  bool ok = false;
  std::vector<BlockInfo> blocks;  // contiguous; the first one contains the offset asked for
  // The damaged or missing range after `blocks`, if reading could not go on.
  std::optional<std::pair<Offset, Offset>> lost;
};
struct Located {
  SinkId sink{};
  std::uint64_t id = 0;
  bool ok = false;                  // the journal was looked at
  Offset offset = 0;                // 0: it has no such place
  std::uint64_t running_bytes = 0;  // through it
  WallMs received = 0;              // of the record after it; 0: the journal has none
};

// --- operators: each is answered by one Reply with the same id ----------------------------------
struct SinkCommanded {
  std::uint64_t request = 0;
  SinkId sink{};
  SinkCommand command{};
};
struct SinkReset {
  std::uint64_t request = 0;
  SinkId sink{};
  std::optional<Position> from;  // nothing: from the next record on
};
struct HaltCleared {
  std::uint64_t request = 0;
  bool accept_loss = false;
  std::optional<Millis> extend_time;
  std::optional<std::uint64_t> extend_bytes;
};

}  // namespace event

using Event =
    std::variant<event::Started, event::Ticked, event::StopAsked, event::HelloCame,
                 event::BatchCame, event::SessionEnded, event::SinkConnected, event::SinkLost,
                 event::SinkAcked, event::SinkRejected, event::SinkNudged, event::Written,
                 event::JournalDown, event::JournalReopened, event::DiskHasRoom,
                 event::LatchWritten, event::ReadDone, event::Located, event::SinkCommanded,
                 event::SinkReset, event::HaltCleared>;

}  // namespace spillway::recovery
