// The parts of the shell that need no socket: stored state, window, runs, tokens.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "broker/descriptors.h"
#include "broker/ingress.h"
#include "broker/run.h"
#include "broker/state_codec.h"
#include "broker/window.h"
#include "journal/journal.h"
#include "wire/batch.h"
#include "wire/record.h"

namespace spillway::broker {
namespace {

recovery::DurableState full_state() {
  recovery::DurableState state;
  state.revision = 7;
  state.epochs = {{100, 0}, {200, 55}};
  state.epoch_newest = 201;
  state.open = true;
  state.first = 60;
  state.closed_end = 59;
  state.acks = recovery::Acks::quorum;
  state.quorum = 2;
  state.checkpoint.at = 70;
  state.mark_offset = 66;
  state.mark = std::string("height\0 12", 10);
  state.generation = 3;
  state.next_ledger_id = 9;
  state.clean_stop = true;
  recovery::SinkState sink;
  sink.name = "warehouse";
  sink.identity = "tcp warehouse:5432";
  sink.cursor = 61;
  sink.skips = {{62, 63, LossReason::rejected}, {65, 66, LossReason::limit}};
  sink.dropping = true;
  sink.drop_first = 70;
  sink.drop_reason = LossReason::outage;
  sink.drop_entry = 8;
  sink.outage_since = 1'700'000'000'000;
  sink.paused = true;
  sink.parked = "it said no";
  sink.unresolved = true;
  sink.dead_letter_bytes = 1234;
  state.sinks = {sink, {}};
  return state;
}

TEST(StateCodec, GivesBackEveryFieldOfAState) {
  const auto state = full_state();
  const auto decoded = decode_state(encode_state(state));
  ASSERT_TRUE(decoded) << decoded.error().message;
  EXPECT_EQ(*decoded, state);
}

TEST(StateCodec, RefusesWhatIsNotAStateWithAReason) {
  EXPECT_FALSE(decode_state("\xff\xff\xff"));
  const auto empty = decode_state("");
  ASSERT_FALSE(empty);
  EXPECT_NE(empty.error().message.find("format 0"), std::string::npos) << empty.error().message;
}

TEST(StateCodec, RefusesAFormatThatItDoesNotKnowByNumber) {
  std::string bytes = encode_state(full_state());
  ASSERT_EQ(bytes[1], 1);  // tag of `format`, then its value
  bytes[1] = 2;
  const auto decoded = decode_state(bytes);
  ASSERT_FALSE(decoded);
  EXPECT_NE(decoded.error().message.find("format 2"), std::string::npos);
}

TEST(LatchCodec, GivesBackEveryCause) {
  const std::vector<recovery::HaltCause> causes = {
      {recovery::CauseKind::max_bytes, "warehouse", {100, 7}, 42, "max_bytes of warehouse"},
      {recovery::CauseKind::gap, "", {100, 9}, 43, "a gap"}};
  const auto decoded = decode_latch(encode_latch(causes));
  ASSERT_TRUE(decoded) << decoded.error().message;
  EXPECT_EQ(*decoded, causes);
}

TEST(LatchCodec, CutsTextsSoThatALatchFitsItsSlot) {
  std::vector<recovery::HaltCause> causes;
  for (int i = 0; i < 20; ++i) {
    causes.push_back(
        {recovery::CauseKind::max_age, std::string(64, 's'), {1, 1}, 1, std::string(5000, 't')});
  }
  const std::string bytes = encode_latch(causes);
  EXPECT_LE(bytes.size(), journal::kMaxLatchBytes);
  ASSERT_TRUE(decode_latch(bytes));
  EXPECT_EQ(decode_latch(bytes)->size(), causes.size());
}

// --- runs and the window
// --------------------------------------------------------------------------

struct Batch {
  std::string bytes;
  wire::BatchView view;
  std::vector<wire::RecordShape> shapes;

