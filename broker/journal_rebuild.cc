#include "broker/journal_rebuild.h"

#include <algorithm>
#include <chrono>
#include <future>
#include <utility>

#include "broker/state_codec.h"
#include "journal/inspect.h"
#include "journal/journal.h"
#include "recovery/startup.h"

namespace spillway::broker::offline {

namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kCommitBytes = std::uint64_t{4} << 20;

std::int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// What the ledger will say of the ranges that are lost: per sink that still waited for them, or of
// all sinks when none is known.
std::vector<journal::LedgerEntry> entries_for(const StreamOutlook& stream) {
  std::vector<journal::LedgerEntry> entries;
  const auto add = [&](const std::string& sink, Offset first, Offset last) {
    const LostRange range = range_of(stream, first, last);
    journal::LedgerEntry entry;
    entry.sink = sink;
    entry.first = range.first_position;
    entry.last = range.last_position;
    entry.count = last - first + 1;
    entry.reason = last == stream.end ? LossReason::journal_loss : LossReason::corrupt;
    entry.time_ms = now_ms();
    entry.upper_bound = stream.upper_bound;
    entry.text = "found by journal repair";
    if (entry.first.epoch == 0) entry.text += "; the epoch is not known, these are offsets";
    entries.push_back(std::move(entry));
  };
  for (const LostRange& range : stream.lost) {
    if (!stream.state) {
      add("", range.first, range.last);
      continue;
    }
    for (const recovery::SinkState& sink : stream.state->sinks) {
      const Offset first = std::max(range.first, recovery::passed(sink) + 1);
      if (!sink.dropping && first <= range.last) add(sink.name, first, range.last);
    }
  }
  return entries;
}

// Whether the diagnosis found exactly this range lost: the plan and the ledger say so then.
bool is_lost(const StreamOutlook& stream, Offset first, Offset last) {
  return std::ranges::any_of(stream.lost, [&](const LostRange& range) {
    return range.first == first && range.last == last;
  });
}

// An error that passes, of the disk or of a file: what is intact must not go for it unseen.
Error read_differently(const StreamOutlook& stream) {
  return Error{"stream " + stream.stream +
               " was read differently the second time, and nothing was changed: a read failed that "
               "had not before, or the other way round; look at the disk, and try again"};
}

// Earlier versions began the running count anew where they went on behind damage: in the new store
// it rises.
BlockPtr counted_on(const BlockPtr& block, std::uint64_t running) {
  if (block->running_bytes >= running + block->bytes()) return block;
  auto next = std::make_shared<Block>(*block);
  next->running_bytes = running + block->bytes();
  return next;
}

// Fills a new store with what is intact.
class Rebuild {
 public:
  Rebuild(journal::Salvage& salvage, const std::vector<StreamOutlook>& streams)
      : salvage_(salvage), streams_(streams) {}

  std::optional<Error> into(const fs::path& data_dir) {
    journal::Options options;
    options.data_dir = data_dir;
    options.max_disk_bytes = std::max(16 * salvage_.bytes(), std::uint64_t{4} << 30);
    options.min_free_disk = 0;
    for (const StreamOutlook& stream : streams_) options.streams.push_back(stream.stream);
    auto opened = journal::Journal::open(options, {});
    if (!opened) return opened.error();
    journal_ = std::move(*opened);
    for (const StreamOutlook& stream : streams_) {
      if (auto error = add_stream(stream)) return error;
    }
    journal_.reset();
    return verify(data_dir);
  }

 private:
  struct Pending {
    journal::Commit commit;
    std::uint64_t bytes = 0;
  };
  std::optional<Error> add_stream(const StreamOutlook& stream);
  std::optional<Error> add_blocks(const StreamOutlook& stream, Pending& pending);
  std::optional<Error> write(Pending& pending);
  static void add_range(const StreamOutlook& stream, Offset first, Offset last,
                        std::uint64_t running_bytes, std::vector<BlockPtr>& append);
  std::optional<Error> verify(const fs::path& data_dir) const;

