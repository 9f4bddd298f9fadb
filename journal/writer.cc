#include "journal/writer.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/invariant.h"
#include "journal/block_reader.h"
#include "journal/entries.h"
#include "journal/format.h"
#include "journal/ledger.h"
#include "journal/recover.h"

namespace spillway::journal {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
// Larger groups gain nothing, and make everybody in them wait for one another.
constexpr std::uint64_t kGroupBytes = 4 * kMiB;
// How often memtables are written out to make room.
constexpr milliseconds kSqueezeInterval{1000};
// State that is written at the bound before the disk is looked at.
constexpr std::uint64_t kUnseenBytes = 2 * kMiB;
// Free space that a reopening needs beside what it has to write out.
constexpr std::uint64_t kReopenBytes = 4 * kMiB;

rocksdb::Slice slice(std::string_view text) { return {text.data(), text.size()}; }

std::uint64_t append_bytes(const Commit& commit) {
  std::uint64_t bytes = 0;
  for (const BlockPtr& block : commit.append) bytes += block->bytes() + 2 * kHeaderBytes;
  for (const DeadLetter& letter : commit.dead_letters) {
    bytes += letter.record->bytes() + letter.reason.size() + 256;
  }
  return bytes;
}

std::uint64_t other_bytes(const Commit& commit) {
  std::uint64_t bytes = commit.state ? commit.state->size() + 64 : 0;
  for (const LedgerEntry& entry : commit.ledger) bytes += entry.text.size() + 256;
  bytes += commit.purged.size() * 128;
  return bytes;
}

}  // namespace

Writer::Writer(Shared& shared, Journal::Events events)
    : shared_(shared),
      events_(std::move(events)),
      bound_(
          {shared.context.options.max_disk_bytes, shared.context.options.min_free_disk,
           shared.context.sizing.headroom},
          [this] { return look_at_disk(); }, [] { return steady_clock::now(); }),
      backoff_(shared.context.options.reopen_initial) {}

Result<std::vector<Recovered>> Writer::recover() {
  std::vector<Recovered> all;
  for (const auto& [name, stream] : shared_.streams) {
    rocksdb::Status device;
    Recovered recovered = shared_.store
                              ? recover_stream(*shared_.store, name, stream->high_water, device)
                              : unreadable_stream(name, stream->high_water, shared_.damage);
    if (shared_.damaged && shared_.store) {
      recovered.damage = shared_.damage + (recovered.damage ? "; " + *recovered.damage : "");
    }
    recovered.generation = generation_;
    recovered.writable = !shared_.damaged;
    recovered.latch = stream->latch.contents().contents;
    if (stream->latch.contents().damaged || stream->latch_missing) {
      const std::string text = stream->latch_missing ? "its latch file was missing"
                                                     : "neither slot of its latch file is intact";
      add_damage(recovered, text);
    }
    if (shared_.store) {
      rocksdb::Status counted;
      rocksdb::Status numbered;
      const std::uint64_t ledger_count = count_ledger(*shared_.store, name, counted);
      const std::uint64_t last_letter = shared_.store->last_number(
          shared_.store->dead_letters(), dead_letter_prefix(name), numbered);
      for (const rocksdb::Status& status : {counted, numbered}) {
        if (read_failed(shared_.store->db(), status)) device = status;
      }
      if (!device.ok() && !shared_.damaged) {
        return Error{"stream " + name + " cannot be read: " + device.ToString()};
      }
      if (!counted.ok()) {
        add_damage(recovered, "its ledger cannot be counted: " + counted.ToString());
      }
      if (!numbered.ok()) {
        add_damage(recovered, "its dead letters cannot be read: " + numbered.ToString());
      }
      // Known from before a reopening, whatever can be read now: no number is given out twice.
      const std::uint64_t next_letter = std::max(stream->durable.next_dead_letter, last_letter + 1);
      // What was begun before a crash or a reopening is still to be ended from the reserve.
      const bool group_open = recovered.end > recovered.watermark && !recovered.end_clean;
      stream->durable = {recovered.end, recovered.watermark, group_open, recovered.next_ledger_id,
                         ledger_count,  next_letter};
      stream->end = recovered.end;
      stream->watermark = recovered.watermark;
      stream->high_water = std::max(stream->high_water, recovered.end);
      stream->refused = Outcome::ok;
    }
    all.push_back(std::move(recovered));
  }
  bound_.look();
  have_ballast_ = std::filesystem::exists(shared_.context.layout.ballast());
  tick_at_ = steady_clock::now();
  return all;
}

