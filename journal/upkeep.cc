// What the journal thread does beside commits: trims, marks, latches, and its watch over the disk.
#include <rocksdb/convenience.h>
#include <rocksdb/file_system.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "base/invariant.h"
#include "journal/block_reader.h"
#include "journal/format.h"
#include "journal/recover.h"
#include "journal/writer.h"

namespace spillway::journal {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr milliseconds kTick{1000};
constexpr milliseconds kTrimInterval{50};
// A drained stream may keep as much in memory and in its WAL file.
constexpr std::uint64_t kDrainedBytes = 2 * kMiB;
// Of WAL that no memtable needs, but that an old one holds, where a stream was drained.
constexpr std::uint64_t kHeldWalBytes = 32 * kMiB;
// Of WAL at the bound: half of the headroom, which is what state has there.
constexpr std::uint64_t kWalAtBoundBytes = 4 * kMiB;

}  // namespace

void Writer::request_trim(const std::string& name) {
  if (Stream* stream = shared_.find(name)) {
    stream->trim_due = true;
    trims_due_ = true;
  }
}

bool Writer::write_latch(const std::string& name, const std::string& contents) {
  Stream* stream = shared_.find(name);
  INVARIANT(stream != nullptr);
  if (!stream->latch.write(contents)) return false;
  stream->latch_missing = false;
  return true;
}

void Writer::work(Time now) {
  if (shared_.damaged) return;
  if (!failing_ && shared_.context.signals->failed) {
    fail(shared_.context.signals->failure());
  }
  if (failing_) {
    if (now >= reopen_at_) reopen(now);
    return;
  }
  if (trims_due_ && now >= trim_at_) {
    trims_due_ = false;
    trim_at_ = now + kTrimInterval;
    for (const auto& [name, stream] : shared_.streams) {
      if (stream->trim_due && !failing_) trim(*stream);
    }
  }
  if (!failing_ && now >= tick_at_) {
    tick_at_ = now + kTick;
    flush_state();
    write_marks();
    reclaim();
    if (!failing_) watch_disk();
    if (!failing_) flush_idle();
  }
}

Writer::Time Writer::next_due() const {
  if (shared_.damaged) return Time::max();
  if (failing_) return reopen_at_;
  return trims_due_ ? std::min(trim_at_, tick_at_) : tick_at_;
}

void Writer::finish() {
  if (shared_.damaged) return;
  write_marks();
  reclaim();
}

// A deletion is one more entry until it meets what it deletes.
void Writer::reclaim() {
  if (failing_ || !std::exchange(purged_, false)) return;
  rocksdb::CompactRangeOptions options;
  options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForceOptimized;
  // An error shows in the next write.
  shared_.store->db()
      .CompactRange(options, shared_.store->dead_letters(), nullptr, nullptr)
      .PermitUncheckedError();
}

void Writer::trim(Stream& stream) {
  stream.trim_due = false;
  Store& store = *shared_.store;
  rocksdb::ColumnFamilyHandle* family = store.stream(stream.name);
  if (family == nullptr) return;
  const auto number = [&](const char* property) {
    return Store::number(store.db(), family, property);
  };
  const Offset watermark = stream.durable.watermark;
  rocksdb::Status status;
  if (watermark >= stream.durable.end) {
    // Nothing is needed any more, but what is in memory still holds a WAL file, and a table that
    // was just flushed, or is being moved, cannot be deleted yet: come back until all are gone.
    // Asked in the order in which a record passes, and before the deletion, or one slips by.
    if (number("rocksdb.cur-size-active-mem-table") > kDrainedBytes) {
      status = store.start_flush(false, family);
    }
    drained_one_ = true;
    stream.trim_due = number("rocksdb.cur-size-active-mem-table") > kDrainedBytes ||
                      number("rocksdb.num-immutable-mem-table") > 0 ||
                      number("rocksdb.live-sst-files-size") > kDrainedBytes;
    trims_due_ |= stream.trim_due;
  }
  if (status.ok()) {
    // When nothing is needed, nothing has to be read for it.
    const std::optional<Offset> needed = watermark >= stream.durable.end
                                             ? watermark + 1
                                             : first_key_needed(store.db(), family, watermark + 1);
    if (!needed) return;  // damaged there, or the device failed: a later watermark may tell
    const Key limit = key_of(*needed);
    const rocksdb::Slice limit_slice(limit.data(), limit.size());
    const rocksdb::RangePtr range(nullptr, &limit_slice);
    status = rocksdb::DeleteFilesInRanges(&store.db(), family, &range, 1, false);
  }
  if (!status.ok()) fail(status);
}

