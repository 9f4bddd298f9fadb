#include "broker/offline.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <utility>

#include "broker/config/units.h"
#include "broker/foreign.h"
#include "broker/state_codec.h"
#include "broker/stream.h"
#include "journal/inspect.h"
#include "journal/journal.h"
#include "recovery/epochs.h"
#include "recovery/startup.h"

namespace spillway::broker::offline {

namespace {

using recovery::DurableState;
using recovery::passed;
using recovery::SinkState;

// So many are deleted at once.
constexpr std::size_t kPurgeLetters = 10'000;

bool has_journal(const config::Config& config) {
  std::error_code ignored;
  return std::filesystem::exists(config.data_dir / "journal", ignored);
}

const config::Sink* configured(const config::Stream& stream, const std::string& sink) {
  const auto found = std::ranges::find(stream.sinks, sink, &config::Sink::name);
  return found == stream.sinks.end() ? nullptr : &*found;
}

const config::Stream* configured(const config::Config& config, const std::string& stream) {
  const auto found = std::ranges::find(config.streams, stream, &config::Stream::name);
  return found == config.streams.end() ? nullptr : &*found;
}

// One stream of a store that is opened for one change.
class Edit {
 public:
  static Result<std::unique_ptr<Edit>> open(const config::Config& config,
                                            const std::string& stream) {
    if (!has_journal(config)) return Error{config.data_dir.string() + " holds no journal"};
    journal::Options options;
    options.data_dir = config.data_dir;
    for (const config::Stream& s : config.streams) options.streams.push_back(s.name);
    options.max_disk_bytes = config.journal.max_disk_bytes;
    options.min_free_disk = config.journal.min_free_disk;
    options.group_reserve = config.journal.group_reserve;
    auto opened = journal::Journal::open(std::move(options), {});
    if (!opened) return opened.error();
    auto edit = std::make_unique<Edit>();
    edit->journal_ = std::move(*opened);
    const auto& all = edit->journal_->recovered();
    const auto found = std::ranges::find(all, stream, &journal::Recovered::stream);
    if (found != all.end() && !found->writable) return Error{found->damage.value_or("")};
    if (found == all.end() || !found->state) {
      return Error{"the journal knows no stream " + stream};
    }
    edit->recovered = *found;
    auto state = decode_state(*found->state);
    if (!state) return state.error();
    edit->state = std::move(*state);
    return edit;
  }

  SinkState* find(const std::string& sink) {
    const auto found = std::ranges::find(state.sinks, sink, &SinkState::name);
    return found == state.sinks.end() ? nullptr : &*found;
  }

  // As the machine does it for a sink that is back: what an open-ended drop has let go so far
  // becomes a range with an end, in the ledger as well.
  void end_drop(SinkState& sink) {
    if (!std::exchange(sink.dropping, false)) return;
    const Offset end = state.open ? recovered.end : std::max(state.closed_end, state.checkpoint.at);
    const Offset last = std::max(end, sink.drop_first - 1);
    add_entry(sink.drop_entry, sink.name, sink.drop_first, last, sink.drop_reason, "");
    if (last >= sink.drop_first) {
      recovery::add_skip(sink.skips, {sink.drop_first, last, sink.drop_reason});
    }
  }

  // What `sink` has not taken through `last` and will not be sent, into the ledger, but for what is
  // there already: what it skips.
  std::uint64_t let_go(const SinkState& sink, Offset last, const std::string& text) {
    if (!state.open) return 0;
    std::uint64_t count = 0;
    Offset first = sink.cursor + 1;
    const auto add = [&](Offset through) {
      if (first > through) return;
      const std::uint64_t id = std::max(state.next_ledger_id, recovered.next_ledger_id);
      state.next_ledger_id = id + 1;
      add_entry(id, sink.name, first, through, LossReason::reset, text);
      count += through - first + 1;
    };
    for (const recovery::SkipRange& skip : sink.skips) {
      add(std::min(last, skip.first - 1));
      first = std::max(first, skip.last + 1);
    }
    add(last);
    return count;
  }

