#include "journal/reader.h"

#include <rocksdb/cache.h>
#include <rocksdb/statistics.h>

#include <utility>

#include "base/invariant.h"
#include "journal/block_reader.h"
#include "journal/dead_letters.h"
#include "journal/ledger.h"

namespace spillway::journal {

void Reader::start() {
  thread_ = std::thread([this] { run(); });
}

void Reader::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Reader::add(Request request) {
  {
    const std::lock_guard lock(mutex_);
    requests_.push_back(std::move(request));
  }
  changed_.notify_one();
}

void Reader::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !requests_.empty(); });
    if (requests_.empty()) return;
    const Request request = std::move(requests_.front());
    requests_.pop_front();
    const bool serve = !stopping_;
    lock.unlock();
    request(serve);
    lock.lock();
  }
}

void Reader::read(const std::string& name, Offset from, Offset through, std::uint64_t max_bytes,
                  Journal::Read done) {
  Stream* stream = shared_.find(name);
  INVARIANT(stream != nullptr);
  add([this, stream, from, through, max_bytes, done = std::move(done)](bool serve) {
    ReadResult result;
    {
      const std::shared_lock lock(shared_.store_mutex);
      if (!serve || !shared_.store) {
        result.retryable = !shared_.damaged;
        result.error = shared_.damaged ? shared_.damage : "the journal is closed";
      } else if (rocksdb::ColumnFamilyHandle* family = shared_.store->stream(stream->name)) {
        result = read_blocks(shared_.store->db(), family, from, through, max_bytes, stream->end);
      } else {
        result.ok = true;
      }
    }
    done(std::move(result));
  });
}

void Reader::locate(const std::string& name, Offset offset_min, std::uint64_t bytes_min,
                    std::int64_t received_min_ms, Journal::Located done) {
  Stream* stream = shared_.find(name);
  INVARIANT(stream != nullptr);
  add([this, stream, offset_min, bytes_min, received_min_ms, done = std::move(done)](bool serve) {
    Result<std::optional<Location>> location = Error{"the journal is closed"};
    {
      const std::shared_lock lock(shared_.store_mutex);
      rocksdb::ColumnFamilyHandle* family =
          serve && shared_.store ? shared_.store->stream(stream->name) : nullptr;
      if (family != nullptr) {
        location = locate_cut(shared_.store->db(), family, stream->watermark, stream->end,
                              offset_min, bytes_min, received_min_ms);
      }
    }
    done(std::move(location));
  });
}

Result<std::vector<LedgerEntry>> Reader::ledger(const std::string& stream, std::size_t max) const {
  const std::shared_lock lock(shared_.store_mutex);
  if (!shared_.store) return Error{"the journal is closed after an error; try again"};
  return read_ledger(*shared_.store, stream, max);
}

std::optional<Error> Reader::dead_letters(
    const std::string& stream, const std::function<bool(const DeadLetter&)>& visit) const {
  const std::shared_lock lock(shared_.store_mutex);
  if (!shared_.store) return Error{"the journal is closed after an error; try again"};
  return visit_dead_letters(*shared_.store, stream, visit);
}

Stats Reader::stats() const {
  Stats stats;
  {
    const std::lock_guard lock(shared_.counters_mutex);
    stats = shared_.counters;
  }
  stats.max_disk_bytes = shared_.context.options.max_disk_bytes;
  stats.block_cache_bytes = shared_.context.cache->GetUsage();
  stats.stall_seconds =
      static_cast<double>(shared_.context.statistics->getTickerCount(rocksdb::STALL_MICROS)) / 1e6;
  const std::shared_lock lock(shared_.store_mutex, std::try_to_lock);
  if (!lock.owns_lock() || !shared_.store) return stats;  // being reopened
  const Store& store = *shared_.store;
  stats.memtable_bytes = store.sum("rocksdb.cur-size-all-mem-tables");
  stats.pending_compaction_bytes = store.sum("rocksdb.estimate-pending-compaction-bytes");
  stats.estimate_live_data_bytes = store.sum("rocksdb.estimate-live-data-size");
  return stats;
}

}  // namespace spillway::journal