void Writer::commit(std::vector<CommitRequest> requests) {
  std::size_t next = 0;
  while (next < requests.size()) {
    std::vector<Staging> group;
    std::uint64_t bytes = 0;
    batch_.Clear();
    for (const auto& [name, stream] : shared_.streams) stream->staged = stream->durable;
    while (next < requests.size() && bytes < kGroupBytes && stage_failure_.ok()) {
      CommitRequest& request = requests[next++];
      waiting_ = std::span(requests).subspan(next);
      Stream* stream = shared_.find(request.commit.stream);
      INVARIANT(stream != nullptr);
      const Outcome outcome = stage(request.commit, *stream);
      if (outcome == Outcome::ok) {
        bytes += append_bytes(request.commit) + other_bytes(request.commit);
      }
      group.push_back({&request, stream, outcome});
    }
    const bool written = write_group(group);
    for (const Staging& staging : group) {
      Outcome outcome = staging.outcome;
      if (outcome == Outcome::ok && !written) outcome = Outcome::failed;
      if (staging.request->done) staging.request->done(outcome);
    }
    if (written) after_write();
  }
}

Outcome Writer::stage(const Commit& commit, Stream& stream) {
  if (down() || commit.generation != generation_) return Outcome::failed;
  const Offset watermark = std::max(stream.staged.watermark, commit.watermark.value_or(0));
  Offset end = std::max(stream.staged.end, watermark);
  if (!commit.append.empty()) {
    const Offset first = commit.append.front()->first;
    if (first != end + 1 && stream.refused != Outcome::ok) return stream.refused;
    INVARIANT(first == end + 1);
    for (const BlockPtr& block : commit.append) {
      INVARIANT(block->first == end + 1 && block->count > 0);
      end = block->last();
    }
  }
  if (const std::uint64_t bytes = append_bytes(commit); bytes > 0) {
    const Outcome outcome = admit(commit, stream, bytes);
    if (outcome != Outcome::ok) {
      if (!commit.append.empty()) stream.refused = outcome;
      return outcome;
    }
    bound_.stages(bytes);
  }
  bound_.stages(other_bytes(commit));
  if (!commit.append.empty()) {
    if (!ensure_family(stream)) return Outcome::failed;
    stream.staged.group_open = !commit.append.back()->ends_clean;
    stream.refused = Outcome::ok;
    add_blocks(commit, shared_.store->stream(stream.name));
  }
  add_meta(commit, stream);
  stream.staged.end = end;
  stream.staged.watermark = watermark;
  return Outcome::ok;
}

Outcome Writer::admit(const Commit& commit, Stream& stream, std::uint64_t bytes) {
  // Dead letters may use the reserve: refusing them holds a sink back that could free space.
  const bool own_reserve = commit.use_group_reserve || commit.append.empty();
  const bool opens = !commit.append.empty() && !commit.append.back()->ends_clean;
  const std::uint64_t reserve = own_reserve ? 0 : reserved(opens ? &stream : nullptr);
  Outcome outcome = bound_.check(bytes, reserve);
  if (outcome != Outcome::ok && steady_clock::now() - squeezed_at_ >= kSqueezeInterval) {
    squeeze();
    outcome = bound_.check(bytes, reserve);
  }
  if (outcome == Outcome::ok) return outcome;
  announce(outcome);
  refused_bytes_ = bytes;
  if (!commit.use_group_reserve) return outcome;
  const std::lock_guard lock(shared_.counters_mutex);
  ++shared_.counters.bound_breaches;
  return Outcome::ok;
}

std::uint64_t Writer::reserved(const Stream* also) const {
  std::uint64_t groups = 0;
  for (const auto& [name, stream] : shared_.streams) {
    groups += stream->staged.group_open || stream.get() == also ? 1 : 0;
  }
  return groups * shared_.context.sizing.reserve;
}

