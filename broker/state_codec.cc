#include "broker/state_codec.h"

#include <algorithm>

#include "broker/state.pb.h"
#include "journal/journal.h"

namespace spillway::broker {

namespace {

using recovery::DurableState;
using recovery::HaltCause;

Error unknown_format(std::string_view what, std::uint32_t format) {
  return Error{std::string(what) + " is of format " + std::to_string(format) +
               ", and this version knows only format " + std::to_string(kStateFormat) +
               "; run the version that wrote it"};
}

Result<LossReason> reason_of(std::uint32_t number) {
  if (number < 1 || number > kLossReasons) {
    return Error{"the stored state names a reason of loss that does not exist, " +
                 std::to_string(number)};
  }
  return static_cast<LossReason>(number);
}

}  // namespace

std::string encode_state(const DurableState& state) {
  state::StreamState out;
  out.set_format(kStateFormat);
  out.set_revision(state.revision);
  for (const recovery::Epoch& epoch : state.epochs) {
    state::Epoch* added = out.add_epochs();
    added->set_number(epoch.number);
    added->set_base(epoch.base);
  }
  out.set_epoch_newest(state.epoch_newest);
  out.set_open(state.open);
  out.set_first(state.first);
  out.set_closed_end(state.closed_end);
  out.set_acks(static_cast<std::uint32_t>(state.acks));
  out.set_quorum(state.quorum);
  out.set_checkpoint(state.checkpoint.at);
  out.set_checkpoint_clean(state.checkpoint.clean);
  out.set_mark_offset(state.mark_offset);
  out.set_mark(state.mark);
  out.set_generation(state.generation);
  out.set_next_ledger_id(state.next_ledger_id);
  out.set_clean_stop(state.clean_stop);
  for (const recovery::SinkState& sink : state.sinks) {
    state::SinkState* added = out.add_sinks();
    added->set_name(sink.name);
    added->set_identity(sink.identity);
    added->set_cursor(sink.cursor);
    for (const recovery::SkipRange& skip : sink.skips) {
      state::SkipRange* range = added->add_skips();
      range->set_first(skip.first);
      range->set_last(skip.last);
      range->set_reason(static_cast<std::uint32_t>(skip.reason));
    }
    added->set_dropping(sink.dropping);
    added->set_drop_first(sink.drop_first);
    added->set_drop_reason(static_cast<std::uint32_t>(sink.drop_reason));
    added->set_drop_entry(sink.drop_entry);
    added->set_outage_since(sink.outage_since);
    added->set_paused(sink.paused);
    added->set_paused_since(sink.paused_since);
    added->set_parked(sink.parked);
    added->set_unresolved(sink.unresolved);
    added->set_dead_letter_bytes(sink.dead_letter_bytes);
  }
  return out.SerializeAsString();
}

Result<DurableState> decode_state(std::string_view bytes) {
  state::StreamState in;
  if (!in.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return Error{"the stored state of the stream cannot be read"};
  }
  if (in.format() != kStateFormat) return unknown_format("the stored state", in.format());
  if (in.acks() < 1 || in.acks() > 3) {
    return Error{"the stored state names an acks policy that does not exist"};
  }
  DurableState state;
  state.revision = in.revision();
  for (const auto& epoch : in.epochs()) state.epochs.push_back({epoch.number(), epoch.base()});
  state.epoch_newest = in.epoch_newest();
  state.open = in.open();
  state.first = in.first();
  state.closed_end = in.closed_end();
  state.acks = static_cast<recovery::Acks>(in.acks());
  state.quorum = in.quorum();
  state.checkpoint.at = in.checkpoint();
  state.checkpoint.clean = in.checkpoint_clean();
  state.mark_offset = in.mark_offset();
  state.mark = in.mark();
  state.generation = in.generation();
  state.next_ledger_id = in.next_ledger_id();
  state.clean_stop = in.clean_stop();
  for (const auto& stored : in.sinks()) {
    recovery::SinkState sink;
    sink.name = stored.name();
    sink.identity = stored.identity();
    sink.cursor = stored.cursor();
    for (const auto& skip : stored.skips()) {
      const auto reason = reason_of(skip.reason());
      if (!reason) return reason.error();
      sink.skips.push_back({skip.first(), skip.last(), *reason});
    }
    sink.dropping = stored.dropping();
    sink.drop_first = stored.drop_first();
    const auto reason = reason_of(stored.drop_reason());
    if (!reason) return reason.error();
    sink.drop_reason = *reason;
    sink.drop_entry = stored.drop_entry();
    sink.outage_since = stored.outage_since();
    sink.paused = stored.paused();
    sink.paused_since = stored.paused_since();
    sink.parked = stored.parked();
    sink.unresolved = stored.unresolved();
    sink.dead_letter_bytes = stored.dead_letter_bytes();
    state.sinks.push_back(std::move(sink));
  }
  return state;
}

std::string encode_latch(const std::vector<HaltCause>& causes) {
  constexpr std::size_t kEnvelope = 256;  // of one cause without its text, the sink's name included
  const std::size_t most = causes.empty() ? 0 : journal::kMaxLatchBytes / causes.size();
  const std::size_t text_bytes = most > kEnvelope ? most - kEnvelope : 0;
  state::Latch out;
  out.set_format(kStateFormat);
  for (const HaltCause& cause : causes) {
    state::HaltCause* added = out.add_causes();
    added->set_kind(static_cast<std::uint32_t>(cause.kind));
    added->set_sink(cause.sink);
    added->set_epoch(cause.position.epoch);
    added->set_sequence(cause.position.sequence);
    added->set_since(cause.since);
    added->set_text(cause.text.substr(0, text_bytes));
  }
  return out.SerializeAsString();
}

Result<std::vector<HaltCause>> decode_latch(std::string_view bytes) {
  state::Latch in;
  if (!in.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return Error{"the latch file of the stream cannot be read"};
  }
  if (in.format() != kStateFormat) return unknown_format("the latch file", in.format());
  std::vector<HaltCause> causes;
  for (const auto& stored : in.causes()) {
    if (stored.kind() < 1 || stored.kind() > recovery::kCauseKinds) {
      return Error{"the latch file names a cause that does not exist, " +
                   std::to_string(stored.kind())};
    }
    HaltCause cause;
    cause.kind = static_cast<recovery::CauseKind>(stored.kind());
    cause.sink = stored.sink();
    cause.position = {stored.epoch(), stored.sequence()};
    cause.since = stored.since();
    cause.text = stored.text();
    causes.push_back(std::move(cause));
  }
  return causes;
}

}  // namespace spillway::broker
