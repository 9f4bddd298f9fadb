#include "journal/store.h"

#include <rocksdb/cache.h>
#include <rocksdb/listener.h>
#include <rocksdb/statistics.h>
#include <rocksdb/table.h>

#include <algorithm>
#include <cstring>

#include "journal/clean_wal.h"
#include "journal/format.h"
#include "journal/held_wal.h"

namespace spillway::journal {

namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
const std::string kMetaName = "meta";
const std::string kDeadLettersName = "dead-letters";

bool is_stream(const std::string& family) { return family.rfind(kStreamFamily, 0) == 0; }

// RocksDB's own recovery aborts the process or loses the store in this version: it is refused, and
// the journal closes and reopens instead.
class Listener final : public rocksdb::EventListener {
 public:
  explicit Listener(std::shared_ptr<Signals> signals) : signals_(std::move(signals)) {}
  void OnBackgroundError(rocksdb::BackgroundErrorReason, rocksdb::Status* status) override {
    if (status->ok()) return;
    signals_->fail(*status);
    if (signals_->wake) signals_->wake();
  }
  void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason, rocksdb::Status,
                            bool* recover) override {
    *recover = false;
  }
  void OnMemTableSealed(const rocksdb::MemTableInfo& info) override {
    if (!is_stream(info.cf_name)) return;
    signals_->sealed = true;
    if (signals_->wake) signals_->wake();
  }

 private:
  std::shared_ptr<Signals> signals_;
};

// RocksDB's own log stays unwritten. Once a write of it has failed, on a full disk, its next line
// ends the process with an assertion; and a reader must not rotate that of a running broker. What
// matters comes as a status or through the listener.
class SilentLogger final : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
};

