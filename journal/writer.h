// What the journal thread does: groups of commits, trims, latches, marks, the bound, and reopening.
// Not thread-safe: one thread at a time, and the same one from start() on.
#pragma once

#include <rocksdb/write_batch.h>

#include <chrono>
#include <span>
#include <string>
#include <vector>

#include "journal/disk_bound.h"
#include "journal/shared.h"

namespace spillway::journal {

struct CommitRequest {
  Commit commit;
  Journal::Committed done;
};

class Writer {
 public:
  using Time = std::chrono::steady_clock::time_point;

  Writer(Shared& shared, Journal::Events events);

  // Reads what each stream has; to be called after the store was opened. An error where the device
  // fails a read of a store that can be written: it is to be opened again.
  Result<std::vector<Recovered>> recover();

  void commit(std::vector<CommitRequest> requests);  // completes them all, in order
  void request_trim(const std::string& stream);
  bool write_latch(const std::string& stream, const std::string& contents);
  // What is due by now: reopening, trims, marks, a look at the disk.
  void work(Time now);
  Time next_due() const;
  void finish();  // the last call: leaves the marks exact

 private:
  struct Staging {  // one commit on its way into a batch
    CommitRequest* request;
    Stream* stream;
    Outcome outcome;
  };

  bool down() const { return failing_ || shared_.damaged; }
  Outcome stage(const Commit& commit, Stream& stream);
  Outcome admit(const Commit& commit, Stream& stream, std::uint64_t bytes);
  std::uint64_t reserved(const Stream* also) const;
  bool ensure_family(Stream& stream);
  void add_blocks(const Commit& commit, rocksdb::ColumnFamilyHandle* family);
  void add_meta(const Commit& commit, Stream& stream);
  bool write_group(std::vector<Staging>& group);
  void after_write();
  void flush_state();
  void bound_state();

  void fail(const rocksdb::Status& status);
  void reopen(Time now);
  void trim(Stream& stream);
  void squeeze();
  void limit_ledger(Stream& stream);
  void reclaim();
  void write_marks();
  void watch_disk();
  void flush_idle();
  void announce(Outcome answer);
  std::optional<DiskState> look_at_disk();
  std::uint64_t free_space() const;

  Shared& shared_;
  Journal::Events events_;
  DiskBound bound_;
  rocksdb::WriteBatch batch_;
  std::vector<rocksdb::Slice> parts_;
  std::span<const CommitRequest> waiting_;  // behind the one that is staged
  std::uint64_t generation_ = 0;
  rocksdb::Status stage_failure_;  // of making a column family
  std::string found_damage_;       // by the store that is to be reopened, in the background

  bool failing_ = false;
  bool no_space_ = false;
  std::chrono::milliseconds backoff_;
  Time reopen_at_{};
  Time tick_at_{};
  Time trim_at_{};
  Time squeezed_at_{};
  Offset ends_at_tick_ = 0;  // of all streams, added up
  bool trims_due_ = false;
  bool drained_one_ = false;  // since the last tick a stream was found to need nothing
  bool purged_ = false;       // dead letters whose space was not given back yet
  bool have_ballast_ = false;
  Outcome answer_ = Outcome::ok;
  std::uint64_t refused_bytes_ = 0;  // of the last commit for which there was no room
};

}  // namespace spillway::journal
