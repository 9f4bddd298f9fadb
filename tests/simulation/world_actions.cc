// What the machine asks for, carried out as the broker does.
#include <algorithm>
#include <utility>

#include "tests/simulation/world.h"

namespace spillway::simulation {

namespace action = recovery::action;
namespace event = recovery::event;
using recovery::BlockInfo;
using recovery::Millis;

void World::execute(const recovery::Action& action) {
  std::visit([this](const auto& a) { run(a); }, action);
}

// --- producers
// ------------------------------------------------------------------------------------

void World::push_block(Offset first, std::uint64_t count, std::uint64_t running_bytes) {
  const Offset end = records_first_ + records_.size();
  BlockInfo block;
  block.first = first;
  block.last = first + count - 1;
  for (Offset o = first; o < end; ++o) block.bytes += record(o).info.bytes;
  block.running_bytes = running_bytes;
  block.arrived = now_;
  block.received = wall_;
  block.starts_clean = !record(first).info.continues;
  block.ends_clean = !records_.back().info.open;
  block.inside_record = records_.back().info.inside_record;
  require(window_.empty() || window_.back().last + 1 == first, "a hole in the window");
  window_.push_back(block);
  window_bytes_ += block.bytes;
  max_block_bytes_ = std::max(max_block_bytes_, block.bytes);
}

void World::run(const action::Admit& a) {
  require(batch_ != nullptr, "admitted without a batch at hand");
  require(a.count > 0 && a.skip + a.count <= batch_->size(), "admitted more than there is");
  silent_resumes_ = 0;
  if (records_.empty()) records_first_ = a.first;
  require(a.first == records_first_ + records_.size(), "admitted with a gap: offset", a.first);
  // A batch names its newest mark, and no other.
  const auto newest = std::ranges::find_if(batch_->rbegin(), batch_->rend(),
                                           [](const Record& record) { return record.mark; });
  for (std::uint64_t i = 0; i < a.count; ++i) {
    const Record& record = (*batch_)[a.skip + i];
    const Position at{a.position.epoch, a.position.sequence + i};
    require(record.at == at, "admitted under another position:", record.at, "as", at);
    require(!halted_before_ || record.info.continues, "admitted while halted:", at);
    for (const Sink& sink : sinks_) {
      require(!sink.holds_other(record), "a fork: a sink holds other content at", at);
    }
    check_same(record);
    records_.push_back(record);
    records_.back().mark = newest != batch_->rend() && &record == &*newest;
    records_.back().taken = now_;
    records_.back().excused = excused_time_;
  }
  push_block(a.first, a.count, a.running_bytes);
  if (tracing()) {
    trace("  admit ", a.position, " +", a.count, " offset ", a.first, " session ",
          value_of(a.session));
  }
}

void World::run(const action::Duplicate& a) {
  if (tracing()) trace("  duplicate offset ", a.first, " +", a.count);
}

void World::run(const action::Discard& a) {
  require(batch_ != nullptr && a.count <= batch_->size(), "discarded without a batch at hand");
  const Record& record = (*batch_)[batch_->size() - a.count];
  if (tracing()) trace("  discard from ", record.at, " +", a.count);
  // G12: what continues an accepted group is never refused.
  const bool next = machine_->epochs().offset_of(record.at) == machine_->head() + 1;
  const bool continues = next && !records_.empty() && record.info.continues &&
                         records_.back().info.open && records_.back().at.epoch == record.at.epoch;
  require(!continues || stopping_, "a record that continues a group was discarded:", record.at);
}

void World::run(const action::AdmitSkip& a) {
  if (records_.empty()) records_first_ = a.first;
  require(a.first == records_first_ + records_.size(), "a skip with a gap: offset", a.first);
  for (std::uint64_t i = 0; i < a.count; ++i) {
    Record record;
    record.at = {a.position.epoch, a.position.sequence + i};
    record.skip = a.reason;
    record.taken = now_;
    record.excused = excused_time_;
    records_.push_back(record);
  }
  push_block(a.first, a.count, a.running_bytes);
  if (tracing()) trace("  admit skip ", a.position, " +", a.count, " offset ", a.first);
}

void World::run(const action::Welcome& a) {
  if (tracing()) {
    trace("  welcome session ", value_of(a.session), " held ", a.held, " safe ", a.safe,
          a.halted.empty() ? "" : " halted");
  }
  const recovery::DurableState* stored = journal_.state();
  require(stored != nullptr, "Welcome before anything was durable");
  require(stored->generation >= a.generation, "Welcome before its generation was durable");
  require(!stored->epochs.empty() && stored->epochs.back().number >= a.held.epoch,
          "Welcome names an epoch that is not durable:", a.held);
  if (!welcomed_ && !stored->open) {
    require(stored->checkpoint.at >= offset_of(a.held) || machine_->head() > stored->checkpoint.at,
            "Welcome before held was durable:", a.held);
  }
  check_mark(a);
  if (!welcomed_ && !acknowledges_for_good()) forget_promises();
  welcomed_ = true;
  told_safe_ = a.safe;
  promise(a.safe);
  producer_.on(a);
}

void World::run(const action::Reject& a) {
  if (tracing()) trace("  reject ", static_cast<int>(a.code), " ", a.text);
  producer_.on(a);
}

void World::run(const action::Finish& a) { producer_.on(a); }
void World::run(const action::Cut& a) { producer_.on(a); }

void World::run(const action::Acknowledge& a) {
  if (tracing()) trace("  acknowledge safe ", a.safe, " taken ", a.taken);
  require(a.safe >= told_safe_, "an acknowledgement went back to", a.safe, "from", told_safe_);
  require(a.taken <= a.safe, "taken goes beyond safe");
  told_safe_ = a.safe;
  promise(a.safe);
  check_taken(a.taken);
  producer_.acknowledge(a.safe);
}

void World::run(const action::Halt& a) {
  if (tracing()) trace("  halt: ", recovery::name_of(a.causes.front().kind));
  require(!a.causes.empty() && machine_->halted(), "a halt without a cause");
  silent_resumes_ = 0;
  const bool durable = std::ranges::all_of(a.causes, [&](const recovery::HaltCause& cause) {
    return std::ranges::any_of(journal_.latch, [&](const recovery::HaltCause& c) {
      return c.kind == cause.kind && c.sink == cause.sink;
    });
  });
  require(durable || (latch_asked_ && now_ - *latch_asked_ >= Millis(1000)),
          "the producer hears of a halt before its latch is durable");
  for (const auto& cause : a.causes) ++counts_.halts[static_cast<std::size_t>(cause.kind)];
  producer_.halt();
}

void World::run(const action::Resume& a) {
  if (tracing()) trace("  resume ", a.held);
  require(!machine_->halted(), "resumed while a cause is left");
  require(++silent_resumes_ < 10, "refused and told to go on again and again, without a halt");
  require(!damaged_, "resumed while nobody has accepted what is lost");
  producer_.resume(a.held);
}

// --- window and journal
// ---------------------------------------------------------------------------

void World::run(const action::Evict& a) {
  if (tracing()) trace("  evict through ", a.through);
  while (!window_.empty() && window_.front().last <= a.through) {
    const BlockInfo& block = window_.front();
    const bool durable = journal_.holds(block.last);
    for (const std::size_t i : active_) {
      if (durable) break;
      // G9: gone from memory, so every sink has it, or policy let it pass.
      for (Offset o = block.first; o <= block.last; ++o) {
        require(record(o).skip || covered(i, record(o)), "evicted what a sink lacks:", record(o).at,
                "sink", i);
      }
    }
    window_bytes_ -= block.bytes;
    window_.pop_front();
  }
}

void World::run(const action::Write& a) {
  if (!commits_.empty() && !commits_.back().refused &&
      commits_.back().generation == journal_generation_) {
    require(a.append_last != 0 && !commits_.back().blocks.empty(),
            "a second write while one is under way, and not both append");
    ++counts_.overlapped;
  }
  require(a.state->mark_offset <= a.state->checkpoint.at,
          "a mark is stored beyond its checkpoint:", a.state->mark_offset, a.state->checkpoint.at);
  Journal::Commit commit;
  commit.generation = journal_generation_;
  commit.id = a.id;
  commit.state = a.state;
  commit.watermark = a.watermark;
  commit.losses = a.losses;
  commit.dead_letters = a.dead_letters;
  commit.use_group_reserve = a.use_group_reserve;
  asked_watches_[a.id] = watches_;
  for (const recovery::Loss& loss : a.losses) {
    check_drop(loss);
    const bool kept =
        std::ranges::any_of(a.dead_letters, [&](const recovery::DeadLetterNote& note) {
          return note.first == loss.first && note.last == loss.last;
        });
    require(kept || loss.reason != LossReason::rejected,
            "refused, and not among the dead letters:", loss.first_position);
  }
  for (const action::AdmitSkip& fill : a.fills) {
    require(lost_something_, "fills a hole where nothing was lost: offset", fill.first);
    BlockInfo block;
    block.first = fill.first;
    block.last = fill.first + fill.count - 1;
    block.running_bytes = fill.running_bytes;
    block.received = wall_;
    commit.blocks.push_back(block);
    for (Offset o = block.first; o <= block.last; ++o) {
      Record lost;
      lost.at = {fill.position.epoch, fill.position.sequence + (o - fill.first)};
      require(lost.at == position_of(o), "fills a hole under another position:", lost.at);
      lost.skip = fill.reason;
      commit.records.push_back(lost);
      if (o >= records_first_ && o < records_first_ + records_.size()) {
        Record& known = records_[o - records_first_];
        if (!known.skip) known = lost;
      }
    }
  }
  if (a.append_last != 0) {
    require(a.append_first <= a.append_last, "an empty append");
    require(!window_.empty() && window_.front().first <= a.append_first &&
                window_.back().last >= a.append_last,
            "append of what is not in the window: from", a.append_first, "to", a.append_last);
    for (BlockInfo block : window_) {
      if (block.last < a.append_first || block.first > a.append_last) continue;
      require(block.last <= a.append_last, "an append ends inside a block");
      if (block.first < a.append_first) {
        block.first = a.append_first;
        block.bytes = 0;
        for (Offset o = block.first; o <= block.last; ++o) block.bytes += record(o).info.bytes;
      }
      commit.blocks.push_back(block);
    }
    for (Offset o = a.append_first; o <= a.append_last; ++o) commit.records.push_back(record(o));
    if (a.use_group_reserve) check_reserve(commit, a.append_first);
  }
  if (tracing()) {
    trace("  write ", a.id, " append ", a.append_first, "-", a.append_last, " ",
          a.state->open ? "open" : "closed", " first ", a.state->first, " closed_end ",
          a.state->closed_end, " checkpoint ", a.state->checkpoint.at, " cursor ",
          a.state->sinks.front().cursor, " watermark ", a.watermark, " losses ", a.losses.size());
  }
  commit.refused = follows_a_refusal(commit);
  commits_.push_back(std::move(commit));
  schedule(random_.delay(), What::commit_done, 0, a.id);
}

// What was sent before the machine heard that the one before it was refused.
bool World::follows_a_refusal(const Journal::Commit& commit) const {
  return refused_ && !commit.blocks.empty() &&
         commit.blocks.front().first != std::max(journal_.end(), commit.watermark) + 1;
}

recovery::WriteOutcome World::store(const Journal::Commit& commit) {
  using recovery::WriteOutcome;
  if (follows_a_refusal(commit)) return *refused_;
  const bool appends = !commit.blocks.empty();
  if (disk_full_ && !commit.use_group_reserve && (appends || !commit.dead_letters.empty())) {
    const auto outcome = random_.chance(0.5) ? WriteOutcome::disk_bound : WriteOutcome::min_free;
    refused_in_life_ = true;
    if (appends) {
      refused_ = outcome;
      for (Journal::Commit& behind : commits_) behind.refused = true;
    }
    return outcome;
  }
  journal_.apply(commit);
  if (const auto asked = asked_watches_.extract(commit.id)) stored_watches_ = asked.mapped();
  custody_dirty_ = true;
  if (appends) refused_.reset();
  if (tracing()) trace("committed ", commit.id);
  return WriteOutcome::ok;
}

// What is queued up to this one is one group: it is written, or fails, as a whole.
void World::finish_commits(std::uint64_t last) {
  using recovery::WriteOutcome;
  std::vector<std::pair<std::uint64_t, WriteOutcome>> outcomes;
  bool down = false;
  bool lands = true;
  while (!commits_.empty() && commits_.front().id <= last) {
    const Journal::Commit commit = std::move(commits_.front());
    commits_.pop_front();
    outcomes.emplace_back(commit.id, WriteOutcome::failed);
    if (journal_down_ || commit.generation != journal_generation_) continue;
    if (outcomes.size() == 1) {
      down = hit(Fault::write_failed);
      lands = !down || random_.chance(0.5);
    }
    if (lands) outcomes.back().second = store(commit);
  }
  if (down) {
    custody_dirty_ = true;
    journal_down_ = true;
    schedule(Millis(random_.below(3000)), What::reopened);
  }
  const bool down_first = down && random_.chance(0.5);
  if (down_first) tell(event::JournalDown{});
  for (const auto& [id, outcome] : outcomes) {
    // What a limit has refused is refused in a group that fails, too.
    const bool failed = down && outcome == WriteOutcome::ok;
    tell(event::Written{id, failed ? WriteOutcome::failed : outcome});
  }
  if (down && !down_first) tell(event::JournalDown{});
}

void World::reopen_journal() {
  if (hit(Fault::write_failed)) {
    schedule(Millis(random_.below(8000)), What::reopened);
    return;
  }
  journal_down_ = false;
  ++journal_generation_;
  refused_.reset();
  bool less = false;
  event::JournalReopened reopened;
  if (may_lose() && hit(Fault::tail_lost)) {
    lose_tail();
    const recovery::DurableState& confirmed = machine_->durable();
    const std::uint64_t found = journal_.state() == nullptr ? 0 : journal_.state()->revision;
    less =
        found < confirmed.revision || (confirmed.open && journal_.end() < machine_->journal_end());
    if (random_.chance(0.5)) reopened.damage = "less than was confirmed";
  }
  if (hit(Fault::damage_found)) reopened.damage = "something does not add up";
  damaged_ = damaged_ || !reopened.damage.empty();
  if (journal_.state() != nullptr) reopened.state = *journal_.state();
  reopened.end = journal_.end();
  if (tracing()) trace("REOPENED end ", reopened.end);
  tell(reopened);
  damaged_ = damaged_ || less;
  require(!machine_ || !damaged_ || damage_is_known(), "a journal came back damaged, unnoticed");
}

void World::run(const action::Trim&) { journal_.trim(); }

void World::run(const action::WriteLatch& a) {
  latching_ = a.causes;
  latch_id_ = a.id;
  if (!latch_asked_) latch_asked_ = now_;
  Millis delay = random_.delay() / 8;
  if (hit(Fault::latch_slow)) delay = Millis(random_.below(4000));
  schedule(delay, What::latch_done, 0, a.id, hit(Fault::latch_failed) ? 0 : 1);
}

void World::run(const action::Read& a) {
  PendingRead read;
  read.id = a.id;
  read.sink = value_of(a.sink);
  read.done = {a.sink, a.id, false, {}, std::nullopt};
  if (!journal_down_ && !hit(Fault::read_failed)) {
    auto blocks = journal_.read(a.from, a.through, std::min(a.max_bytes, random_.below(2000)));
    read.done.ok = true;
    read.done.blocks = std::move(blocks.blocks);
    read.done.lost = blocks.lost;
  }
  std::erase_if(reads_,
                [&](const PendingRead& r) { return r.sink == read.sink && r.id + 4 < a.id; });
  reads_.push_back(std::move(read));
  schedule(random_.delay() / 4, What::read_done, value_of(a.sink), a.id);
}

void World::run(const action::Locate& a) {
  check_cut(a);
  locates_.push_back(a);
  schedule(random_.delay(), What::located, value_of(a.sink), a.id);
}

// --- sinks
// ----------------------------------------------------------------------------------------

void World::run(const action::Connect& a) { sink_of(a.sink).connect(a.attempt); }
void World::run(const action::Close& a) { sink_of(a.sink).close(a.attempt); }

void World::run(const action::Send& a) {
  if (tracing()) {
    trace("  send sink ", value_of(a.sink), " ", a.first, "-", a.last,
          a.source == recovery::Source::memory ? " memory" : " journal");
  }
  require(a.last <= machine_->head(), "sent beyond the head");
  if (a.source == recovery::Source::memory) {
    require(!window_.empty() && window_.front().first <= a.first && window_.back().last >= a.last,
            "sent from memory what is not in the window: from", a.first);
  } else {
    const auto read = std::ranges::find_if(reads_, [&](const PendingRead& r) {
      return r.sink == value_of(a.sink) && r.id == a.read_id;
    });
    require(read != reads_.end() && read->done.ok, "sent from a read that was not answered");
    const auto& blocks = read->done.blocks;
    require(!blocks.empty() && blocks.front().first <= a.first && blocks.back().last >= a.last,
            "sent what was not read: from", a.first);
  }
  const auto& policy = plan_.policy.sinks[value_of(a.sink)];
  const auto& delivery = machine_->delivery(a.sink);
  require(delivery.in_flight_bytes() <=
              policy.max_in_flight + max_block_bytes_ + plan_.producer.bytes_max * 64,
          "more in flight to a sink than its limit and one record");
  sink_of(a.sink).send(a.attempt, a.first, a.last, std::nullopt);
}

void World::run(const action::SendSkip& a) {
  if (tracing()) trace("  send skip sink ", value_of(a.sink), " ", a.first, "-", a.last);
  for (Offset o = a.first; o <= a.last; ++o) {
    // What a store lost may stand in the ledger under numbers that were given out anew since.
    require(lost_something_ || journal_.ledgered(index_of(a.sink), position_of(o)),
            "a skip without a durable ledger entry:", position_of(o), "sink", value_of(a.sink));
  }
  sink_of(a.sink).send(a.attempt, a.first, a.last, a.reason);
}

void World::run(const action::Moved& a) {
  if (tracing()) {
    trace("  sink ", value_of(a.sink), " ", recovery::name_of(a.from), " -> ",
          recovery::name_of(a.to), " (", recovery::name_of(a.cause), ")");
  }
  ++counts_.delivery[{static_cast<int>(a.from), static_cast<int>(a.to), static_cast<int>(a.cause)}];
  if (a.to != recovery::State::parked || a.cause != recovery::Cause::parked) return;
  const std::string& why = machine_->wanted().sinks[value_of(a.sink)].parked;
  const bool rejected = why.find("refused") != std::string::npos;
  require(rejected || sink_of(a.sink).rolled_back() || lost_something_,
          "a sink that told the truth was parked:", why);
}

void World::run(const action::CoverageMoved& a) {
  if (tracing()) {
    trace("  coverage ", recovery::name_of(a.from), " -> ", recovery::name_of(a.to), " first ",
          a.first, " end ", a.end);
  }
  ++counts_.coverage[static_cast<std::size_t>(a.from)][static_cast<std::size_t>(a.to)];
}

void World::run(const action::Lost& a) {
  ++counts_.losses[static_cast<std::size_t>(a.loss.reason)];
  for (std::size_t i = 0; a.loss.reason == LossReason::limit && i < over_at_start_.size(); ++i) {
    require(!over_at_start_[i] || plan_.policy.sinks[i].name != a.loss.sink,
            "a limit that was lowered drops, and nobody agreed, sink", i);
  }
  if (tracing()) {
    trace("  lost ", a.loss.sink, " ", a.loss.first, "-", a.loss.last, " ", name_of(a.loss.reason));
  }
}

void World::run(const action::Note& a) {
  if (tracing()) trace("  note ", a.text);
}

void World::run(const action::Reply& a) {
  const auto request = std::ranges::find(requests_, a.request);
  require(request != requests_.end(), "an answer to nobody's question:", a.request);
  requests_.erase(request);
  if (tracing()) trace("  reply ", a.request, " ", a.text);
}

void World::run(const action::StopDone&) {
  require(stopping_, "stopped without being asked");
  if (tracing()) trace("STOPPED");
  check_stopped();
  commits_.clear();
  damaged_ = unreported_ || damage_is_latched();
  for (Sink& sink : sinks_) sink.lose_broker();
  producer_.lose_broker();
  requests_.clear();
  stopping_ = false;
  retired_ = std::move(machine_);
  schedule(random_.delay(), What::start_broker);
}

}  // namespace spillway::simulation
