#include <gtest/gtest.h>

#include "tests/wire/build.h"
#include "tests/wire/make_block.h"
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

TEST(Block, ItsFrameIsHeaderAndBytesUnchanged) {
  const BlockPtr block = block_of({record_of("a"), record_of("b")});
  const std::string frame = batch_frame_header(*block, std::nullopt) + text_of(block->records);
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
  const BlockPtr block =
      block_of({record_of("a"), record_of("b", Group::begins), record_of("c", Group::continues),
                record_of("d", Group::ends), part_of("e", 0, false), part_of("f", 1, true)});
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

}  // namespace
}  // namespace spillway::wire
