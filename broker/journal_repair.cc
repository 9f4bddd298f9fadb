#include <algorithm>
#include <utility>

#include "broker/config/units.h"
#include "broker/foreign.h"
#include "broker/journal_check.h"
#include "broker/journal_rebuild.h"
#include "journal/inspect.h"
#include "journal/replace.h"
#include "recovery/startup.h"

namespace spillway::broker::offline {

namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

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
    if (auto error = rebuild(**salvage, found.streams, replacement->staging())) return *error;
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
