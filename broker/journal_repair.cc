#include <algorithm>
#include <chrono>
#include <future>
#include <utility>

#include "broker/config/units.h"
#include "broker/foreign.h"
#include "broker/journal_check.h"
#include "broker/state_codec.h"
#include "journal/inspect.h"
#include "journal/journal.h"
#include "journal/replace.h"
#include "recovery/startup.h"

namespace spillway::broker::offline {

namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kCommitBytes = std::uint64_t{4} << 20;
constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

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

// Fills a new store with what is intact.
class Rebuild {
 public:
  Rebuild(journal::Salvage& salvage, const std::vector<StreamOutlook>& streams)
      : salvage_(salvage), streams_(streams) {}

  std::optional<Error> into(const fs::path& data_dir) {
    journal::Options options;
    options.data_dir = data_dir;
    options.max_disk_bytes = std::max(16 * salvage_.bytes(), std::uint64_t{4096} * kMiB);
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
  Offset end = stream.low;
  const auto put = [&](const BlockPtr& block) {
    end = block->last();
    running = block->running_bytes;
    pending.bytes += block->bytes() + 64;
    pending.commit.append.push_back(block);
    if (pending.bytes >= kCommitBytes) error = write(pending);
    return !error;
  };
  salvage_.for_each_block(stream.stream, [&](const BlockPtr& block) {
    if (block->last() <= stream.low) return true;
    if (block->first > end + 1) {
      const std::uint64_t before = block->running_bytes - block->bytes();
      add_range(stream, end + 1, block->first - 1, before, pending.commit.append);
    }
    return put(block);
  });
  if (!error && stream.end > end) {
    add_range(stream, end + 1, stream.end, running, pending.commit.append);
  }
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

// That a stream goes, and what with it.
std::string forget_text(const StreamOutlook& stream, std::size_t dead_letters) {
  std::string text = "stream " + stream.stream + ": forget it";
  const std::uint64_t waiting = records_waiting(stream.state, stream.low, stream.end);
  if (waiting > 0) {
    const Offset first = stream.end - waiting + 1;
    text += ", and let " + range_text(range_of(stream, first, stream.end)) + " go";
    if (stream.state) {
      std::string sinks;
      for (const recovery::SinkState& sink : stream.state->sinks) {
        if (recovery::drained(*stream.state, sink, stream.end)) continue;
        sinks += (sinks.empty() ? "" : ", ") + sink.name + " for " +
                 std::to_string(stream.end - recovery::passed(sink));
      }
      text += ", which sinks wait for (" + sinks + ")";
    }
  }
  if (dead_letters > 0) {
    text += (waiting > 0 ? "; also " : ", and let ") + std::to_string(dead_letters) +
            (dead_letters == 1 ? " dead letter" : " dead letters") + " go";
  }
  return text +
         ". Before, or with --data-dir and what is kept, `spillway journal export` writes "
         "its records to a file";
}

// What is to be done, as sentences.
std::vector<std::string> plan(const Diagnosis& found, const journal::Salvage& salvage,
                              std::uint64_t bytes) {
  std::vector<std::string> steps;
  if (found.new_store) {
    steps.push_back("build a new store from all that is intact, which takes up to " +
                    config::format_bytes(bytes) +
                    " of disk, and put it in the place of the old one");
  }
  for (const StreamOutlook& stream : found.streams) {
    const std::string name = "stream " + stream.stream + ": ";
    if (found.new_store && stream.saved > 0) {
      steps.push_back(name + "save " + std::to_string(stream.saved) + " records");
    }
    for (const LostRange& range : stream.lost) {
      steps.push_back(name + "let " + range_text(range) +
                      " go: they are lost, sinks pass over them, and the ledger says so");
    }
    if (stream.state_lost) {
      steps.push_back(name + (stream.state ? "make its state anew: every sink of the configuration "
                                             "is sent all that is saved"
                                           : "let it begin anew"));
    }
    if (stream.mark_needed) steps.push_back(name + "write its mark anew");
    if (stream.latch) steps.push_back(name + "write its latch without journal_damaged");
  }
  for (const StreamOutlook& stream : found.forgotten) {
    const auto stored =
        std::ranges::find(salvage.streams(), stream.stream, &journal::SalvagedStream::name);
    steps.push_back(forget_text(stream, stored->dead_letters.size()));
  }
  return steps;
}

// Of disk for the new store, at the most.
std::uint64_t bytes_for(const Diagnosis& found, const journal::Salvage& salvage) {
  if (found.forgotten.empty()) return salvage.bytes();
  std::uint64_t bytes = kMiB;  // an empty one
  for (const StreamOutlook& stream : found.streams) bytes += stream.stored_bytes;
  return std::min(bytes + bytes / 64, salvage.bytes());
}

// Nothing goes that somebody may still be using under this name.
std::optional<Error> check_forget(const journal::Salvage& salvage, const config::Config* config,
                                  const std::vector<std::string>& forget) {
  for (const std::string& stream : forget) {
    if (config == nullptr) {
      return Error{"which streams are still in use is said by --config, and nobody has; stream " +
                   stream + " is not forgotten"};
    }
    if (std::ranges::find(config->streams, stream, &config::Stream::name) !=
        config->streams.end()) {
      return Error{"stream " + stream +
                   " is in the configuration: only one that was taken out of it is forgotten"};
    }
    const auto& all = salvage.streams();
    if (std::ranges::find(all, stream, &journal::SalvagedStream::name) == all.end()) {
      return Error{"the journal has no stream " + stream};
    }
  }
  return std::nullopt;
}

std::optional<Error> check_space(const fs::path& data_dir, std::uint64_t bytes) {
  std::error_code error;
  const fs::space_info space = fs::space(data_dir, error);
  const std::uint64_t needed = bytes + 64 * kMiB;
  if (error || space.available >= needed) return std::nullopt;
  return Error{"the new store may take " + config::format_bytes(needed) +
               ", and the file system has " + config::format_bytes(space.available) +
               " left: make room, or copy data_dir to where there is"};
}

std::optional<Error> put_in_place(const Diagnosis& found, journal::Replacement& replacement) {
  if (found.new_store) {
    if (auto error = replacement.put_store()) return error;
  }
  for (const StreamOutlook& stream : found.streams) {
    if (found.new_store || stream.mark_needed) {
      const Offset end = stream.state ? stream.end : 0;
      if (auto error = replacement.put_mark(stream.stream, end)) return error;
    }
    if (!stream.latch) continue;
    if (auto error = replacement.put_latch(stream.stream, *stream.latch)) return error;
  }
  for (const StreamOutlook& stream : found.forgotten) {
    if (auto error = replacement.take_slots(stream.stream)) return error;
  }
  return std::nullopt;
}

}  // namespace

Result<RepairReport> repair_journal(const fs::path& data_dir, const config::Config* config,
                                    bool apply, const std::vector<std::string>& forget) {
  RepairReport report;
  std::unique_ptr<journal::Replacement> replacement;
  if (apply) {
    // Nobody may write between the look and the change.
    auto begun = journal::Replacement::begin(data_dir);
    if (!begun) return begun.error();
    replacement = std::move(*begun);
  } else if (journal::data_dir_in_use(data_dir)) {
    return Error{data_dir.string() + " is in use by a broker; stop it first"};
  }
  auto salvage = journal::Salvage::open(data_dir);
  if (!salvage) return salvage.error();
  const Diagnosis found = diagnose(**salvage, config, forget);
  report.found = found.report;
  if (!found.report.beyond_repair.empty()) return Error{found.report.beyond_repair};
  if (auto error = check_forget(**salvage, config, forget)) return *error;
  const std::uint64_t bytes = bytes_for(found, **salvage);
  report.steps = plan(found, **salvage, bytes);
  if (!apply || report.steps.empty()) return report;
  if (found.new_store) {
    if (auto error = check_space(data_dir, bytes)) return *error;
    if (auto error = Rebuild(**salvage, found.streams).into(replacement->staging())) return *error;
  }
  salvage->reset();
  if (auto error = put_in_place(found, *replacement)) return *error;
  auto kept = replacement->finish();
  if (!kept) return kept.error();
  report.applied = true;
  report.kept = kept->string();
  return report;
}

}  // namespace spillway::broker::offline