  std::optional<Error> commit(journal::Commit commit = {}) {
    ++state.revision;
    commit.stream = recovered.stream;
    commit.generation = recovered.generation;
    commit.state = encode_state(state);
    commit.ledger = std::move(ledger_);
    std::promise<journal::Outcome> promise;
    auto outcome = promise.get_future();
    journal_->commit(std::move(commit),
                     [&promise](journal::Outcome result) { promise.set_value(result); });
    switch (outcome.get()) {
      case journal::Outcome::ok: return std::nullopt;
      case journal::Outcome::disk_bound:
      case journal::Outcome::min_free:
        return Error{"the change was not written: there is no room for it on the disk"};
      case journal::Outcome::failed: break;
    }
    return Error{"the change was not written: " + journal_->stats().last_error};
  }

  std::optional<Error> dead_letters(const std::function<void(const journal::DeadLetter&)>& visit) {
    return journal_->dead_letters(recovered.stream, [&visit](const journal::DeadLetter& letter) {
      visit(letter);
      return true;
    });
  }

  journal::Recovered recovered;
  DurableState state;

 private:
  void add_entry(std::uint64_t id, const std::string& sink, Offset first, Offset last,
                 LossReason reason, std::string text) {
    const recovery::EpochTable table(state.epochs);
    journal::LedgerEntry entry;
    entry.id = id;
    entry.sink = sink;
    entry.first = table.position_of(first);
    entry.last = table.position_of(last);
    entry.count = last - first + 1;
    entry.reason = reason;
    entry.time_ms = std::chrono::duration_cast<std::chrono::milliseconds>(
                        std::chrono::system_clock::now().time_since_epoch())
                        .count();
    entry.text = std::move(text);
    ledger_.push_back(std::move(entry));
  }

