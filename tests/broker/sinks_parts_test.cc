// The pure pieces of the sinks: joining parts, counting acknowledgements, gathering bytes.
#include <gtest/gtest.h>

#include <string>

#include "broker/sinks/ack_map.h"
#include "broker/sinks/chunk.h"
#include "broker/sinks/part_tracker.h"
#include "tests/broker/sinks_support.h"

namespace spillway::broker::test {
namespace {

using Step = PartTracker::Step;
using config::Framing;

wire::RecordView view(std::string_view payload, std::optional<std::uint64_t> part = {},
                      bool last_part = false) {
  wire::RecordView record;
  record.payload = bytes_of(payload);
  record.part = part;
  record.last_part = last_part;
  return record;
}

TEST(PartTrackerTest, WholeRecordsAndPartsInOrderAreTaken) {
  PartTracker tracker(Framing::lines);
  EXPECT_EQ(tracker.record(1, view("a")), Step::whole);
  EXPECT_EQ(tracker.record(2, view("a", 0)), Step::begins);
  EXPECT_EQ(tracker.record(3, view("bc", 1)), Step::continues);
  EXPECT_EQ(tracker.record(4, view("d", 2, true)), Step::completes);
  EXPECT_EQ(tracker.payload_bytes(), 4U);
  EXPECT_EQ(tracker.record(5, view("a", 0, true)), Step::whole);
  EXPECT_TRUE(tracker.skip());
  EXPECT_FALSE(tracker.abandoned());
}

TEST(PartTrackerTest, ANewlineIsRefusedInLinesOnly) {
  PartTracker lines(Framing::lines);
  EXPECT_EQ(lines.record(1, view("a\nb")), Step::refuse);
  EXPECT_EQ(lines.refused().first, 1U);
  EXPECT_EQ(lines.refused().last, 1U);
  PartTracker lengths(Framing::length_prefixed);
  EXPECT_EQ(lengths.record(1, view("a\nb")), Step::whole);
}

TEST(PartTrackerTest, ARefusalOfARecordInPartsNamesAllOfThem) {
  PartTracker tracker(Framing::lines);
  EXPECT_EQ(tracker.record(4, view("a", 0)), Step::begins);
  EXPECT_EQ(tracker.record(5, view("\n", 1)), Step::hold);
  EXPECT_EQ(tracker.record(6, view("c", 2)), Step::hold);
  EXPECT_EQ(tracker.record(7, view("d", 3, true)), Step::refuse);
  EXPECT_EQ(tracker.refused().first, 4U);
  EXPECT_EQ(tracker.refused().last, 7U);
  EXPECT_EQ(tracker.record(8, view("e")), Step::whole);
}

TEST(PartTrackerTest, ALengthOf32BitsIsTheMost) {
  // The bytes are never looked at: only a size is needed.
  const std::byte byte{};
  wire::RecordView record;
  PartTracker tracker(Framing::length_prefixed);
  record.payload = {&byte, 0xffffffff};
  EXPECT_EQ(tracker.record(1, record), Step::whole);
  record.payload = {&byte, 0x100000000};
  EXPECT_EQ(tracker.record(2, record), Step::refuse);
  record.payload = {&byte, 0xffffffff};
  record.part = 0;
  EXPECT_EQ(tracker.record(3, record), Step::begins);
  record.payload = {&byte, 1};
  record.part = 1;
  record.last_part = true;
  EXPECT_EQ(tracker.record(4, record), Step::refuse);
}

TEST(PartTrackerTest, ARecordThatItsProducerNeverFinishedIsAbandoned) {
  PartTracker tracker(Framing::lines);
  EXPECT_EQ(tracker.record(1, view("a", 0)), Step::begins);
  EXPECT_EQ(tracker.record(2, view("b", 1)), Step::continues);
  EXPECT_EQ(tracker.record(3, view("c")), Step::whole);
  EXPECT_EQ(tracker.abandoned(), 2U);
  EXPECT_EQ(tracker.record(4, view("d", 0)), Step::begins);
  EXPECT_FALSE(tracker.abandoned());
  EXPECT_EQ(tracker.record(5, view("e", 0)), Step::begins);
  EXPECT_EQ(tracker.abandoned(), 4U);
}

TEST(PartTrackerTest, PartsWithoutTheirBeginningOrTheirEndAreRefused) {
  PartTracker tracker(Framing::lines);
  EXPECT_EQ(tracker.record(5, view("c", 2)), Step::hold);
  EXPECT_EQ(tracker.record(6, view("d", 3, true)), Step::refuse);
  EXPECT_EQ(tracker.refused().first, 5U);
  EXPECT_EQ(tracker.refused().last, 6U);
  EXPECT_EQ(tracker.record(7, view("a", 0)), Step::begins);
  EXPECT_FALSE(tracker.skip());
  EXPECT_EQ(tracker.refused().first, 7U);
  EXPECT_EQ(tracker.refused().last, 7U);
}

TEST(AckMapTest, PlainRecordsAreAcknowledgedOneByOne) {
  AckMap map;
  for (Offset offset = 11; offset <= 20; ++offset) {
    map.add(offset);
  }
  EXPECT_EQ(map.added(), 10U);
  EXPECT_FALSE(map.take(0));
  EXPECT_EQ(map.take(3), 13U);
  EXPECT_FALSE(map.take(3));
  EXPECT_EQ(map.take(10), 20U);
  EXPECT_TRUE(map.all_taken());
}

TEST(AckMapTest, AGroupCountsAsAWholeAndASkipWithWhatIsBeforeIt) {
  AckMap map;
  map.add(1);
  map.add_group(1, 4);  // three parts of one record
  map.add_group(0, 9);  // a skip
  map.add(10);
  EXPECT_EQ(map.take(1), 1U);
  EXPECT_EQ(map.take(2), 9U);
  EXPECT_EQ(map.take(3), 10U);
}

TEST(AckMapTest, ASkipWithNothingBeforeItIsTakenAtOnce) {
  AckMap map;
  map.add_group(0, 5);
  EXPECT_EQ(map.take(0), 5U);
  map.add_group(100, 8);
  EXPECT_FALSE(map.take(99));
  EXPECT_EQ(map.take(100), 8U);
}

std::string text_of(const Chunk& chunk) {
  std::string text;
  for (const auto& buffer : chunk.buffers()) {
    text.append(static_cast<const char*>(buffer.data()), buffer.size());
  }
  return text;
}

TEST(ChunkTest, SmallPiecesShareABufferAndLargeOnesAreReferenced) {
  Chunk chunk;
  const std::string large(Chunk::kCopyBytes + 1, 'x');
  chunk.add(bytes_of("ab"));
  chunk.add_newline();
  chunk.add(bytes_of("cd"));
  chunk.add(bytes_of(large));
  chunk.add_newline();
  EXPECT_EQ(chunk.buffers().size(), 3U);
  EXPECT_EQ(chunk.bytes(), 6 + large.size());
  EXPECT_EQ(text_of(chunk), "ab\ncd" + large + "\n");
  chunk.clear();
  EXPECT_EQ(chunk.bytes(), 0U);
}

TEST(ChunkTest, MorePiecesThanTheBufferHoldsKeepTheirOrder) {
  Chunk chunk;
  std::string expected;
  const std::string piece(Chunk::kCopyBytes, 'p');
  chunk.add_length(0x04030201);
  expected += "\x01\x02\x03\x04";
  while (chunk.bytes() < 2 * Chunk::kBytes) {
    EXPECT_EQ(chunk.full(), chunk.bytes() >= Chunk::kBytes);
    chunk.add(bytes_of(piece));
    chunk.add_newline();
    expected += piece + "\n";
  }
  EXPECT_EQ(text_of(chunk), expected);
}

}  // namespace
}  // namespace spillway::broker::test
