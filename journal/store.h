// One open RocksDB with the options a log needs (journal/README.md says why each), its column
// families, and what it says about itself. Everything else in this folder goes through it.
#pragma once

#include <rocksdb/db.h>
#include <rocksdb/env.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "journal/data_dir.h"
#include "journal/journal.h"

namespace rocksdb {
class Cache;
class Logger;
class Statistics;
}  // namespace rocksdb

namespace spillway::journal {

// How the parts of a store scale with the bound that they must share.
struct Sizing {
  std::uint64_t memtable;   // of one stream; also the grain of trimming
  std::uint64_t memtables;  // of all streams
  std::uint64_t wal;        // more than this makes RocksDB flush what holds the oldest file
  std::uint64_t ballast;
  std::uint64_t headroom;  // for what is not blocks: MANIFEST, logs, state, ledger
  std::uint64_t reserve;   // for one open group
};
Sizing sizing_for(std::uint64_t max_disk_bytes, std::uint64_t group_reserve);

// Raised by RocksDB's threads, lowered by the journal thread.
struct Signals {
  void fail(const rocksdb::Status& status);
  // Why writes will fail, or ok: the first error in the background since the last lowering.
  rocksdb::Status failure() const;
  void lower();

  std::atomic<bool> failed{false};
  std::atomic<bool> sealed{false};  // a stream's memtable is full and is being written out
  std::function<void()> wake;       // after either; must not call into the store

 private:
  mutable std::mutex mutex_;
  rocksdb::Status failure_;
};

// What outlives one opening of the store, so that counters do not start anew with each.
struct StoreContext {
  explicit StoreContext(const Options& options);
  Options options;
  Layout layout;
  Sizing sizing;
  rocksdb::Env* env;
  std::shared_ptr<rocksdb::Cache> cache;
  std::shared_ptr<rocksdb::Statistics> statistics;
  std::shared_ptr<Signals> signals = std::make_shared<Signals>();
};

// Concurrency: the column-family map is changed by create_streams() only; the caller excludes that,
// and destruction, from everything else. The rest may be called from any thread.
class Store {
 public:
  enum class Mode {
    write,   // makes the store if there is none
    read,    // beside a broker or offline; changes nothing
    salvage  // as read, and files that are damaged only matter when they are read
  };
  // What open() ended with when there is no store to show for it.
  struct Failure {
    rocksdb::Status status;
    bool damaged = false;  // trying again cannot help
    std::string text;
  };

  static std::unique_ptr<Store> open(StoreContext& context, Mode mode, Failure& failure);
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  rocksdb::DB& db() { return *db_; }
  rocksdb::ColumnFamilyHandle* meta() { return meta_; }
  rocksdb::ColumnFamilyHandle* dead_letters() { return dead_letters_; }
  rocksdb::ColumnFamilyHandle* stream(const std::string& name) const;  // null: never appended to
  std::vector<std::string> streams() const;

  // One call costs as much as there are streams already, however many it makes.
  rocksdb::Status create_streams(const std::vector<std::string>& names);
  std::optional<std::string> get_meta(const std::string& key, rocksdb::Status& status);
  // The last number under `prefix` in `family`, 0 if there is none.
  std::uint64_t last_number(rocksdb::ColumnFamilyHandle* family, const std::string& prefix,
                            rocksdb::Status& status);

  // Starts writing out the memtables of everything but the streams, and of these too if `all`, or
  // of `stream` if there is one.
  rocksdb::Status start_flush(bool all, rocksdb::ColumnFamilyHandle* stream = nullptr);
  std::uint64_t sum(const std::string& property) const;  // over all column families
  static std::uint64_t number(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family,
                              const std::string& property);

 private:
  explicit Store(StoreContext& context) : context_(context) {}
  static std::unique_ptr<Store> open_once(StoreContext& context, Mode mode,
                                          rocksdb::WALRecoveryMode wal, Failure& failure);
  rocksdb::Status check_format(bool fresh);

  StoreContext& context_;
  std::unique_ptr<rocksdb::Env> env_;  // of its own, where it is only read; outlives db_
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> handles_;
  rocksdb::ColumnFamilyHandle* meta_ = nullptr;
  rocksdb::ColumnFamilyHandle* dead_letters_ = nullptr;
  std::map<std::string, rocksdb::ColumnFamilyHandle*> streams_;
};

}  // namespace spillway::journal