  std::unique_ptr<journal::Journal> journal_;
  std::vector<journal::LedgerEntry> ledger_;
};

Result<std::string> done(std::string what) {
  return {boost::system::in_place_value, std::move(what)};
}

std::string let_go_text(std::uint64_t count) {
  if (count == 0) return "";
  return "; " + std::to_string(count) + (count == 1 ? " record was" : " records were") + " let go";
}

Error no_such_sink(const std::string& stream, const std::string& sink) {
  return Error{"the journal knows no sink " + sink + " of stream " + stream};
}

}  // namespace

Result<std::vector<Obstacle>> find_obstacles(const config::Config& config) {
  std::vector<Obstacle> obstacles;
  if (!has_journal(config)) return obstacles;
  auto inspector = journal::Inspector::open(config.data_dir);
  if (!inspector) return inspector.error();
  for (const journal::Recovered& recovered : (*inspector)->streams()) {
    const config::Stream* const stream = configured(config, recovered.stream);
    if (stream == nullptr) {
      if (auto why = foreign(recovered)) obstacles.push_back({recovered.stream, "", *why});
      continue;
    }
    if (!recovered.state) continue;
    const auto state = decode_state(*recovered.state);
    if (!state) return state.error();
    for (const SinkState& sink : state->sinks) {
      const std::string name = stream->name + "/" + sink.name;
      const config::Sink* const now = configured(*stream, sink.name);
      if (now == nullptr && !recovery::drained(*state, sink, recovered.end)) {
        std::string why = "no longer configured, but ";
        why.append(std::to_string(recovered.end - passed(sink)))
            .append(" records still wait for it: configure it again, or `spillway sink forget ")
            .append(name)
            .append(" --accept-drop`, or `spillway sink rename ")
            .append(name)
            .append(" NEW`");
        obstacles.push_back({stream->name, sink.name, std::move(why)});
      }
      if (now == nullptr || sink.identity.empty()) continue;
      if (const std::string identity = config::sink_identity(*now); identity != sink.identity) {
        std::string why = "was ";
        why.append(sink.identity)
            .append(" and is now ")
            .append(identity)
            .append(": its cursor belongs to the old destination; `spillway sink reset ")
            .append(name)
            .append("` takes it over, or give the new one a name of its own");
        obstacles.push_back({stream->name, sink.name, std::move(why)});
      }
    }
  }
  return obstacles;
}

Result<std::vector<StreamHalt>> read_halts(const config::Config& config) {
  std::vector<StreamHalt> halts;
  for (const config::Stream& stream : config.streams) halts.push_back({stream.name, {}});
  if (!has_journal(config)) return halts;
  auto inspector = journal::Inspector::open(config.data_dir);
  if (!inspector) return inspector.error();
  for (const journal::Recovered& recovered : (*inspector)->streams()) {
    const auto found = std::ranges::find(halts, recovered.stream, &StreamHalt::stream);
    if (found == halts.end() || !recovered.latch || recovered.latch->empty()) continue;
    const auto causes = decode_latch(*recovered.latch);
    if (!causes) return causes.error();
    found->halt = halt_status(*causes);
  }
  return halts;
}

Result<std::string> forget_sink(const config::Config& config, const std::string& stream,
                                const std::string& sink, bool accept_drop) {
  auto edit = Edit::open(config, stream);
  if (!edit) return edit.error();
  SinkState* const stored = (*edit)->find(sink);
  if (stored == nullptr) return no_such_sink(stream, sink);
  const Offset end = (*edit)->recovered.end;
  if (!recovery::drained((*edit)->state, *stored, end) && !accept_drop) {
    return Error{std::to_string(end - passed(*stored)) + " records still wait for " + sink +
                 "; they are let go only with --accept-drop"};
  }
  (*edit)->end_drop(*stored);
  const std::uint64_t count = (*edit)->let_go(*stored, end, "the sink was forgotten");
  std::erase_if((*edit)->state.sinks, [&](const SinkState& s) { return s.name == sink; });
  if (const auto error = (*edit)->commit()) return *error;
  return done("sink " + sink + " of stream " + stream + " is forgotten" + let_go_text(count));
}

Result<std::string> rename_sink(const config::Config& config, const std::string& stream,
                                const std::string& sink, const std::string& new_name) {
  // Under any other, no configuration could ever have the sink, and its backlog would be stranded.
  if (!config::is_name(new_name)) {
    return Error{"\"" + new_name + "\" is not a name: " + std::string(config::kNameRule)};
  }
  auto edit = Edit::open(config, stream);
  if (!edit) return edit.error();
  SinkState* const stored = (*edit)->find(sink);
  if (stored == nullptr) return no_such_sink(stream, sink);
  if ((*edit)->find(new_name) != nullptr) {
    return Error{"stream " + stream + " has a sink " + new_name + " already"};
  }
  stored->name = new_name;
  // They count against its dead_letter_bytes, and are found under its name.
  journal::Commit commit;
  const auto failed = (*edit)->dead_letters([&](const journal::DeadLetter& letter) {
    if (letter.record == nullptr || letter.sink != sink) return;
    commit.purged.push_back(letter.number);
    commit.dead_letters.push_back(letter);
    commit.dead_letters.back().sink = new_name;
  });
  if (failed) return *failed;
  if (const auto error = (*edit)->commit(std::move(commit))) return *error;
  return done("sink " + sink + " of stream " + stream + " is now " + new_name);
}

Result<std::string> reset_sink(const config::Config& config, const std::string& stream,
                               const std::string& sink, std::optional<Position> from,
                               bool accept_drop) {
  const config::Stream* const stream_config = configured(config, stream);
  const config::Sink* const sink_config =
      stream_config == nullptr ? nullptr : configured(*stream_config, sink);
  if (sink_config == nullptr) {
    return Error{"stream " + stream + " has no sink " + sink + " in the configuration"};
  }
  auto edit = Edit::open(config, stream);
  if (!edit) return edit.error();
  SinkState* const stored = (*edit)->find(sink);
  if (stored == nullptr) return no_such_sink(stream, sink);
  (*edit)->end_drop(*stored);
  DurableState& state = (*edit)->state;
  const Offset end = state.open ? (*edit)->recovered.end : state.closed_end;
  const Offset begin = state.open ? std::max((*edit)->recovered.watermark,
                                             state.first - std::min<Offset>(state.first, 1))
                                  : state.closed_end;
  if (!from && sink_config->start_at.kind == config::StartAt::Kind::position) {
    from = sink_config->start_at.position;
  }
  Offset target = sink_config->start_at.kind == config::StartAt::Kind::earliest ? begin : end;
  if (from) {
    const auto offset = recovery::EpochTable(state.epochs).offset_of(*from);
    target = offset ? *offset - std::min<Offset>(*offset, 1) : 0;
  }
  target = std::clamp(target, std::min(begin, end), end);
  if (state.open && target > passed(*stored) && !accept_drop) {
    return Error{"the sink has not taken the " + std::to_string(target - passed(*stored)) +
                 " records before that; they are let go only with --accept-drop"};
  }
  const std::uint64_t count = (*edit)->let_go(*stored, target, "the sink was reset");
  SinkState fresh;
  fresh.name = stored->name;
  fresh.identity = config::sink_identity(*sink_config);
  fresh.cursor = target;
  fresh.paused = stored->paused;
  fresh.paused_since = stored->paused_since;
  fresh.dead_letter_bytes = stored->dead_letter_bytes;
  *stored = std::move(fresh);
  if (const auto error = (*edit)->commit()) return *error;
  return done("sink " + sink + " of stream " + stream + " goes on after " +
              to_string(recovery::EpochTable(state.epochs).position_of(target)) +
              let_go_text(count));
}

Result<std::string> purge_dead_letters(const config::Config& config, const std::string& stream,
                                       const std::string& sink, std::optional<Position> position) {
  auto edit = Edit::open(config, stream);
  if (!edit) return edit.error();
  struct Letter {
    std::uint64_t number;
    std::uint64_t bytes;
  };
  std::map<std::string, std::vector<Letter>> going;  // by sink; damaged ones are of none
  std::uint64_t count = 0;
  std::uint64_t bytes = 0;
  const auto failed = (*edit)->dead_letters([&](const journal::DeadLetter& letter) {
    const bool intact = letter.record != nullptr;
    if (!sink.empty() && letter.sink != sink) return;
    if (position && (!intact || letter.record->position != *position)) return;
    going[letter.sink].push_back({letter.number, intact ? letter.record->bytes() : 0});
    ++count;
    bytes += going[letter.sink].back().bytes;
  });
  if (failed) return *failed;
  if (count == 0) {
    return Error{"stream " + stream + " has no dead letters" +
                 (sink.empty() ? "" : " of sink " + sink) +
                 (position ? " at " + to_string(*position) : "") + "; nothing was purged"};
  }
  std::string text = std::to_string(count) + (count == 1 ? " dead letter" : " dead letters") +
                     " of stream " + stream + " purged, " + config::format_bytes(bytes);
  for (const auto& [name, letters] : going) {
    SinkState* const stored = (*edit)->find(name);
    if (stored != nullptr && stored->parked.starts_with(recovery::kDeadLettersFull)) {
      stored->parked.clear();
      text += "; sink " + name + " was parked for want of room, and goes on at the next start";
    }
    for (std::size_t begin = 0; begin < letters.size(); begin += kPurgeLetters) {
      journal::Commit commit;
      for (std::size_t i = begin; i < std::min(letters.size(), begin + kPurgeLetters); ++i) {
        commit.purged.push_back(letters[i].number);
        if (stored == nullptr) continue;
        stored->dead_letter_bytes -= std::min(stored->dead_letter_bytes, letters[i].bytes);
      }
      if (const auto error = (*edit)->commit(std::move(commit))) return *error;
    }
  }
  return done(std::move(text));
}

}  // namespace spillway::broker::offline
