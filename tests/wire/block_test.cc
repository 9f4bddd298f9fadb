#include <gtest/gtest.h>

#include "tests/wire/build.h"
#include "wire/batch.h"
#include "wire/frame.h"

namespace spillway::wire {
namespace {

const Position kFirst{6, 11};

BlockPtr block_of(const std::vector<RecordFields>& fields) {
  Scanned scan;
  scan_into(scan, records_of(fields, kFirst), kFirst, fields.size());
  EXPECT_FALSE(scan.refusal);
  return make_block(101, scan.view, scan.shapes, 12345, 1000);
}

TEST(Block, HasACopyOfTheRecordsAndCountsItsBytes) {
  const BlockPtr block = block_of({record_of("a"), record_of("b")});
  EXPECT_EQ(block->first, 101u);
  EXPECT_EQ(block->last(), 102u);
  EXPECT_EQ(block->position, kFirst);
  EXPECT_EQ(block->received_ms, 12345);
  EXPECT_EQ(block->running_bytes, 1000 + block->bytes());
  EXPECT_EQ(text_of(block->records), records_of({record_of("a"), record_of("b")}, kFirst));
  EXPECT_TRUE(block->starts_clean);
  EXPECT_TRUE(block->ends_clean);
}

TEST(Block, KnowsWhetherGroupsAndPartsReachBeyondIt) {
  EXPECT_FALSE(block_of({record_of("a"), record_of("b", Group::begins)})->ends_clean);
  EXPECT_FALSE(block_of({record_of("a", Group::ends)})->starts_clean);
  EXPECT_TRUE(block_of({record_of("a", Group::ends)})->ends_clean);
  EXPECT_FALSE(block_of({part_of("a", 1, false)})->starts_clean);
  EXPECT_FALSE(block_of({part_of("a", 1, false)})->ends_clean);
}

TEST(Block, ItsFrameIsHeaderAndBytesUnchanged) {
  const BlockPtr block = block_of({record_of("a"), record_of("b")});
  const std::string frame =
      batch_frame_header(*block, std::nullopt) + text_of(block->records);
  FrameReader reader;
  const auto room = reader.prepare();
  std::ranges::copy(bytes_of(frame), room.begin());
  reader.commit(frame.size());
  const auto next = reader.next().value();
  ASSERT_TRUE(next);
  ASSERT_TRUE(is_batch(*next));
  const BatchView view = parse_batch(batch_of(*next).value()).value();
  EXPECT_EQ(view.first(), kFirst);
  EXPECT_EQ(view.count, 2u);
  EXPECT_EQ(text_of(view.records), text_of(block->records));
  v1::Frame message;
  ASSERT_TRUE(message.ParseFromArray(frame.data() + 4, static_cast<int>(frame.size() - 4)));
  EXPECT_EQ(message.batch().records_size(), 2);
  EXPECT_EQ(message.batch().records(1).payload(), "b");
}

TEST(Slice, SharesStorageAndIsTheBlockItselfWhenWhole) {
  const BlockPtr block = block_of({record_of("a"), record_of("bb"), record_of("ccc")});
  EXPECT_EQ(slice(block, 101, 103), block);
  const BlockPtr middle = slice(block, 102, 102);
  EXPECT_EQ(middle->first, 102u);
  EXPECT_EQ(middle->count, 1u);
  EXPECT_EQ(middle->position, (Position{6, 12}));
  EXPECT_EQ(middle->storage, block->storage);
  EXPECT_EQ(text_of(middle->records), records_of({record_of("bb")}, {6, 12}));
}

TEST(Slice, RunningBytesAreThoseThroughItsEnd) {
  const BlockPtr block = block_of({record_of("a"), record_of("bb"), record_of("ccc")});
  const BlockPtr head = slice(block, 101, 102);
  const BlockPtr tail = slice(block, 103, 103);
  EXPECT_EQ(head->running_bytes, 1000 + head->bytes());
  EXPECT_EQ(tail->running_bytes, block->running_bytes);
  EXPECT_EQ(head->running_bytes + tail->bytes(), tail->running_bytes);
}

TEST(Slice, FindsAnewWhetherItsEndsAreClean) {
  const BlockPtr block = block_of({record_of("a"), record_of("b", Group::begins),
                                   record_of("c", Group::continues), record_of("d", Group::ends),
                                   part_of("e", 0, false), part_of("f", 1, true)});
  std::string clean;
  for (Offset offset = 101; offset <= 106; ++offset) {
    const BlockPtr one = slice(block, offset, offset);
    clean += one->starts_clean ? 's' : '-';
    clean += one->ends_clean ? 'e' : '-';
  }
  EXPECT_EQ(clean, "ses----es--e");
}

TEST(Slice, OfASkipBlockIsAShorterSkip) {
  Block skip;
  skip.first = 10;
  skip.position = {3, 5};
  skip.count = 10;
  skip.skip = LossReason::limit;
  skip.running_bytes = 77;
  const BlockPtr part = slice(std::make_shared<Block>(skip), 15, 19);
  EXPECT_EQ(part->position, (Position{3, 10}));
  EXPECT_EQ(part->count, 5u);
  EXPECT_EQ(part->skip, LossReason::limit);
  EXPECT_EQ(part->running_bytes, 77u);
}

TEST(BlockBuilder, JoinsBatchesIntoTheBlockThatOneBatchWouldHaveMade) {
  Scanned one;
  Scanned two;
  scan_into(one, records_of({record_of("a"), record_of("b", Group::begins)}, {6, 11}), {6, 11}, 2);
  scan_into(two, records_of({record_of("c", Group::ends)}, {6, 13}), {6, 13}, 1);
  BlockBuilder builder;
  ASSERT_TRUE(builder.fits(one.view));
  builder.append(one.view, one.shapes, 12345);
  ASSERT_TRUE(builder.fits(two.view));
  builder.append(two.view, two.shapes, 99999);
  EXPECT_EQ(builder.count(), 3u);
  const BlockPtr joined = builder.take(101, 1000);
  EXPECT_TRUE(builder.empty());
  const BlockPtr whole =
      block_of({record_of("a"), record_of("b", Group::begins), record_of("c", Group::ends)});
  EXPECT_EQ(text_of(joined->records), text_of(whole->records));
  EXPECT_EQ(joined->count, whole->count);
  EXPECT_EQ(joined->received_ms, whole->received_ms);
  EXPECT_EQ(joined->running_bytes, whole->running_bytes);
  EXPECT_EQ(joined->starts_clean, whole->starts_clean);
  EXPECT_EQ(joined->ends_clean, whole->ends_clean);
}

TEST(BlockBuilder, DoesNotJoinWhatDoesNotBelongTogether) {
  Scanned one;
  scan_into(one, plain_records(2, {6, 11}), {6, 11}, 2);
  BlockBuilder builder;
  builder.append(one.view, one.shapes, 1);
  const auto fits = [&](Position first) {
    Scanned next;
    scan_into(next, plain_records(1, first), first, 1);
    return builder.fits(next.view);
  };
  EXPECT_TRUE(fits({6, 13}));
  EXPECT_FALSE(fits({6, 12}));
  EXPECT_FALSE(fits({6, 14}));
  EXPECT_FALSE(fits({7, 13}));
  BatchView skip{6, 13, 5, {}, LossReason::gap, {}};
  EXPECT_FALSE(builder.fits(skip));
  builder.take(1, 0);
  builder.append(skip, {}, 1);
  EXPECT_FALSE(fits({6, 18}));
  const BlockPtr block = builder.take(3, 50);
  EXPECT_EQ(block->skip, LossReason::gap);
  EXPECT_EQ(block->count, 5u);
  EXPECT_EQ(block->running_bytes, 50u);
}

TEST(BlockBuilder, StopsAtItsTargetButTakesOneLargeBatch) {
  const std::string payload(kBlockTargetBytes, 'x');
  Scanned large;
  scan_into(large, records_of({record_of(payload)}, {1, 1}), {1, 1}, 1);
  Scanned small;
  scan_into(small, plain_records(1, {1, 2}), {1, 2}, 1);
  BlockBuilder builder;
  ASSERT_TRUE(builder.fits(large.view));
  builder.append(large.view, large.shapes, 1);
  EXPECT_FALSE(builder.fits(small.view));
  EXPECT_EQ(builder.take(1, 0)->bytes(), large.records.size());
}

}  // namespace
}  // namespace spillway::wire