  journal::Salvage& salvage_;
  const std::vector<StreamOutlook>& streams_;
  std::unique_ptr<journal::Journal> journal_;
};

void Rebuild::add_range(const StreamOutlook& stream, Offset first, Offset last,
                        std::uint64_t running_bytes, std::vector<BlockPtr>& append) {
  for (const Piece& piece : pieces_of(stream, first, last)) {
    auto block = std::make_shared<Block>();
    block->first = piece.first;
    block->position = piece.position;
    block->count = piece.count;
    block->skip = last == stream.end ? LossReason::journal_loss : LossReason::corrupt;
    block->received_ms = now_ms();
    block->running_bytes = running_bytes;
    append.push_back(std::move(block));
  }
}

std::optional<Error> Rebuild::add_stream(const StreamOutlook& stream) {
  const auto& all = salvage_.streams();
  const auto from = std::ranges::find(all, stream.stream, &journal::SalvagedStream::name);
  if (!stream.in_store && stream.lost.empty()) return std::nullopt;
  Pending pending;
  pending.commit.stream = stream.stream;
  // Without a state the stream begins anew, at its first offset.
  if (stream.state) {
    pending.commit.watermark = stream.low;
    if (auto error = add_blocks(stream, pending)) return error;
  }
  pending.commit.ledger = from->ledger;
  std::uint64_t id = stream.state ? stream.state->next_ledger_id : 1;
  for (const journal::LedgerEntry& entry : from->ledger) id = std::max(id, entry.id + 1);
  for (journal::LedgerEntry& entry : entries_for(stream)) {
    entry.id = id++;
    pending.commit.ledger.push_back(std::move(entry));
  }
  if (stream.state) {
    recovery::DurableState state = *stream.state;
    state.next_ledger_id = id;
    ++state.revision;
    pending.commit.state = encode_state(state);
  }
  pending.commit.dead_letters = from->dead_letters;
  return write(pending);
}

std::optional<Error> Rebuild::add_blocks(const StreamOutlook& stream, Pending& pending) {
  std::optional<Error> error;
  std::uint64_t running = 0;
  std::uint64_t saved = 0;
  Offset end = stream.low;
  const auto put = [&](const BlockPtr& block) {
    end = block->last();
    running = block->running_bytes;
    if (!block->skip) saved += block->count;
    pending.bytes += block->bytes() + 64;
    pending.commit.append.push_back(block);
    if (pending.bytes >= kCommitBytes) error = write(pending);
    return !error;
  };
  const auto pass_over = [&](Offset last, std::uint64_t running_bytes) {
    if (!is_lost(stream, end + 1, last)) {
      error = read_differently(stream);
      return false;
    }
    add_range(stream, end + 1, last, running_bytes, pending.commit.append);
    return true;
  };
  salvage_.for_each_block(stream.stream, [&](const BlockPtr& block) {
    if (block->last() <= stream.low) return true;
    const BlockPtr next = counted_on(block, running);
    const std::uint64_t before = next->running_bytes - next->bytes();
    if (next->first > end + 1 && !pass_over(next->first - 1, before)) return false;
    return put(next);
  });
  if (!error && stream.end > end) pass_over(stream.end, running);
  if (!error && saved != stream.saved) error = read_differently(stream);
  return error;
}

std::optional<Error> Rebuild::write(Pending& pending) {
  journal::Commit next;
  next.stream = pending.commit.stream;
  pending.bytes = 0;
  std::promise<journal::Outcome> promise;
  auto outcome = promise.get_future();
  journal_->commit(std::exchange(pending.commit, std::move(next)),
                   [&promise](journal::Outcome result) { promise.set_value(result); });
  if (outcome.get() == journal::Outcome::ok) return std::nullopt;
  return Error{"the new store cannot be written, and nothing was changed: " +
               journal_->stats().last_error};
}

// Nothing takes the place of the old store that is not found good.
std::optional<Error> Rebuild::verify(const fs::path& data_dir) const {
  auto inspector = journal::Inspector::open(data_dir);
  if (!inspector) return inspector.error();
  const auto findings = (*inspector)->check();
  if (findings.empty()) return std::nullopt;
  return Error{"the new store does not add up, and nothing was changed: stream " +
               findings.front().stream + ", " + findings.front().text +
               "; please report this with the output of journal check"};
}

}  // namespace

std::optional<Error> rebuild(journal::Salvage& salvage, const std::vector<StreamOutlook>& streams,
                             const fs::path& data_dir) {
  return Rebuild(salvage, streams).into(data_dir);
}

}  // namespace spillway::broker::offline
