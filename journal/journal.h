// The bounded durable log of a broker: per stream a run of blocks, an opaque state, a ledger, dead
// letters and a latch. journal/README.md has formats, ordering rules and what each failure does.
//
// Operation: requests are queued and answered by completions. One journal thread is the only
// writer: everything queued becomes one batch and one sync. One reader thread serves reads. What a
// Commit holds becomes durable together or not at all.
// Concurrency: every method may be called from any thread. Completions run on the journal thread
// (reads: on the reader thread) and must only hand the result on. None runs after ~Journal
// returned.
// Limitations: knows no sinks. `state`, `text` of ledger entries and latch contents are bytes to
// it.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/block.h"
#include "base/loss.h"
#include "base/position.h"
#include "base/result.h"

namespace rocksdb {
class Env;
}

namespace spillway::journal {

enum class Compression { none, lz4 };

struct Options {
  std::filesystem::path data_dir;
  std::vector<std::string> streams;  // [A-Za-z0-9._-]{1,64}; made on their first append
  std::uint64_t max_disk_bytes = std::uint64_t{10} << 30;  // bound of everything under data_dir
  std::uint64_t min_free_disk = std::uint64_t{1} << 30;    // kept free on the file system
  std::uint64_t group_reserve = std::uint64_t{64} << 20;   // per stream with an open group
  Compression compression = Compression::lz4;
  std::chrono::milliseconds reopen_initial{100};  // backoff of D7's reopening, doubling to ...
  std::chrono::milliseconds reopen_max{5000};
  rocksdb::Env* env = nullptr;  // for tests that inject faults; must outlive the journal
};
// Below this max_disk_bytes open() refuses: smaller bounds leave no room for the store itself.
inline constexpr std::uint64_t kMinDiskBytes = std::uint64_t{64} << 20;
// Longer latch contents are refused: a slot must never grow.
inline constexpr std::size_t kMaxLatchBytes = (std::size_t{16} << 10) - 16;
// More ledger entries of a stream than this are merged, the oldest first, those of one sink and
// reason into one: its range spans theirs, its count is their sum, their texts are gone.
inline constexpr std::size_t kMaxLedgerEntries = 10'000;

// How a commit ended. Nothing of it is in the store unless `ok`, but for `failed`: then what is in
// the store is known only once the journal was reopened.
enum class Outcome { ok, failed, disk_bound, min_free };

// A range that did not reach a sink. Put again under the same id it replaces the earlier entry.
struct LedgerEntry {
  std::uint64_t id = 0;  // assigned by the caller, rising
  std::string sink;      // empty: all sinks of the stream
  Position first;
  Position last;            // inclusive; {0, 0}: still growing
  std::uint64_t count = 0;  // records; 0 while still growing
  LossReason reason{};
  std::int64_t time_ms = 0;
  bool upper_bound = false;  // at most these; some of them may have arrived
  std::string text;
};

struct DeadLetter {
  std::string sink;
  BlockPtr record;  // one record, or all parts of one
  std::string reason;
  std::int64_t time_ms = 0;
  std::uint64_t number = 0;  // in its stream, rising; given by the journal
};

// Limits refuse appends and dead letters. Whatever else is in a commit is always taken, and so are
// appends with `use_group_reserve`: custody of a group that has begun wins over the bound, and
// Stats::bound_breaches counts it.
struct Commit {
  std::string stream;
  // As in the newest Recovered of the stream. A commit made before its maker knew of a reopening
  // rests on what may be gone: it ends as `failed`.
  std::uint64_t generation = 0;
  // Contiguous, beginning after the end, or after the watermark of this commit if that is later.
  std::vector<BlockPtr> append;
  std::optional<std::string> state;  // replaces the stream's state
  std::optional<Offset> watermark;   // blocks that end at or before it are needed no more
  std::vector<LedgerEntry> ledger;
  std::vector<DeadLetter> dead_letters;
  std::vector<std::uint64_t> purged;  // numbers of dead letters that are kept no longer
  bool use_group_reserve = false;     // these records continue a group: it is for them
};

// What a store holds of one stream, at open and after each reopening.
struct Recovered {
  std::string stream;
  std::uint64_t generation = 0;      // for Commit; rises with each reopening
  std::optional<std::string> state;  // nothing: the stream is new, or damage hides it
  Offset watermark = 0;
  Offset end = 0;                     // of the last block; the watermark when there is none
  bool end_clean = false;             // no group is unfinished there; false where nobody can say
  std::uint64_t running_bytes = 0;    // of the last block that can be read
  Offset high_water = 0;              // the independent mark: beyond `end`, records were lost
  std::optional<std::string> latch;   // as last written; nothing if never
  std::optional<std::string> damage;  // what does not add up, in words; the intact part is readable
  std::uint64_t next_ledger_id = 1;
  bool writable = true;  // false: damaged so that every commit ends as `failed`
};

struct Stats {
  std::uint64_t disk_bytes = 0;  // everything under data_dir, as du counts it
  std::uint64_t free_bytes = 0;  // of its file system
  std::uint64_t max_disk_bytes = 0;
  std::uint64_t appends = 0;  // blocks
  std::uint64_t append_bytes = 0;
  std::uint64_t commits = 0;  // batches written and synced
  std::uint64_t commit_errors = 0;
  std::uint64_t reopens = 0;
  std::uint64_t bound_breaches = 0;  // commits of open groups taken beyond the bound
  std::uint64_t wal_bytes = 0;
  std::uint64_t sst_bytes = 0;
  std::uint64_t kept_bytes = 0;  // of repairs: what they replaced
  std::uint64_t memtable_bytes = 0;
  std::uint64_t pending_compaction_bytes = 0;
  std::uint64_t block_cache_bytes = 0;
  std::uint64_t estimate_live_data_bytes = 0;
  double stall_seconds = 0;
  bool failing = false;  // closed after an error, reopening
  std::string last_error;
};

struct ReadResult {
  bool ok = false;
  bool retryable = false;        // the store is being reopened, or the device failed: ask again
  std::vector<BlockPtr> blocks;  // contiguous; the first one contains `from`
  // The first damaged or missing range at or after `from`, when reading could not go on through it.
  // Blocks before it are in `blocks`.
  std::optional<std::pair<Offset, Offset>> lost;
  std::string error;
};

struct Location {
  Offset offset = 0;                // last record of a block with ends_clean, or the watermark
  std::uint64_t running_bytes = 0;  // through it
  std::int64_t received_ms = 0;     // of the block after it; 0 if there is none
};

class Journal {
 public:
  using Committed = std::function<void(Outcome)>;
  using Read = std::function<void(ReadResult)>;
  // Nothing: the journal has no such place. An error: it is closed, or cannot be read just now.
  using Located = std::function<void(Result<std::optional<Location>>)>;
  using LatchWritten = std::function<void(bool ok)>;
  // Called on the journal thread: `down` when a write failed and the store was closed, `reopened`
  // with what it contains once it is open again.
  struct Events {
    std::function<void(const std::string& error)> down;
    std::function<void(std::vector<Recovered>)> reopened;
    std::function<void(Outcome ok_or_limit)> disk;  // when the answer of the bound check changes
    std::function<void(double seconds, std::uint64_t records)> committed;  // after each sync
  };