rocksdb::ColumnFamilyOptions stream_options(const StoreContext& context) {
  rocksdb::ColumnFamilyOptions options;
  options.write_buffer_size = context.sizing.memtable;
  options.max_write_buffer_number = 4;
  // Uniform: a compression per level would turn the moves below into rewrites.
  options.compression = context.options.compression == Compression::lz4 ? rocksdb::kLZ4Compression
                                                                        : rocksdb::kNoCompression;
  // Every flushed file is moved to level 1 at once, is never rewritten there, and can be deleted
  // whole.
  options.compaction_style = rocksdb::kCompactionStyleLevel;
  options.num_levels = 3;
  options.level_compaction_dynamic_level_bytes = false;
  options.level0_file_num_compaction_trigger = 1;
  options.level0_slowdown_writes_trigger = 40;
  options.level0_stop_writes_trigger = 60;
  options.max_bytes_for_level_base = std::uint64_t{1} << 50;
  options.target_file_size_base = context.sizing.memtable;
  options.soft_pending_compaction_bytes_limit = 0;
  options.hard_pending_compaction_bytes_limit = 0;
  options.ttl = 0;
  options.periodic_compaction_seconds = 0;
  rocksdb::BlockBasedTableOptions table;
  table.block_size = 64 << 10;
  table.block_cache = context.cache;
  table.filter_policy = nullptr;
  table.format_version = 5;
  table.checksum = rocksdb::kXXH3;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

rocksdb::ColumnFamilyOptions small_options(const StoreContext& context) {
  rocksdb::ColumnFamilyOptions options;
  options.write_buffer_size = kMiB;
  // These are written out with every memtable of a stream and queue behind it: with as few as the
  // streams have they would stop the writes first.
  options.max_write_buffer_number = 16;
  options.compression = rocksdb::kNoCompression;
  options.target_file_size_base = 4 * kMiB;  // a compaction holds little of it twice
  options.max_bytes_for_level_base = 16 * kMiB;
  options.ttl = 0;
  options.periodic_compaction_seconds = 0;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = context.cache;
  table.format_version = 5;
  table.checksum = rocksdb::kXXH3;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

rocksdb::DBOptions db_options(const StoreContext& context, Store::Mode mode,
                              rocksdb::WALRecoveryMode wal) {
  rocksdb::DBOptions options;
  options.env = context.env;
  options.create_if_missing = mode == Store::Mode::write;
  options.create_missing_column_families = mode == Store::Mode::write;
  // Without it a failed write of the WAL is forgotten, and acknowledged records follow a torn one.
  options.paranoid_checks = mode != Store::Mode::salvage;
  options.wal_recovery_mode = wal;
  options.track_and_verify_wals_in_manifest = false;  // its false alarms block a start
  options.verify_sst_unique_id_in_manifest = true;
  options.max_bgerror_resume_count = 0;
  if (mode == Store::Mode::write) {
    options.listeners.push_back(std::make_shared<Listener>(context.signals));
  }
  options.info_log = std::make_shared<SilentLogger>();
  options.max_open_files = mode == Store::Mode::salvage ? 64 : -1;
  options.max_background_jobs = 3;
  options.db_write_buffer_size = context.sizing.memtables;
  options.max_total_wal_size = context.sizing.wal;
  // Blocks allocated ahead of the data would count against the bound without holding anything.
  options.allow_fallocate = false;
  options.bytes_per_sync = kMiB;
  options.avoid_unnecessary_blocking_io = true;
  options.skip_stats_update_on_db_open = true;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  options.max_manifest_file_size = kMiB;
  options.statistics = context.statistics;
  return options;
}

// RocksDB asks whether the file system suits its options by opening CURRENT, and takes every error
// of that, too many open files for one, for a no. The data may be as good as ever.
bool is_failure_to_open(const rocksdb::Status& status) {
  const std::string text = status.ToString();
  return text.find("Direct I/O is not supported") != std::string::npos ||
         text.find("Found options incompatible with filesystem") != std::string::npos;
}

// RocksDB takes a directory without CURRENT for an empty one and deletes what it finds there.
bool has_orphans(const Layout& layout) {
  std::error_code error;
  if (std::filesystem::exists(layout.store() / "CURRENT", error)) return false;
  for (std::filesystem::directory_iterator it(layout.store(), error), end; !error && it != end;
       it.increment(error)) {
    if (it->path().extension() == ".sst" || it->path().extension() == ".log") return true;
  }
  return false;
}

}  // namespace

Sizing sizing_for(std::uint64_t max_disk_bytes, std::uint64_t group_reserve) {
  Sizing sizing;
  sizing.memtable = std::clamp(max_disk_bytes / 32, 4 * kMiB, 64 * kMiB);
  sizing.memtables = std::min(96 * kMiB, std::max(2 * sizing.memtable, max_disk_bytes / 8));
  sizing.wal = sizing.memtables + sizing.memtables / 2;
  sizing.ballast = std::clamp(max_disk_bytes / 64, kMiB, 64 * kMiB);
  sizing.headroom = 8 * kMiB;
  sizing.reserve = std::min(group_reserve, max_disk_bytes / 8);
  return sizing;
}

void Signals::fail(const rocksdb::Status& status) {
  const std::lock_guard lock(mutex_);
  if (!failed) failure_ = status;
  failed = true;
}

rocksdb::Status Signals::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

void Signals::lower() {
  const std::lock_guard lock(mutex_);
  failure_ = rocksdb::Status::OK();
  failed = sealed = false;
}

StoreContext::StoreContext(const Options& from)
    : options(from),
      layout(from.data_dir),
      sizing(sizing_for(from.max_disk_bytes, from.group_reserve)),
      env(from.env != nullptr ? from.env : rocksdb::Env::Default()),
      cache(rocksdb::NewLRUCache(32 * kMiB)),
      statistics(rocksdb::CreateDBStatistics()) {
  statistics->set_stats_level(rocksdb::StatsLevel::kExceptDetailedTimers);
}

std::unique_ptr<Store> Store::open(StoreContext& context, Mode mode, Failure& failure) {
  if (mode == Mode::salvage) {
    // Also what lies behind damage: blocks that are missing show as a hole.
    const auto all = rocksdb::WALRecoveryMode::kSkipAnyCorruptedRecords;
    if (auto store = open_once(context, mode, all, failure)) return store;
  }
  return open_once(context, mode, rocksdb::WALRecoveryMode::kPointInTimeRecovery, failure);
}

std::unique_ptr<Store> Store::open_once(StoreContext& context, Mode mode,
                                        rocksdb::WALRecoveryMode wal, Failure& failure) {
  failure = {};
  const std::string path = context.layout.store().string();
  if (mode == Mode::write && has_orphans(context.layout)) {
    failure.damaged = true;
    failure.text = path + " has data files but no CURRENT file";
    return nullptr;
  }
  std::unique_ptr<Store> store(new Store(context));
  rocksdb::DBOptions options = db_options(context, mode, wal);
  if (mode == Mode::salvage) store->env_ = clean_wal_env(context.env);
  if (mode == Mode::read) store->env_ = held_wal_env(context.env, context.layout.store());
  if (store->env_) options.env = store->env_.get();
  std::vector<std::string> names;
  rocksdb::Status status = rocksdb::DB::ListColumnFamilies(options, path, &names);
  std::error_code ignored;
  const bool fresh = !std::filesystem::exists(context.layout.store() / "CURRENT", ignored);
  if (fresh && mode == Mode::write) {
    names = {rocksdb::kDefaultColumnFamilyName};
    status = rocksdb::Status::OK();
  }
  if (status.ok()) {
    if (mode == Mode::write) {
      for (const std::string& name : {kMetaName, kDeadLettersName}) {
        if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
      }
    }
    std::vector<rocksdb::ColumnFamilyDescriptor> families;
    for (const std::string& name : names) {
      families.emplace_back(name,
                            is_stream(name) ? stream_options(context) : small_options(context));
    }
    rocksdb::DB* db = nullptr;
    status = mode == Mode::write
                 ? rocksdb::DB::Open(options, path, families, &store->handles_, &db)
                 : rocksdb::DB::OpenForReadOnly(options, path, families, &store->handles_, &db);
    store->db_.reset(db);
  }
  if (status.ok()) {
    for (rocksdb::ColumnFamilyHandle* handle : store->handles_) {
      const std::string& name = handle->GetName();
      if (name == kMetaName) store->meta_ = handle;
      if (name == kDeadLettersName) store->dead_letters_ = handle;
      if (is_stream(name)) store->streams_[name.substr(kStreamFamily.size())] = handle;
    }
    if (store->meta_ == nullptr || store->dead_letters_ == nullptr) {
      status = rocksdb::Status::Corruption("the state of the streams is missing");
    }
  }
  if (status.ok()) status = store->check_format(mode == Mode::write && fresh);
  if (status.ok()) return store;
  failure.status = status;
  failure.damaged = status.IsCorruption() || status.IsPathNotFound() || status.IsNotFound() ||
                    (status.IsInvalidArgument() && !is_failure_to_open(status));
  failure.text = is_failure_to_open(status)
                     ? path + "/CURRENT: cannot open it; are there too many open files?"
                     : path + ": " + status.ToString();
  return nullptr;
}

Store::~Store() {
  if (!db_) return;
  for (rocksdb::ColumnFamilyHandle* handle : handles_) {
    db_->DestroyColumnFamilyHandle(handle).PermitUncheckedError();
  }
  db_->Close().PermitUncheckedError();  // after a failed write this reports that write again
}

// The format's number is made durable before anything else is written.
rocksdb::Status Store::check_format(bool fresh) {
  rocksdb::Status status;
  const std::optional<std::string> found = get_meta(std::string(kFormatKey), status);
  if (!status.ok()) return status;
  if (!found) {
    if (!fresh && !streams_.empty()) {
      return rocksdb::Status::Corruption("blocks, but no format number");
    }
    rocksdb::WriteOptions sync;
    sync.sync = true;
    status = db_->Put(sync, meta_, rocksdb::Slice(kFormatKey.data(), kFormatKey.size()),
                      std::to_string(kFormatVersion));
    if (!status.ok()) return status;
    return db_->Flush(rocksdb::FlushOptions(), meta_);
  }
  if (*found != std::to_string(kFormatVersion)) {
    return rocksdb::Status::NotSupported(
        "format " + *found + " is not known to this version, which reads format " +
        std::to_string(kFormatVersion) + "; use the version that wrote it, or another data_dir");
  }
  return rocksdb::Status::OK();
}

rocksdb::ColumnFamilyHandle* Store::stream(const std::string& name) const {
  const auto it = streams_.find(name);
  return it == streams_.end() ? nullptr : it->second;
}

std::vector<std::string> Store::streams() const {
  std::vector<std::string> names;
  for (const auto& [name, handle] : streams_) names.push_back(name);
  return names;
}

rocksdb::Status Store::create_streams(const std::vector<std::string>& names) {
  std::vector<std::string> families;
  for (const std::string& name : names) families.push_back(std::string(kStreamFamily) + name);
  std::vector<rocksdb::ColumnFamilyHandle*> made;  // also when it fails: those before the failure
  rocksdb::Status status = db_->CreateColumnFamilies(stream_options(context_), families, &made);
  for (std::size_t i = 0; i < made.size(); ++i) {
    handles_.push_back(made[i]);
    streams_[names[i]] = made[i];
  }
  return status;
}

std::optional<std::string> Store::get_meta(const std::string& key, rocksdb::Status& status) {
  std::string value;
  status = db_->Get(rocksdb::ReadOptions(), meta_, key, &value);
  if (status.ok()) return value;
  if (status.IsNotFound()) status = rocksdb::Status::OK();
  return std::nullopt;
}

std::uint64_t Store::last_number(rocksdb::ColumnFamilyHandle* family, const std::string& prefix,
                                 rocksdb::Status& status) {
  const std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator(rocksdb::ReadOptions(), family));
  const Key end = key_of(~Offset{0});
  it->SeekForPrev(prefix + std::string(view(end)));
  status = it->status();
  if (!it->Valid() || !it->key().starts_with(prefix)) return 0;
  return offset_of(it->key().ToStringView().substr(prefix.size()));
}

rocksdb::Status Store::start_flush(bool all, rocksdb::ColumnFamilyHandle* stream) {
  rocksdb::FlushOptions options;
  options.wait = false;
  options.allow_write_stall = true;  // or it would wait for other flushes first
  for (rocksdb::ColumnFamilyHandle* handle : handles_) {
    if (!all && handle != stream && is_stream(handle->GetName())) continue;
    rocksdb::Status status = db_->Flush(options, handle);
    if (status.IsTryAgain()) {
      context_.signals->sealed = true;  // earlier ones are not done: ask again after the next write
      return rocksdb::Status::OK();
    }
    if (!status.ok()) return status;
  }
  return rocksdb::Status::OK();
}

std::uint64_t Store::sum(const std::string& property) const {
  std::uint64_t total = 0;
  for (rocksdb::ColumnFamilyHandle* handle : handles_) total += number(*db_, handle, property);
  return total;
}

std::uint64_t Store::number(rocksdb::DB& db, rocksdb::ColumnFamilyHandle* family,
                            const std::string& property) {
  std::uint64_t value = 0;
  return db.GetIntProperty(family, property, &value) ? value : 0;
}

}  // namespace spillway::journal
