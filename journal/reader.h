// The reader thread: replay reads and searches, one at a time, beside the journal thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "journal/shared.h"

namespace spillway::journal {

class Reader {
 public:
  explicit Reader(Shared& shared) : shared_(shared) {}
  ~Reader() { stop(); }

  void start();
  void stop();  // answers what is queued as retryable, then joins

  // From any thread, as Journal::read() and Journal::locate().
  void read(const std::string& stream, Offset from, Offset through, std::uint64_t max_bytes,
            Journal::Read done);
  void locate(const std::string& stream, Offset offset_min, std::uint64_t bytes_min,
              std::int64_t received_min_ms, Journal::Located done);
  // On the calling thread.
  Result<std::vector<LedgerEntry>> ledger(const std::string& stream, std::size_t max) const;
  std::optional<Error> dead_letters(const std::string& stream,
                                    const std::function<bool(const DeadLetter&)>& visit) const;
  Stats stats() const;

 private:
  // `serve` is false when the reader is stopping and the answer is "ask again".
  using Request = std::function<void(bool serve)>;
  void run();
  void add(Request request);

  Shared& shared_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Request> requests_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace spillway::journal
