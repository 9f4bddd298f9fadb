#include "broker/journal_check.h"

#include <algorithm>
#include <utility>

#include "broker/foreign.h"
#include "broker/state_codec.h"
#include "broker/stream.h"
#include "journal/inspect.h"
#include "recovery/epochs.h"
#include "recovery/startup.h"

namespace spillway::broker::offline {

namespace {

using recovery::DurableState;
using recovery::SinkState;

// Of a block, beside its records.
constexpr std::uint64_t kBlockOverhead = 64;

std::string count_text(std::uint64_t records) {
  return std::to_string(records) + (records == 1 ? " record" : " records");
}

// Looks at one stream.
class Check {
 public:
  Check(const journal::SalvagedStream& stream, const config::Config* config, JournalReport& report)
      : stream_(stream), config_(config), report_(report) {
    out_.stream = stream.name;
    out_.in_store = stream.in_store;
  }

  StreamOutlook run(journal::Salvage& salvage) {
    read_state();
    read_blocks(salvage);
    if (!unknown_format_) mend_state();
    judge_ranges();
    judge_cursors();
    judge_slots();
    judge_name();
    report_.streams.push_back(out_);
    return std::move(out_);
  }

 private:
  void found(const std::string& kind, std::string text) {
    report_.findings.push_back({kind, stream_.name, std::move(text)});
  }
  void lose(Offset first, Offset last) { out_.lost.push_back({first, last, {}, {}}); }
  const config::Stream* configured() const {
    if (config_ == nullptr) return nullptr;
    const auto at = std::ranges::find(config_->streams, stream_.name, &config::Stream::name);
    return at == config_->streams.end() ? nullptr : &*at;
  }

  void read_state();
  void read_blocks(journal::Salvage& salvage);
  void add_block(const Block& block);
  void mend_state();
  DurableState make_state(const config::Stream& stream) const;
  void add_epochs();
  void judge_ranges();
  void judge_cursors();
  void judge_slots();
  void judge_name();