// When nothing is needed any more and nothing comes: the little that a drained stream keeps in
// memory holds the WAL file that it is in, and all that came after. So does that of a stream with a
// backlog, and what others have drained is to be given back all the same: but not for each little
// of it, or a long backlog would come to lie in thousands of tables.
void Writer::flush_idle() {
  Offset ends = 0;
  bool drained = true;
  for (const auto& [name, stream] : shared_.streams) {
    ends += stream->durable.end;
    drained &= stream->durable.watermark >= stream->durable.end;
  }
  const bool rests = std::exchange(ends_at_tick_, ends) == ends;
  const DiskState& disk = bound_.state();
  const bool idle = drained && rests && disk.use.wal > 2 * kDrainedBytes;
  const bool held =
      std::exchange(drained_one_, false) && disk.use.wal > disk.unflushed + kHeldWalBytes;
  if (!idle && !held) return;
  if (const rocksdb::Status status = shared_.store->start_flush(true); !status.ok()) fail(status);
  for (const auto& [name, stream] : shared_.streams) stream->trim_due = trims_due_ = true;
}

// Before anything is refused: what is in memory is on the disk twice as long as its WAL file
// exists.
void Writer::squeeze() {
  squeezed_at_ = steady_clock::now();
  rocksdb::FlushOptions options;
  options.allow_write_stall = true;
  Store& store = *shared_.store;
  for (const std::string& name : store.streams()) {
    // An error shows in the next write.
    store.db().Flush(options, store.stream(name)).PermitUncheckedError();
  }
  store.db().Flush(options, store.meta()).PermitUncheckedError();
  store.db().Flush(options, store.dead_letters()).PermitUncheckedError();
  // The WAL files are deleted in the background, a moment later.
  for (int i = 0; i < 20; ++i) {
    bound_.look();
    if (bound_.state().use.wal < kMiB) break;
    std::this_thread::sleep_for(milliseconds(5));
  }
}

void Writer::write_marks() {
  for (const auto& [name, stream] : shared_.streams) {
    const std::string contents = encode_mark(stream->high_water);
    if (stream->mark.contents().contents == contents) continue;
    if (stream->high_water == 0 && !stream->mark.contents().contents) continue;
    stream->mark.write(contents);  // a failure leaves an older mark, and the next tick tries again
  }
}

void Writer::watch_disk() {
  bound_.look();
  for (const auto& [name, stream] : shared_.streams) stream->staged = stream->durable;
  const std::uint64_t reserve = reserved(nullptr);
  // State goes on being written, and what stands still in memory would hold the WAL with all of it.
  const bool full = bound_.check(0, reserve) != Outcome::ok;
  if (full && bound_.state().use.wal > kWalAtBoundBytes) squeeze();
  const Sizing& sizing = shared_.context.sizing;
  // Once refused, there must be room for what was, and more than a little, before the answer
  // changes back: a halt that ends and comes again with the next record helps nobody.
  const std::uint64_t margin =
      answer_ == Outcome::ok ? 0 : sizing.reserve + shared_.context.options.max_disk_bytes / 64;
  announce(bound_.check(answer_ == Outcome::ok ? 0 : refused_bytes_, reserve + margin));
  if (!have_ballast_ && bound_.check(0, reserve + margin + 2 * sizing.ballast) == Outcome::ok) {
    have_ballast_ = make_ballast(shared_.context.layout, sizing.ballast);
    bound_.look();
  }
}

void Writer::announce(Outcome answer) {
  if (answer == answer_) return;
  answer_ = answer;
  if (events_.disk) events_.disk(answer);
}

std::optional<DiskState> Writer::look_at_disk() {
  DiskState state;
  if (shared_.store) {
    state.unflushed = shared_.store->sum("rocksdb.cur-size-all-mem-tables");
    for (rocksdb::ColumnFamilyHandle* family :
         {shared_.store->meta(), shared_.store->dead_letters()}) {
      state.rewritable +=
          Store::number(shared_.store->db(), family, "rocksdb.total-sst-files-size");
    }
  }
  const std::optional<DiskUse> use = measure_disk_use(shared_.context.layout);
  if (!use) return std::nullopt;
  state.use = *use;
  state.free = free_space();
  const std::lock_guard lock(shared_.counters_mutex);
  shared_.counters.disk_bytes = state.use.total;
  shared_.counters.wal_bytes = state.use.wal;
  shared_.counters.sst_bytes = state.use.sst;
  shared_.counters.kept_bytes = state.use.kept;
  shared_.counters.free_bytes = state.free;
  return state;
}

std::uint64_t Writer::free_space() const {
  std::uint64_t bytes = 0;
  const rocksdb::IOStatus status = shared_.context.env->GetFileSystem()->GetFreeSpace(
      shared_.context.layout.root.string(), rocksdb::IOOptions(), &bytes, nullptr);
  return status.ok() ? bytes : 0;
}

}  // namespace spillway::journal