  Batch(std::uint64_t first, const std::vector<std::string>& payloads) {
    for (std::size_t i = 0; i < payloads.size(); ++i) {
      wire::RecordFields fields;
      fields.payload = std::as_bytes(std::span(payloads[i]));
      wire::append_record(bytes, fields, {100, first + i});
    }
    view.epoch = 100;
    view.first_sequence = first;
    view.count = payloads.size();
    view.records = std::as_bytes(std::span(bytes));
    wire::PartState parts;
    std::optional<wire::NewestMark> mark;
    EXPECT_FALSE(wire::scan_records(view, 1 << 20, parts, shapes, mark));
  }
};

std::vector<std::string> payloads_of(const Block& block) {
  std::vector<std::string> payloads;
  wire::RecordReader reader(block.records, block.position);
  for (wire::RecordView record; reader.next(record);) {
    payloads.emplace_back(reinterpret_cast<const char*>(record.payload.data()),
                          record.payload.size());
  }
  return payloads;
}

TEST(Run, JoinsBatchesIntoOneBlockByteForByte) {
  const Batch one(1, {"a", "b"});
  const Batch two(3, {"c"});
  broker::Run run;
  run.append(one.view, one.shapes, std::nullopt);
  ASSERT_TRUE(run.fits(two.view));
  run.append(two.view, two.shapes, std::nullopt);
  const auto event = run.event(SessionId{1});
  EXPECT_EQ(event.count, 3U);
  EXPECT_EQ(event.records.size(), 3U);
  EXPECT_EQ(event.bytes, one.bytes.size() + two.bytes.size());
  const BlockPtr block = run.block(0, 3, 11, {100, 1}, 500, 9);
  EXPECT_EQ(block->first, 11U);
  EXPECT_EQ(block->last(), 13U);
  EXPECT_EQ(block->running_bytes, 500U);
  EXPECT_EQ(payloads_of(*block), (std::vector<std::string>{"a", "b", "c"}));
}

TEST(Run, TakesAnyPartOfItselfAcrossBatches) {
  const Batch one(1, {"a", "bb"});
  const Batch two(3, {"ccc", "dddd"});
  broker::Run run;
  run.append(one.view, one.shapes, std::nullopt);
  run.append(two.view, two.shapes, std::nullopt);
  for (std::uint64_t skip = 0; skip < 4; ++skip) {
    for (std::uint64_t count = 1; skip + count <= 4; ++count) {
      const std::vector<std::string> all = {"a", "bb", "ccc", "dddd"};
      const auto begin = all.begin() + static_cast<std::ptrdiff_t>(skip);
      const BlockPtr block = run.block(skip, count, 1 + skip, {100, 1 + skip}, 99, 9);
      EXPECT_EQ(payloads_of(*block),
                std::vector<std::string>(begin, begin + static_cast<std::ptrdiff_t>(count)));
    }
  }
}

TEST(Run, DoesNotJoinWhatDoesNotFollow) {
  const Batch one(1, {"a"});
  const Batch apart(3, {"c"});
  broker::Run run;
  run.append(one.view, one.shapes, std::nullopt);
  EXPECT_FALSE(run.fits(apart.view));
  wire::BatchView skip = Batch(2, {"b"}).view;
  skip.skip = LossReason::limit;
  EXPECT_FALSE(run.fits(skip));
}

TEST(Run, FindsTheFirstRecordThatDiffersFromWhatIsHere) {
  const Batch held(1, {"a", "b", "c"});
  broker::Run here;
  here.append(held.view, held.shapes, std::nullopt);
  const BlockPtr block = here.block(0, 3, 1, {100, 1}, 0, 0);
  const Batch again(2, {"b", "c"});
  broker::Run same;
  same.append(again.view, again.shapes, std::nullopt);
  EXPECT_FALSE(same.first_difference(0, 2, *block, 2));
  const Batch forked(2, {"b", "C"});
  broker::Run other;
  other.append(forked.view, forked.shapes, std::nullopt);
  EXPECT_EQ(other.first_difference(0, 2, *block, 2), (Position{100, 3}));
}

TEST(Run, FindsAForkInWhatOfItIsHereAlreadyWhateverComesBehind) {
  Window window;
  for (std::uint64_t first = 1; first <= 7; first += 3) {
    const Batch batch(first, {"a", "b", "c"});
    broker::Run run;
    run.append(batch.view, batch.shapes, std::nullopt);
    window.push(run.block(0, 3, first, {100, first}, 0, 0));
  }
  const Batch one(5, {"b", "c"});
  const Batch two(7, {"a", "B", "c", "new", "more"});
  broker::Run run;
  run.append(one.view, one.shapes, std::nullopt);
  run.append(two.view, two.shapes, std::nullopt);
  EXPECT_EQ(run.fork_in(window, 5, 9), (Position{100, 8}));
  EXPECT_EQ(run.fork_in(window, 5, 7), std::nullopt);
  window.evict(9);
  EXPECT_EQ(run.fork_in(window, 5, 9), std::nullopt);
}

TEST(Run, LooksForForksOnlyAmongTheRecordsThatAreInMemory) {
  const Offset first = Offset{1} << 62;
  const Batch held(first, {"a", "b", "c"});
  broker::Run here;
  here.append(held.view, held.shapes, std::nullopt);
  Window window;
  window.push(here.block(0, 3, first, {100, first}, 0, 0));
  wire::BatchView all;
  all.epoch = 100;
  all.first_sequence = 1;
  all.count = first + 2;
  all.skip = LossReason::limit;
  broker::Run skip;
  skip.append(all, {}, std::nullopt);
  EXPECT_EQ(skip.fork_in(window, 1, first + 2), std::nullopt);
  const Batch forked(first + 1, {"B"});
  broker::Run other;
  other.append(forked.view, forked.shapes, std::nullopt);
  EXPECT_EQ(other.fork_in(window, first + 1, first + 1), (Position{100, first + 1}));
}

TEST(Window, GivesRunsOfRecordsAndForgetsWholeBlocks) {
  Window window;
  for (std::uint64_t first = 1; first <= 7; first += 3) {
    const Batch batch(first, {"a" + std::to_string(first), "b", "c"});
    broker::Run run;
    run.append(batch.view, batch.shapes, std::nullopt);
    window.push(run.block(0, 3, first, {100, first}, 0, 0));
  }
  EXPECT_TRUE(window.holds(1, 9));
  EXPECT_FALSE(window.holds(1, 10));
  std::vector<BlockPtr> blocks;
  window.collect(3, 7, blocks);
  ASSERT_EQ(blocks.size(), 3U);
  EXPECT_EQ(blocks[0]->first, 3U);
  EXPECT_EQ(blocks[0]->count, 1U);
  EXPECT_EQ(blocks[2]->last(), 7U);
  window.evict(5);  // inside the second block: that one stays
  EXPECT_EQ(window.find(3), nullptr);
  ASSERT_NE(window.find(4), nullptr);
  EXPECT_TRUE(window.holds(4, 9));
}

TEST(Tokens, FitOnlyWhole) {
  const std::vector<std::string> tokens = {"first", "second"};
  EXPECT_TRUE(token_fits("first", tokens));
  EXPECT_TRUE(token_fits("second", tokens));
  EXPECT_FALSE(token_fits("secon", tokens));
  EXPECT_FALSE(token_fits("firstf", tokens));
  EXPECT_FALSE(token_fits("firstfirst", tokens));
  EXPECT_FALSE(token_fits("", tokens));
  EXPECT_FALSE(token_fits("first", {}));
}

TEST(Descriptors, LeaveTheJournalItsOwnBeforeConnectionsGetAny) {
  config::Config config;
  config.ingress.resize(2);
  config.journal.max_disk_bytes = std::uint64_t{10} << 30;
  const std::uint64_t kept = descriptors_kept(config);
  EXPECT_GT(kept, 320u);  // 160 tables, and as many that a trim has not dropped yet
  EXPECT_EQ(connections_per_listener(config, 1 << 20), kMaxConnections);
  const std::uint64_t just_enough = kept + 2 * (kMaxConnections + kMaxRefusals);
  EXPECT_EQ(connections_per_listener(config, just_enough), kMaxConnections);
  EXPECT_EQ(connections_per_listener(config, just_enough - 2), kMaxConnections - 1);
  EXPECT_EQ(connections_per_listener(config, kept), kMinConnections);
  EXPECT_EQ(connections_per_listener(config, 0), kMinConnections);
}

TEST(Descriptors, AreAsManyAsTheProcessMayHave) {
  const std::uint64_t limit = raise_descriptor_limit();
  EXPECT_GE(limit, 256u);
  EXPECT_EQ(raise_descriptor_limit(), limit);
}

}  // namespace
}  // namespace spillway::broker
