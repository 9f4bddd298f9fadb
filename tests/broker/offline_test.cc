// Changes to the store of a broker that does not run.
#include "broker/offline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <utility>

#include "broker/state_codec.h"
#include "journal/inspect.h"
#include "journal/journal.h"
#include "tests/temp_dir.h"

namespace spillway::broker::offline {
namespace {

using journal::LedgerEntry;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;

constexpr std::uint64_t kEpoch = 7;
constexpr Offset kEnd = 20;

// A stream "s" of 20 records, from 1 on, whose sink "t" has taken five, and from the eleventh on
// lets all go.
class Offline : public testing::Test {
 protected:
  void SetUp() override {
    config_.data_dir = folder_.path() / "data";
    config_.journal.min_free_disk = 0;
    config::Stream stream;
    stream.name = "s";
    config::Sink sink;
    sink.name = "t";
    stream.sinks = {sink};
    config_.streams = {stream};
    state_.epochs = {{kEpoch, 0}};
    state_.epoch_newest = kEpoch;
    state_.open = true;
    state_.first = 1;
    state_.next_ledger_id = 5;
    state_.sinks.resize(1);
    state_.sinks[0].name = "t";
    state_.sinks[0].cursor = 10;
    state_.sinks[0].dropping = true;
    state_.sinks[0].drop_first = 11;
    state_.sinks[0].drop_reason = LossReason::outage;
    state_.sinks[0].drop_entry = 4;
  }

  // As a broker leaves it that was stopped.
  void store(Offset end) {
    journal::Options options;
    options.data_dir = config_.data_dir;
    options.streams = {"s"};
    options.min_free_disk = 0;
    auto journal = journal::Journal::open(options, {});
    ASSERT_TRUE(journal) << journal.error().message;
    journal::Commit commit;
    commit.stream = "s";
    for (Offset i = 1; i <= end; ++i) commit.append.push_back(record(i));
    commit.state = encode_state(state_);
    LedgerEntry growing;
    growing.id = 4;
    growing.sink = "t";
    growing.first = {kEpoch, state_.sinks[0].drop_first};
    growing.reason = LossReason::outage;
    commit.ledger = {growing};
    std::promise<journal::Outcome> done;
    (*journal)->commit(std::move(commit), [&](journal::Outcome o) { done.set_value(o); });
    ASSERT_EQ(done.get_future().get(), journal::Outcome::ok);
  }
  static BlockPtr record(Offset offset) {
    static const std::byte kBytes[10] = {};
    auto block = std::make_shared<Block>();
    block->first = offset;
    block->position = {kEpoch, offset};
    block->count = 1;
    block->running_bytes = offset * sizeof kBytes;
    block->records = kBytes;
    return block;
  }

  std::vector<LedgerEntry> ledger() const {  // newest first
    const auto opened = journal::Inspector::open(config_.data_dir);
    EXPECT_TRUE(opened) << opened.error().message;
    return *(*opened)->ledger("s", 100);
  }
  recovery::DurableState stored() const {
    const auto opened = journal::Inspector::open(config_.data_dir);
    EXPECT_TRUE(opened) << opened.error().message;
    return *decode_state(*(*opened)->streams().at(0).state);
  }
  static auto entry(std::uint64_t id, Offset first, Offset last, LossReason reason) {
    return AllOf(Field(&LedgerEntry::id, id), Field(&LedgerEntry::first, Position{kEpoch, first}),
                 Field(&LedgerEntry::last, Position{kEpoch, last}),
                 Field(&LedgerEntry::count, last + 1 - first), Field(&LedgerEntry::reason, reason));
  }

  TempDir folder_;
  config::Config config_;
  recovery::DurableState state_;
};

TEST_F(Offline, a_sink_that_is_forgotten_while_it_drops_ends_its_entry_and_counts_nothing_twice) {
  store(kEnd);
  const auto done = forget_sink(config_, "s", "t", false);
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(*done, "sink t of stream s is forgotten");
  EXPECT_THAT(ledger(), ElementsAre(entry(4, 11, kEnd, LossReason::outage)));
  EXPECT_TRUE(stored().sinks.empty());
}

TEST_F(Offline, a_sink_that_is_reset_while_it_drops_ends_its_entry_and_counts_nothing_twice) {
  store(kEnd);
  const auto done = reset_sink(config_, "s", "t", Position{kEpoch, 18}, false);
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(*done, "sink t of stream s goes on after 7/17");
  EXPECT_THAT(ledger(), ElementsAre(entry(4, 11, kEnd, LossReason::outage)));
  const recovery::SinkState sink = stored().sinks.at(0);
  EXPECT_FALSE(sink.dropping);
  EXPECT_EQ(sink.cursor, 17u);
}

TEST_F(Offline, a_drop_that_has_let_nothing_go_yet_ends_as_an_empty_range) {
  store(10);
  ASSERT_TRUE(forget_sink(config_, "s", "t", false));
  EXPECT_THAT(ledger(), ElementsAre(entry(4, 11, 10, LossReason::outage)));
}

TEST_F(Offline, a_drop_of_what_was_never_journaled_ends_at_the_last_checkpoint) {
  state_.open = false;
  state_.closed_end = 10;
  state_.checkpoint.at = 15;
  store(10);
  ASSERT_TRUE(reset_sink(config_, "s", "t", std::nullopt, false));
  EXPECT_THAT(ledger(), ElementsAre(entry(4, 11, 15, LossReason::outage)));
  EXPECT_FALSE(stored().sinks.at(0).dropping);
}

TEST_F(Offline, what_a_sink_has_not_taken_is_in_the_ledger_once_around_what_it_skips) {
  state_.sinks[0].cursor = 5;
  state_.sinks[0].skips = {{8, 8, LossReason::rejected}};
  store(kEnd);
  const auto refused = reset_sink(config_, "s", "t", Position{kEpoch, kEnd}, false);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("--accept-drop"));
  EXPECT_TRUE(stored().sinks.at(0).dropping);
  const auto done = reset_sink(config_, "s", "t", Position{kEpoch, kEnd}, true);
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_THAT(*done, HasSubstr("; 4 records were let go"));
  EXPECT_THAT(ledger(),
              ElementsAre(entry(6, 9, 10, LossReason::reset), entry(5, 6, 7, LossReason::reset),
                          entry(4, 11, kEnd, LossReason::outage)));
}

// The run after it is to halt the stream: nobody knows what was in the latch.
TEST_F(Offline, a_latch_that_was_lost_is_still_missed_after_a_change) {
  store(kEnd);
  std::filesystem::remove(config_.data_dir / "latch" / "s");
  ASSERT_TRUE(forget_sink(config_, "s", "t", true));
  journal::Options options;
  options.data_dir = config_.data_dir;
  options.streams = {"s"};
  options.min_free_disk = 0;
  for (const bool written : {false, true}) {
    const auto journal = journal::Journal::open(options, {});
    ASSERT_TRUE(journal) << journal.error().message;
    const auto& damage = (*journal)->recovered().at(0).damage;
    EXPECT_EQ(damage.value_or(""), written ? "" : "neither slot of its latch file is intact");
    std::promise<bool> done;
    (*journal)->write_latch("s", "damaged", [&](bool ok) { done.set_value(ok); });
    ASSERT_TRUE(done.get_future().get());
  }
}

}  // namespace
}  // namespace spillway::broker::offline
