// The Journal on RocksDB: the queue, the two threads, and what they share. writer.h is what the
// journal thread does, reader.h what the reader thread does.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "journal/reader.h"
#include "journal/writer.h"

namespace spillway::journal {

class RocksJournal final : public Journal {
 public:
  static Result<std::unique_ptr<Journal>> open(Options options, Events events);
  ~RocksJournal() override;

  const std::vector<Recovered>& recovered() const override { return recovered_; }
  void commit(Commit commit, Committed done) override;
  void read(const std::string& stream, Offset from, Offset through, std::uint64_t max_bytes,
            Read done) override;
  void locate(const std::string& stream, Offset offset_min, std::uint64_t bytes_min,
              std::int64_t received_min_ms, Located done) override;
  void trim(const std::string& stream) override;
  void write_latch(const std::string& stream, std::string contents, LatchWritten done) override;
  Result<std::vector<LedgerEntry>> ledger(const std::string& stream, std::size_t max) override;
  std::optional<Error> dead_letters(const std::string& stream,
                                    const std::function<bool(const DeadLetter&)>& visit) override;
  Stats stats() const override;

 private:
  struct LatchRequest {
    std::string stream;
    std::string contents;
    LatchWritten done;
  };
  struct Queued {
    std::vector<CommitRequest> commits;
    std::vector<LatchRequest> latches;
    std::vector<std::string> trims;
    bool empty() const { return commits.empty() && latches.empty() && trims.empty(); }
  };

  RocksJournal(std::unique_ptr<DirLock> lock, std::unique_ptr<Shared> shared, Events events);
  std::optional<Error> start();
  void run();
  void wake();

  std::unique_ptr<DirLock> lock_;  // released last
  std::unique_ptr<Shared> shared_;
  Writer writer_;
  Reader reader_;
  std::vector<Recovered> recovered_;

  std::mutex mutex_;  // of what follows; never held over a call of RocksDB or of a completion
  std::condition_variable changed_;
  Queued queued_;
  bool woken_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace spillway::journal