  // Locks data_dir (a second broker gets an error that says so), opens or makes the store, compares
  // it with its high-water marks. recovered() has all of options.streams, and any other stream
  // found. Damage is reported there, never repaired here. A store so damaged that it cannot be
  // written is opened for reading, as far as that goes: every stream then has `damage`, every
  // commit ends as `failed`, no reopening is tried, and latches work. An unknown format is an
  // error.
  static Result<std::unique_ptr<Journal>> open(Options options, Events events);
  virtual ~Journal() = default;  // completes what is queued, then closes

  virtual const std::vector<Recovered>& recovered() const = 0;  // as of open()

  // Commits of one stream take effect in the order of the calls. While the store is closed after a
  // failure they end as `failed` at once: wait for Events::reopened, compare, then go on with the
  // generation that it brought. An append that follows one which a limit refused ends as that one
  // did, until one is taken that begins after the end; any other that leaves a gap is a bug.
  virtual void commit(Commit commit, Committed done) = 0;
  // Blocks from the one that contains `from` on, through `through` at most, stopping after
  // max_bytes (but at least one block).
  virtual void read(const std::string& stream, Offset from, Offset through, std::uint64_t max_bytes,
                    Read done) = 0;
  // The first place at or after all three bounds where a sink may be cut off cleanly.
  virtual void locate(const std::string& stream, Offset offset_min, std::uint64_t bytes_min,
                      std::int64_t received_min_ms, Located done) = 0;
  // Gives back whole files at or below a watermark that an earlier commit made durable.
  virtual void trim(const std::string& stream) = 0;
  // The stream's two-slot latch file: written without needing new disk space.
  virtual void write_latch(const std::string& stream, std::string contents, LatchWritten done) = 0;
  // Newest first, at most `max`; on the calling thread.
  virtual Result<std::vector<LedgerEntry>> ledger(const std::string& stream, std::size_t max) = 0;
  // As Inspector::dead_letters(); on the calling thread, and holds a reopening up.
  virtual std::optional<Error> dead_letters(
      const std::string& stream, const std::function<bool(const DeadLetter&)>& visit) = 0;
  virtual Stats stats() const = 0;
};

}  // namespace spillway::journal