bool Writer::ensure_family(Stream& stream) {
  if (shared_.store->stream(stream.name) != nullptr) return true;
  // Where one sink of many streams is gone, they come together, and are made together.
  std::set<std::string> missing{stream.name};
  for (const CommitRequest& request : waiting_) {
    if (request.commit.append.empty()) continue;
    if (shared_.store->stream(request.commit.stream) == nullptr) {
      missing.insert(request.commit.stream);
    }
  }
  const std::unique_lock lock(shared_.store_mutex);
  stage_failure_ = shared_.store->create_streams({missing.begin(), missing.end()});
  return stage_failure_.ok();
}

void Writer::add_blocks(const Commit& commit, rocksdb::ColumnFamilyHandle* family) {
  const std::span<const BlockPtr> blocks(commit.append);
  for (std::size_t begin = 0; begin < blocks.size();) {
    std::size_t count = 1;
    std::uint64_t bytes = blocks[begin]->bytes();
    while (begin + count < blocks.size() &&
           joins(*blocks[begin], *blocks[begin + count - 1], bytes, *blocks[begin + count])) {
      bytes += blocks[begin + count]->bytes();
      ++count;
    }
    const auto joined = blocks.subspan(begin, count);
    const Key key = key_of(joined.front()->first);
    const Header header = header_of(joined);
    parts_.assign({rocksdb::Slice(header.data(), header.size())});
    for (const BlockPtr& block : joined) {
      parts_.emplace_back(reinterpret_cast<const char*>(block->records.data()), block->bytes());
    }
    const rocksdb::Slice key_part(key.data(), key.size());
    batch_.Put(family, rocksdb::SliceParts(&key_part, 1),
               rocksdb::SliceParts(parts_.data(), static_cast<int>(parts_.size())));
    begin += count;
  }
}

void Writer::add_meta(const Commit& commit, Stream& stream) {
  rocksdb::ColumnFamilyHandle* meta = shared_.store->meta();
  if (commit.state) batch_.Put(meta, state_key(stream.name), *commit.state);
  if (commit.watermark && *commit.watermark > stream.staged.watermark) {
    batch_.Put(meta, watermark_key(stream.name), slice(view(key_of(*commit.watermark))));
  }
  for (const LedgerEntry& entry : commit.ledger) {
    batch_.Put(meta, ledger_prefix(stream.name) + std::string(view(key_of(entry.id))),
               encode(entry));
    if (entry.id >= stream.staged.next_ledger_id) {
      stream.staged.next_ledger_id = entry.id + 1;
      ++stream.staged.ledger_count;
    }
  }
  for (const std::uint64_t number : commit.purged) {
    batch_.Delete(shared_.store->dead_letters(),
                  dead_letter_prefix(stream.name) + std::string(view(key_of(number))));
    purged_ = true;
  }
  for (const DeadLetter& letter : commit.dead_letters) {
    const Key key = key_of(stream.staged.next_dead_letter++);
    batch_.Put(shared_.store->dead_letters(),
               dead_letter_prefix(stream.name) + std::string(view(key)), encode(letter));
  }
}

bool Writer::write_group(std::vector<Staging>& group) {
  bound_.wrote();  // or a part of it, where it fails
  if (down()) return false;
  rocksdb::Status status = std::exchange(stage_failure_, rocksdb::Status::OK());
  const auto start = steady_clock::now();
  if (status.ok() && batch_.Count() > 0) {
    rocksdb::WriteOptions options;
    options.sync = true;
    status = shared_.store->db().Write(options, &batch_);
  }
  if (!status.ok()) {
    // They may be stored.
    for (const Staging& staging : group) {
      staging.stream->durable.next_dead_letter = staging.stream->staged.next_dead_letter;
    }
    fail(status);
    return false;
  }
  std::uint64_t records = 0;
  {
    const std::lock_guard lock(shared_.counters_mutex);
    Stats& counters = shared_.counters;
    counters.commits += batch_.Count() > 0 ? 1 : 0;
    for (const Staging& staging : group) {
      if (staging.outcome != Outcome::ok) continue;
      for (const BlockPtr& block : staging.request->commit.append) {
        ++counters.appends;
        counters.append_bytes += block->bytes();
        records += block->count;
      }
    }
  }
  for (const Staging& staging : group) {
    if (staging.outcome != Outcome::ok) continue;
    Stream& stream = *staging.stream;
    stream.durable = stream.staged;
    stream.end = stream.durable.end;
    stream.watermark = stream.durable.watermark;
    // Until something is appended, a loss that was reported at open stays on record.
    if (!staging.request->commit.append.empty()) stream.high_water = stream.durable.end;
  }
  backoff_ = shared_.context.options.reopen_initial;
  if (batch_.Count() > 0 && events_.committed) {
    events_.committed(std::chrono::duration<double>(steady_clock::now() - start).count(), records);
  }
  return true;
}