  const journal::SalvagedStream& stream_;
  const config::Config* config_;
  JournalReport& report_;
  StreamOutlook out_;
  std::map<std::uint64_t, Offset> bases_;  // of the epochs that blocks name
  bool unknown_format_ = false;
  bool mended_ = false;  // the stored state is older than the blocks
};

void Check::read_state() {
  if (!stream_.state) return;
  auto state = decode_state(*stream_.state);
  if (state) {
    out_.state = std::move(*state);
    return;
  }
  if (state.error().message.find("format") != std::string::npos) {
    unknown_format_ = true;
    report_.beyond_repair = "stream " + stream_.name + ": " + state.error().message;
    found("format", state.error().message);
    return;
  }
  found("state", state.error().message);
}

void Check::read_blocks(journal::Salvage& salvage) {
  bool low_known = true;
  if (stream_.watermark) {
    out_.low = *stream_.watermark;
  } else if (out_.state && out_.state->open) {
    out_.low = out_.state->first - std::min<Offset>(out_.state->first, 1);
  } else {
    low_known = false;
  }
  Offset next = out_.low + 1;
  salvage.for_each_block(stream_.name, [&](const BlockPtr& block) {
    if (low_known && block->last() <= out_.low) return true;
    if (!low_known || block->first <= out_.low) next = block->first;
    if (!low_known || block->first <= out_.low) out_.low = block->first - 1;
    low_known = true;
    if (block->first > next) lose(next, block->first - 1);
    next = block->last() + 1;
    add_block(*block);
    return true;
  });
  out_.end = next - 1;
  const Offset high_water = stream_.high_water.value_or(0);
  if (high_water > out_.end) {
    if (!low_known && !out_.has_blocks) out_.low = 0;
    lose(std::max(out_.end, out_.low) + 1, high_water);
    out_.end = high_water;
  }
}

void Check::add_block(const Block& block) {
  out_.has_blocks = true;
  out_.stored_bytes += block.bytes() + kBlockOverhead;
  if (!block.skip) out_.saved += block.count;
  const Offset base = block.first - block.position.sequence;
  const auto [known, added] = bases_.try_emplace(block.position.epoch, base);
  if (!added && known->second != base) {
    found("order", "the block at " + to_string(block.position) +
                       " does not follow what came before it in its epoch");
  }
}

// The state lies in other files than the blocks, so it may be older than they are, or gone.
void Check::mend_state() {
  if (out_.state) {
    DurableState& state = *out_.state;
    if (!state.open && out_.end > std::max(state.closed_end, out_.low)) {
      mended_ = out_.upper_bound = true;
      state.open = true;
      state.first = std::max(state.closed_end, out_.low) + 1;
      found("state",
            "is older than the blocks: they were journaled after it says that all was "
            "delivered. Sinks may be sent again what they have");
    }
    add_epochs();
    return;
  }
  // A name without anything: a new stream.
  if (!out_.has_blocks && out_.lost.empty() && !stream_.watermark) return;
  out_.state_lost = true;
  const config::Stream* const stream = configured();
  if (out_.has_blocks) {
    found("state",
          "is lost: cursors, epochs of the past and the producer's generation. All that is "
          "saved will be sent to every sink" +
              std::string(stream != nullptr ? ""
                                            : "; say --config, for the names of its "
                                              "sinks"));
    if (stream != nullptr) {
      out_.state = make_state(*stream);
    } else {
      report_.beyond_repair = "the state of stream " + stream_.name +
                              " is lost: repair with a --config that has this stream and its sinks";
    }
  } else {
    found("state", "is lost, and so is every record; the stream begins anew");
  }
}

DurableState Check::make_state(const config::Stream& stream) const {
  DurableState state;
  state.revision = 1;
  state.open = true;
  state.first = out_.low + 1;
  const recovery::StreamPolicy policy = policy_of(stream, config_->journal, 0);
  state.acks = policy.acks;
  state.quorum = policy.quorum;
  for (const auto& [epoch, base] : bases_) state.epochs.push_back({epoch, base});
  state.epoch_newest = state.epochs.empty() ? 0 : state.epochs.back().number;
  for (const config::Sink& sink : stream.sinks) {
    SinkState fresh;
    fresh.name = sink.name;
    fresh.identity = config::sink_identity(sink);
    fresh.cursor = out_.low;
    state.sinks.push_back(std::move(fresh));
  }
  return state;
}

void Check::add_epochs() {
  DurableState& state = *out_.state;
  for (const auto& [epoch, base] : bases_) {
    const auto at = std::ranges::lower_bound(state.epochs, epoch, {}, &recovery::Epoch::number);
    if (at != state.epochs.end() && at->number == epoch) continue;
    // Epochs before the first one that is remembered are forgotten on purpose.
    if (at == state.epochs.begin() && !state.epochs.empty()) continue;
    state.epochs.insert(at, {epoch, base});
    state.epoch_newest = std::max(state.epoch_newest, epoch);
    if (!mended_)
      found("state", "does not know epoch " + std::to_string(epoch) + ", and blocks do");
    mended_ = true;
  }
}

void Check::judge_ranges() {
  for (LostRange& range : out_.lost) {
    range = range_of(out_, range.first, range.last);
    const bool tail = range.last == out_.end;
    found(tail ? "tail" : "hole",
          range_text(range) +
              (tail ? " were durable and are gone from the end" : " are missing or damaged"));
  }
}

void Check::judge_cursors() {
  if (!out_.state || !out_.state->open) return;
  for (SinkState& sink : out_.state->sinks) {
    if (sink.cursor <= out_.end) continue;
    found("cursor",
          "sink " + sink.name + " has taken " + count_text(sink.cursor - out_.end) +
              " beyond the end of the journal. Right after a crash that is normal, until its "
              "producer has sent them again; otherwise the journal has lost its end. A repair sets "
              "the cursor back to the end");
    sink.cursor = out_.end;
    std::erase_if(sink.skips, [&](const recovery::SkipRange& s) { return s.last > out_.end; });
    mended_ = true;
  }
}

void Check::judge_slots() {
  if (stream_.mark_damaged) {
    found("mark", "neither slot of marks/" + stream_.name +
                      " is intact: what is missing at the end cannot be told");
  } else if (!stream_.high_water && stream_.in_store) {
    found("mark",
          "marks/" + stream_.name + " is missing: what is missing at the end cannot be told");
  }
  out_.mark_needed = stream_.mark_damaged || (!stream_.high_water && stream_.in_store);
  if (stream_.latch_damaged || stream_.latch_missing) {
    out_.latch = encode_latch({});
    return found("latch",
                 (stream_.latch_missing ? "latch/" + stream_.name + " is missing"
                                        : "neither slot of latch/" + stream_.name + " is intact") +
                     ": why it was halted, if it was, is not known. Limits are judged "
                     "anew at the start");
  }
  if (!stream_.latch || stream_.latch->empty()) return;
  auto causes = decode_latch(*stream_.latch);
  if (!causes) {
    if (causes.error().message.find("format") != std::string::npos) {
      report_.beyond_repair = "stream " + stream_.name + ": " + causes.error().message;
      return found("format", causes.error().message);
    }
    out_.latch = encode_latch({});
    return found("latch", causes.error().message);
  }
  const auto damage = [](const recovery::HaltCause& cause) {
    return cause.kind == recovery::CauseKind::journal_damaged;
  };
  if (std::erase_if(*causes, damage) == 0) return;
  out_.latch = encode_latch(*causes);
  report_.notes.push_back("stream " + stream_.name + " is halted by journal_damaged");
}

void Check::judge_name() {
  if (config_ == nullptr || configured() != nullptr || !stream_.in_store) return;
  const std::uint64_t waiting = records_waiting(out_.state, out_.low, out_.end);
  if (waiting > 0) found("foreign", foreign_text(stream_.name, waiting));
}

Result<JournalReport> check_beside_broker(const std::filesystem::path& data_dir) {
  auto inspector = journal::Inspector::open(data_dir);
  if (!inspector) return inspector.error();
  JournalReport report;
  report.broker_running = true;
  for (const journal::Finding& finding : (*inspector)->check()) {
    report.findings.push_back({"block", finding.stream,
                               "offsets " + std::to_string(finding.first) + " to " +
                                   std::to_string(finding.last) + ": " + finding.text});
  }
  report.beyond_repair = "a broker is running on it; stop it first";
  return report;
}

// Findings that a new store does not mend.
bool of_slots(const JournalFinding& finding) {
  return finding.kind == "mark" || finding.kind == "latch" || finding.kind == "foreign";
}

}  // namespace

std::vector<Piece> pieces_of(const StreamOutlook& stream, Offset first, Offset last) {
  std::vector<Piece> pieces;
  std::vector<recovery::Epoch> epochs;
  if (stream.state) epochs = stream.state->epochs;
  while (first <= last) {
    Offset piece_last = last;
    Position position{0, first};
    for (const recovery::Epoch& epoch : epochs) {
      if (epoch.base >= first) {
        piece_last = std::min(last, epoch.base);
        break;
      }
      position = {epoch.number, first - epoch.base};
    }
    pieces.push_back({first, position, piece_last - first + 1});
    first = piece_last + 1;
  }
  return pieces;
}

LostRange range_of(const StreamOutlook& stream, Offset first, Offset last) {
  const auto pieces = pieces_of(stream, first, last);
  const Piece& back = pieces.back();
  return {first,
          last,
          pieces.front().position,
          {back.position.epoch, back.position.sequence + back.count - 1}};
}

std::string range_text(const LostRange& range) {
  return to_string(range.first_position) + " to " + to_string(range.last_position) + " (" +
         count_text(range.last - range.first + 1) + ")";
}

Diagnosis diagnose(journal::Salvage& salvage, const config::Config* config,
                   const std::vector<std::string>& forget) {
  Diagnosis out;
  JournalReport& report = out.report;
  if (salvage.unknown_format()) {
    report.beyond_repair =
        "the store is of format " + *salvage.unknown_format() +
        ", which this version does not know; use the version that wrote it, or another data_dir";
    report.findings.push_back({"format", "", report.beyond_repair});
    return out;
  }
  const auto forgotten = [&forget](const std::string& stream) {
    return std::ranges::find(forget, stream) != forget.end();
  };
  for (const journal::SalvagedStream& stream : salvage.streams()) {
    const std::string beyond_repair = report.beyond_repair;
    StreamOutlook found = Check(stream, config, report).run(salvage);
    if (!forgotten(stream.name)) {
      out.streams.push_back(std::move(found));
      continue;
    }
    report.beyond_repair = beyond_repair;
    out.forgotten.push_back(std::move(found));
  }
  // Last: some of it shows only while blocks are read.
  std::vector<JournalFinding> files;
  for (const journal::FileDamage& damage : salvage.damage()) {
    files.push_back({"file", "", damage.file + " " + damage.text});
  }
  report.findings.insert(report.findings.begin(), files.begin(), files.end());
  for (const journal::FileDamage& note : salvage.notes()) {
    report.notes.push_back(note.file + " " + note.text);
  }
  const auto mends_itself = [&forgotten](const JournalFinding& finding) {
    return of_slots(finding) || forgotten(finding.stream);
  };
  out.new_store = !std::ranges::all_of(report.findings, mends_itself) ||
                  std::ranges::any_of(out.forgotten, &StreamOutlook::in_store);
  return out;
}

Result<JournalReport> check_journal(const std::filesystem::path& data_dir,
                                    const config::Config* config) {
  if (journal::data_dir_in_use(data_dir)) return check_beside_broker(data_dir);
  auto salvage = journal::Salvage::open(data_dir);
  if (!salvage) return salvage.error();
  return diagnose(**salvage, config).report;
}

}  // namespace spillway::broker::offline
