#include "client/outbox.h"

#include <gtest/gtest.h>

#include <random>

#include "wire/batch.h"

namespace spillway::client {
namespace {

constexpr std::uint64_t kAll = std::uint64_t{1} << 40;

Position append(Outbox& outbox, std::string_view payload, wire::Group group = wire::Group::none) {
  wire::RecordFields fields;
  fields.payload = std::as_bytes(std::span(payload));
  fields.group = group;
  return outbox.append(fields);
}

// The payloads of a run, with every CRC checked.
std::string payloads(const RecordRun& run) {
  std::string text;
  wire::RecordReader reader(run.records, run.first);
  for (wire::RecordView record; reader.next(record);) {
    EXPECT_TRUE(wire::crc_matches(record));
    text.append(reinterpret_cast<const char*>(record.payload.data()), record.payload.size());
  }
  EXPECT_EQ(reader.error(), nullptr);
  return text;
}

TEST(Outbox, GivesPositionsInOrderAndRunsOfWhatFollows) {
  Outbox outbox;
  outbox.begin_at({5, 11}, std::nullopt);
  EXPECT_EQ(append(outbox, "a"), (Position{5, 11}));
  EXPECT_EQ(append(outbox, "b"), (Position{5, 12}));
  EXPECT_EQ(append(outbox, "c"), (Position{5, 13}));
  const RecordRun all = outbox.run_after(0, kAll, false, false).value();
  EXPECT_EQ(payloads(all), "abc");
  EXPECT_EQ(all.count, 3u);
  EXPECT_FALSE(all.previous);
  const RecordRun rest = outbox.run_after(1, kAll, false, false).value();
  EXPECT_EQ(payloads(rest), "bc");
  EXPECT_EQ(rest.first, (Position{5, 12}));
  EXPECT_FALSE(outbox.run_after(3, kAll, true, false));
}

TEST(Outbox, ARunFillsItsBytesAndNoMore) {
  Outbox outbox;
  outbox.begin_at({5, 1}, std::nullopt);
  append(outbox, "a");
  append(outbox, "b");
  const std::uint64_t bytes = outbox.bytes_through(1);
  EXPECT_FALSE(outbox.run_after(0, bytes - 1, false, false));
  EXPECT_EQ(outbox.run_after(0, bytes - 1, true, false)->count, 1u);
  EXPECT_EQ(outbox.run_after(0, bytes, false, false)->count, 1u);
  EXPECT_EQ(outbox.run_after(0, 2 * bytes, false, false)->count, 2u);
}

TEST(Outbox, OnlyContinuingRecordsEndAtTheFirstThatBegins) {
  Outbox outbox;
  outbox.begin_at({5, 1}, std::nullopt);
  append(outbox, "a", wire::Group::begins);
  append(outbox, "b", wire::Group::continues);
  append(outbox, "c", wire::Group::ends);
  append(outbox, "d");
  EXPECT_FALSE(outbox.run_after(0, kAll, true, true));
  EXPECT_EQ(payloads(*outbox.run_after(1, kAll, true, true)), "bc");
  EXPECT_FALSE(outbox.run_after(3, kAll, true, true));
}

TEST(Outbox, AnEpochBeginsARunOfItsOwnThatNamesWhatWasBefore) {
  Outbox outbox;
  outbox.begin_at({5, 7}, std::nullopt);
  append(outbox, "a");
  outbox.begin_at({9, 1}, Position{5, 7});
  append(outbox, "b");
  const RecordRun first = outbox.run_after(0, kAll, true, false).value();
  EXPECT_EQ(payloads(first), "a");
  const RecordRun second = outbox.run_after(1, kAll, true, false).value();
  EXPECT_EQ(second.first, (Position{9, 1}));
  EXPECT_EQ(second.previous, (Position{5, 7}));
  EXPECT_EQ(outbox.position_of(1), (Position{5, 7}));
  EXPECT_EQ(outbox.next_position(), (Position{9, 2}));
}

TEST(Outbox, FindsTheRecordAtOrBeforeAPosition) {
  Outbox outbox;
  outbox.begin_at({5, 7}, std::nullopt);
  append(outbox, "a");
  append(outbox, "b");
  outbox.begin_at({9, 1}, Position{5, 8});
  EXPECT_EQ(outbox.index_of({9, 0}), 2u);
  EXPECT_EQ(outbox.index_of({9, 5}), 2u);
  append(outbox, "c");
  EXPECT_EQ(outbox.index_of({4, 99}), 0u);
  EXPECT_EQ(outbox.index_of({5, 6}), 0u);
  EXPECT_EQ(outbox.index_of({5, 7}), 1u);
  EXPECT_EQ(outbox.index_of({5, 99}), 2u);
  EXPECT_EQ(outbox.index_of({7, 1}), 2u);
  EXPECT_EQ(outbox.index_of({9, 1}), 3u);
  EXPECT_EQ(outbox.index_of({9, 99}), 3u);
  EXPECT_EQ(outbox.index_of({10, 1}), 3u);
}

TEST(Outbox, RenumberingMovesWhatFollowsIntoTheNewEpoch) {
  Outbox outbox;
  outbox.begin_at({5, 1}, std::nullopt);
  for (const char* payload : {"a", "b", "c", "d"}) append(outbox, payload);
  outbox.acknowledge(1);
  outbox.renumber_after(2, 9, Position{5, 2});
  EXPECT_EQ(payloads(*outbox.run_after(1, kAll, true, false)), "b");
  const RecordRun moved = outbox.run_after(2, kAll, true, false).value();
  EXPECT_EQ(payloads(moved), "cd");
  EXPECT_EQ(moved.first, (Position{9, 1}));
  EXPECT_EQ(moved.previous, (Position{5, 2}));
  EXPECT_EQ(append(outbox, "e"), (Position{9, 3}));
  // The positions that were given up still mean these records.
  EXPECT_EQ(outbox.index_of({5, 2}), 2u);
  EXPECT_EQ(outbox.index_of({5, 3}), 3u);
  EXPECT_EQ(outbox.index_of({5, 4}), 4u);
  EXPECT_EQ(outbox.index_of({9, 2}), 4u);
}

TEST(Outbox, KeptBytesFallToTheByteWithAcknowledgements) {
  Outbox outbox;
  outbox.begin_at({5, 1}, std::nullopt);
  append(outbox, "a");
  const std::uint64_t one = outbox.kept_bytes();
  append(outbox, "bbbb");
  EXPECT_EQ(outbox.kept_bytes(), 2 * one + 3);
  outbox.acknowledge(1);
  EXPECT_EQ(outbox.kept_bytes(), one + 3);
  outbox.acknowledge(2);
  EXPECT_EQ(outbox.kept_bytes(), 0u);
}

TEST(Outbox, WhatIsPinnedStaysReadableAfterItsAcknowledgement) {
  Outbox outbox;
  outbox.begin_at({5, 1}, std::nullopt);
  const std::string large(Outbox::kChunkBytes, 'x');
  append(outbox, large);
  append(outbox, "b");
  const RecordRun run = outbox.run_after(0, kAll, true, false).value();
  ASSERT_EQ(run.count, 1u);
  outbox.pin(0);
  outbox.acknowledge(2);
  EXPECT_EQ(payloads(run), large);
  append(outbox, "c");
  outbox.unpin();
  EXPECT_EQ(payloads(*outbox.run_after(2, kAll, true, false)), "c");
}

TEST(Outbox, AnyMixOfAppendingSendingAndAcknowledgingKeepsTheOrder) {
  std::mt19937_64 random(3);
  Outbox outbox;
  outbox.begin_at({5, 1}, std::nullopt);
  const std::string filler(90'000, 'x');
  Index sent = 0;
  std::vector<std::string> published{""};
  for (int step = 0; step < 20'000; ++step) {
    switch (random() % 4) {
      case 0:
      case 1: {
        const std::size_t size = random() % 50 == 0 ? random() % filler.size() : random() % 40;
        published.push_back(std::to_string(published.size()) + filler.substr(0, size));
        append(outbox, published.back());
        break;
      }
      case 2: {
        const auto run = outbox.run_after(sent, random() % 300'000, random() % 2 == 0, false);
        if (!run) break;
        std::string expected;
        for (Index i = sent + 1; i <= run->last; ++i) expected += published[i];
        ASSERT_EQ(payloads(*run), expected);
        sent = run->last;
        break;
      }
      default:
        outbox.acknowledge(outbox.acknowledged() +
                           random() % (sent - outbox.acknowledged() + 1));
        if (random() % 100 == 0) sent = outbox.acknowledged();  // a reconnect
        break;
    }
  }
  EXPECT_GT(outbox.acknowledged(), 1000u);
}

}  // namespace
}  // namespace spillway::client
