#include "journal/rocks_journal.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "base/invariant.h"
#include "base/utf8.h"
#include "journal/format.h"
#include "journal/recover.h"
#include "journal/start_check.h"

namespace spillway::journal {

namespace {

static_assert(kLatchSlotBytes - 16 == kMaxLatchBytes);

std::optional<Error> check(const Options& options) {
  if (options.max_disk_bytes < kMinDiskBytes) {
    return Error{"max_disk_bytes is " + std::to_string(options.max_disk_bytes) +
                 " bytes; it must be at least " + std::to_string(kMinDiskBytes)};
  }
  for (const std::string& name : options.streams) {
    if (!valid_stream_name(name)) {
      return Error{"\"" + name + "\" cannot name a stream: use 1 to 64 of A-Z a-z 0-9 . _ -"};
    }
  }
  return std::nullopt;
}

void open_for_reading(Shared& shared, const std::string& why) {
  shared.damaged = true;
  shared.damage = "the journal can only be read: " + printable(why) +
                  "; stop the broker and run `spillway journal repair`";
  Store::Failure failure;
  shared.store = Store::open(shared.context, Store::Mode::salvage, failure);
  if (!shared.store) shared.damage += "; not even that: " + printable(failure.text);
}

std::optional<Error> open_store(Shared& shared) {
  StartCheck found = check_before_start(shared.context);
  if (found.error) return found.error;
  if (found.damage) {
    open_for_reading(shared, *found.damage);
    return std::nullopt;
  }
  Store::Failure failure;
  shared.store = Store::open(shared.context, Store::Mode::write, failure);
  if (!shared.store && failure.status.IsNoSpace()) {
    drop_ballast(shared.context.layout);
    shared.store = Store::open(shared.context, Store::Mode::write, failure);
  }
  if (shared.store) return std::nullopt;
  if (!failure.damaged) return Error{failure.text};
  open_for_reading(shared, failure.text);
  return std::nullopt;
}

// Whether anything of the stream was ever committed, as far as can be told. Its latch was made
// before.
bool holds(Store& store, const std::string& stream) {
  rocksdb::Status status;
  return store.stream(stream) != nullptr || store.get_meta(state_key(stream), status) ||
         !status.ok();
}

std::optional<Error> open_streams(Shared& shared) {
  std::set<std::string> names(shared.context.options.streams.begin(),
                              shared.context.options.streams.end());
  if (shared.store) {
    for (const std::string& name : shared.store->streams()) names.insert(name);
  }
  for (const std::string& name : names) {
    std::error_code ignored;
    const std::filesystem::path path = shared.context.layout.latch(name);
    const bool lost =
        !std::filesystem::exists(path, ignored) && shared.store && holds(*shared.store, name);
    auto latch =
        Slots::open(path, kLatchSlotBytes, lost ? Slots::Made::damaged : Slots::Made::unwritten);
    if (!latch) return latch.error();
    auto mark = Slots::open(shared.context.layout.mark(name), kMarkSlotBytes);
    if (!mark) return mark.error();
    auto stream = std::make_unique<Stream>(name, std::move(*latch), std::move(*mark));
    stream->latch_missing = lost;
    stream->high_water = decode_mark(stream->mark.contents().contents.value_or(""));
    shared.streams.emplace(name, std::move(stream));
  }
  return std::nullopt;
}

// Without its state all that a stream has would pass for delivered, and go with the next trim.
std::optional<Error> check_streams(Shared& shared) {
  if (!shared.store || shared.damaged) return std::nullopt;
  for (const auto& [name, stream] : shared.streams) {
    const auto found = find_obstacle(*shared.store, name);
    if (!found) continue;
    if (!found->damage) return Error{found->text};
    shared.store.reset();
    open_for_reading(shared, found->text);
    break;
  }
  return std::nullopt;
}

}  // namespace

Result<std::unique_ptr<Journal>> Journal::open(Options options, Events events) {
  return RocksJournal::open(std::move(options), std::move(events));
}

Result<std::unique_ptr<Journal>> RocksJournal::open(Options options, Events events) {
  if (auto error = check(options)) return *error;
  auto shared = std::make_unique<Shared>(options);
  const Layout& layout = shared->context.layout;
  if (auto error = make_directories(layout)) return *error;
  auto lock = DirLock::take(layout);
  if (!lock) return lock.error();
  if (auto error = check_format(layout)) return *error;
  if (auto error = open_store(*shared)) return *error;
  if (auto error = open_streams(*shared)) return *error;
  if (auto error = check_streams(*shared)) return *error;
  std::unique_ptr<RocksJournal> journal(
      new RocksJournal(std::move(*lock), std::move(shared), std::move(events)));
  if (auto error = journal->start()) return *error;
  return std::unique_ptr<Journal>(std::move(journal));
}

RocksJournal::RocksJournal(std::unique_ptr<DirLock> lock, std::unique_ptr<Shared> shared,
                           Events events)
    : lock_(std::move(lock)),
      shared_(std::move(shared)),
      writer_(*shared_, std::move(events)),
      reader_(*shared_) {}

std::optional<Error> RocksJournal::start() {
  auto recovered = writer_.recover();
  if (!recovered) return recovered.error();
  recovered_ = std::move(*recovered);
  shared_->context.signals->wake = [this] { wake(); };
  reader_.start();
  thread_ = std::thread([this] { run(); });
  return std::nullopt;
}

RocksJournal::~RocksJournal() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  reader_.stop();
  shared_->store.reset();
}