void Writer::after_write() {
  for (const auto& [name, stream] : shared_.streams) limit_ledger(*stream);
  flush_state();
  bound_state();
}

void Writer::flush_state() {
  if (!shared_.context.signals->sealed.exchange(false) || down()) return;
  // State goes to disk with every stream's memtable, or it would hold the WAL files back; and what
  // a sealed memtable held is what a damaged WAL could lose unseen.
  write_marks();
  if (const rocksdb::Status status = shared_.store->start_flush(false); !status.ok()) fail(status);
}

// State is never refused: at the bound it must not wait for the next tick.
void Writer::bound_state() {
  if (!down() && bound_.written() >= kUnseenBytes && bound_.left(0) == 0) watch_disk();
}

void Writer::limit_ledger(Stream& stream) {
  if (down() || stream.durable.ledger_count <= kMaxLedgerEntries) return;
  batch_.Clear();
  stream.durable.ledger_count =
      merge_ledger(*shared_.store, stream.name, stream.durable.ledger_count, batch_);
  // Synced, as each record of the WAL before the next: otherwise a crash leaves what only damage
  // can leave, bytes that are not intact before others that are.
  rocksdb::WriteOptions options;
  options.sync = true;
  const rocksdb::Status status = shared_.store->db().Write(options, &batch_);
  if (!status.ok()) fail(status);
}

// --- failure ---

void Writer::fail(const rocksdb::Status& status) {
  if (failing_) return;
  failing_ = true;
  no_space_ = status.IsNoSpace();
  if (no_space_) have_ballast_ = drop_ballast(shared_.context.layout);
  reopen_at_ = steady_clock::now() + backoff_;
  {
    const std::lock_guard lock(shared_.counters_mutex);
    ++shared_.counters.commit_errors;
    shared_.counters.failing = true;
    shared_.counters.last_error = status.ToString();
  }
  if (events_.down) events_.down(status.ToString());
}

void Writer::reopen(Time now) {
  backoff_ = std::min(2 * backoff_, shared_.context.options.reopen_max);
  reopen_at_ = now + backoff_;
  // On a full disk the old store can still be read, a new one could not be opened.
  if (no_space_ && shared_.store &&
      free_space() < kReopenBytes + shared_.store->sum("rocksdb.cur-size-all-mem-tables")) {
    return;
  }
  Store::Failure failure;
  {
    const std::unique_lock lock(shared_.store_mutex);
    shared_.store.reset();
    if (const rocksdb::Status why = shared_.context.signals->failure(); why.IsCorruption()) {
      found_damage_ =
          "damage stopped the store: " + why.ToString() + "; see `spillway journal check`";
    }
    shared_.context.signals->lower();
    shared_.store = Store::open(shared_.context, Store::Mode::write, failure);
  }
  Result<std::vector<Recovered>> recovered = Error{};
  if (shared_.store) {
    ++generation_;
    recovered = recover();
    if (!recovered) {
      --generation_;  // nobody has heard of it
      failure.text = recovered.error().message;
      const std::unique_lock lock(shared_.store_mutex);
      shared_.store.reset();
    }
  }
  if (!shared_.store) {
    no_space_ = failure.status.IsNoSpace();
    if (no_space_) have_ballast_ = drop_ballast(shared_.context.layout);
    const std::lock_guard lock(shared_.counters_mutex);
    shared_.counters.last_error = failure.text;
    return;
  }
  failing_ = false;
  no_space_ = false;
  // What RocksDB met when it compacted tables an opening does not meet, and the next compaction
  // does.
  if (const std::string damage = std::exchange(found_damage_, ""); !damage.empty()) {
    for (Recovered& one : *recovered) add_damage(one, damage);
  }
  {
    const std::lock_guard lock(shared_.counters_mutex);
    ++shared_.counters.reopens;
    shared_.counters.failing = false;
  }
  if (events_.reopened) events_.reopened(std::move(*recovered));
}

}  // namespace spillway::journal