void RocksJournal::run() {
  for (;;) {
    Queued taken;
    bool stopping = false;
    {
      std::unique_lock lock(mutex_);
      const auto due = [this] { return stopping_ || woken_ || !queued_.empty(); };
      if (const Writer::Time until = writer_.next_due(); until == Writer::Time::max()) {
        changed_.wait(lock, due);
      } else {
        changed_.wait_until(lock, until, due);
      }
      taken = std::exchange(queued_, {});
      woken_ = false;
      stopping = stopping_;
    }
    // A latch must not wait for the store.
    for (LatchRequest& request : taken.latches) {
      const bool ok = writer_.write_latch(request.stream, request.contents);
      if (request.done) request.done(ok);
    }
    if (!taken.commits.empty()) writer_.commit(std::move(taken.commits));
    for (const std::string& stream : taken.trims) writer_.request_trim(stream);
    if (stopping && taken.empty()) break;
    if (!stopping) writer_.work(std::chrono::steady_clock::now());
  }
  writer_.finish();
}

void RocksJournal::wake() {
  {
    const std::lock_guard lock(mutex_);
    woken_ = true;
  }
  changed_.notify_one();
}

void RocksJournal::commit(Commit commit, Committed done) {
  INVARIANT(shared_->find(commit.stream) != nullptr);
  {
    const std::lock_guard lock(mutex_);
    queued_.commits.push_back({std::move(commit), std::move(done)});
  }
  changed_.notify_one();
}

void RocksJournal::trim(const std::string& stream) {
  {
    const std::lock_guard lock(mutex_);
    queued_.trims.push_back(stream);
  }
  changed_.notify_one();
}

void RocksJournal::write_latch(const std::string& stream, std::string contents, LatchWritten done) {
  {
    const std::lock_guard lock(mutex_);
    queued_.latches.push_back({stream, std::move(contents), std::move(done)});
  }
  changed_.notify_one();
}

void RocksJournal::read(const std::string& stream, Offset from, Offset through,
                        std::uint64_t max_bytes, Read done) {
  reader_.read(stream, from, through, max_bytes, std::move(done));
}

void RocksJournal::locate(const std::string& stream, Offset offset_min, std::uint64_t bytes_min,
                          std::int64_t received_min_ms, Located done) {
  reader_.locate(stream, offset_min, bytes_min, received_min_ms, std::move(done));
}

std::optional<Error> RocksJournal::dead_letters(
    const std::string& stream, const std::function<bool(const DeadLetter&)>& visit) {
  return reader_.dead_letters(stream, visit);
}

Result<std::vector<LedgerEntry>> RocksJournal::ledger(const std::string& stream, std::size_t max) {
  return reader_.ledger(stream, max);
}

Stats RocksJournal::stats() const { return reader_.stats(); }

}  // namespace spillway::journal
