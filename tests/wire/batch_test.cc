#include "wire/batch.h"

#include <gtest/gtest.h>

#include "tests/wire/build.h"
#include "wire/frame.h"

namespace spillway::wire {
namespace {

using namespace std::string_literals;

TEST(Batch, HeaderComesBackAsItWas) {
  const std::string records = plain_records(3, {7, 1});
  const std::string batch = batch_bytes({7, 1}, 3, records, std::nullopt, Position{5, 12});
  const BatchView view = parse_batch(bytes_of(batch)).value();
  EXPECT_EQ(view.first(), (Position{7, 1}));
  EXPECT_EQ(view.last(), (Position{7, 3}));
  EXPECT_EQ(view.previous, (Position{5, 12}));
  EXPECT_FALSE(view.skip);
  EXPECT_EQ(text_of(view.records), records);
}

TEST(Batch, ASkipHasNoRecords) {
  const std::string batch = batch_bytes({7, 100}, 50, "", LossReason::gap);
  const BatchView view = parse_batch(bytes_of(batch)).value();
  EXPECT_EQ(view.last(), (Position{7, 149}));
  EXPECT_EQ(view.skip, LossReason::gap);
  EXPECT_TRUE(view.records.empty());
}

TEST(Batch, AReasonThatIsNotKnownIsUpstream) {
  const BatchView view =
      parse_batch(bytes_of("\x08\x01\x10\x01\x18\x01\x2a\x04\x08\x01\x10\x63"s)).value();
  EXPECT_EQ(view.skip, LossReason::upstream);
}

TEST(Batch, RefusesWhatIsAgainstTheOrderOrTheRules) {
  const std::string record = plain_records(1, {1, 1});
  const std::vector<std::pair<const char*, std::string>> cases{
      {"empty", ""},
      {"epoch 0", "\x08\x00\x10\x01\x18\x01"s + record},
      {"no epoch", "\x10\x01\x18\x01"s + record},
      {"epoch twice", "\x08\x01\x08\x01\x10\x01\x18\x01"s + record},
      {"first_sequence 0", "\x08\x01\x10\x00\x18\x01"s + record},
      {"first_sequence before epoch", "\x10\x01\x08\x01\x18\x01"s + record},
      {"count 0", "\x08\x01\x10\x01\x18\x00"s + record},
      {"no count", "\x08\x01\x10\x01"s + record},
      {"a cut number", "\x08\x01\x10\x01\x18\xff"s},
      {"sequence over 63 bits",
       "\x08\x01\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x18\x01"s + record},
      {"count over 63 bits", "\x08\x01\x10\x02\x18\xff\xff\xff\xff\xff\xff\xff\xff\x7f"s + record},
      {"previous in mid-epoch", "\x08\x02\x10\x02\x18\x01\x22\x04\x08\x01\x10\x01"s + record},
      {"previous of a newer epoch", "\x08\x02\x10\x01\x18\x01\x22\x04\x08\x02\x10\x01"s + record},
      {"previous with another field", "\x08\x02\x10\x01\x18\x01\x22\x02\x18\x01"s + record},
      {"previous that is cut off", "\x08\x02\x10\x01\x18\x01\x22\x7f"s},
      {"skip that ends elsewhere", "\x08\x01\x10\x01\x18\x02\x2a\x04\x08\x03\x10\x01"s},
      {"skip and records", "\x08\x01\x10\x01\x18\x01\x2a\x04\x08\x01\x10\x01"s + record},
      {"skip before previous", "\x08\x02\x10\x01\x18\x01\x2a\x04\x08\x01\x10\x01\x22\x00"s},
      {"neither records nor skip", "\x08\x01\x10\x01\x18\x01"s},
      {"a reserved field", "\x08\x01\x10\x01\x18\x01\x30\x01"s + record},
  };
  for (const auto& [name, batch] : cases) {
    EXPECT_TRUE(parse_batch(bytes_of(batch)).has_error()) << name;
  }
}

TEST(Batch, FillsItsFrameExactly) {
  const std::string records = plain_records(1, {1, 1});
  const std::string frame = batch_frame_header({1, 1}, 1, records.size(), {}, {}) + records;
  const auto body = bytes_of(frame).subspan(kLengthBytes);
  EXPECT_TRUE(batch_of(body).has_value());
  EXPECT_TRUE(batch_of(body.first(body.size() - 1)).has_error());
  EXPECT_TRUE(batch_of(bytes_of(frame + "x").subspan(kLengthBytes)).has_error());
  EXPECT_TRUE(batch_of(bytes_of("\x1a")).has_error());
}

TEST(Batch, TheLargestHeaderStaysWithinItsBound) {
  const std::uint64_t max = std::uint64_t{1} << 62;
  const std::string header =
      batch_frame_header({max, 1}, max, 1 << 30, LossReason::upstream, Position{max - 1, max});
  EXPECT_LE(header.size(), kMaxBatchHeaderBytes);
}

TEST(Scan, FindsTheShapeOfEveryRecordAndTheNewestMark) {
  RecordFields marked = record_of("m", Group::continues);
  marked.mark = bytes_of("h8");
  RecordFields older = record_of("o", Group::begins);
  older.mark = bytes_of("h7");
  Scanned scan;
  scan_into(scan,
            records_of({older, marked, record_of("e", Group::ends), record_of("n"),
                        part_of("p", 0, false)},
                       {3, 10}),
            {3, 10}, 5);
  ASSERT_FALSE(scan.refusal) << scan.refusal->text;
  ASSERT_EQ(scan.shapes.size(), 5u);
  std::string flags;
  std::size_t bytes = 0;
  for (const RecordShape& shape : scan.shapes) {
    flags += shape.continues ? 'c' : '-';
    flags += shape.open ? 'o' : '-';
    bytes += shape.bytes;
  }
  EXPECT_EQ(flags, "-ococ----o");
  EXPECT_EQ(bytes, scan.records.size());
  ASSERT_TRUE(scan.mark);
  EXPECT_EQ(scan.mark->index, 1u);
  EXPECT_EQ(text_of(scan.mark->mark), "h8");
}

TEST(Scan, RefusesACountThatIsNotThatOfTheRecords) {
  for (const std::uint64_t count : {2u, 4u}) {
    Scanned scan;
    scan_into(scan, plain_records(3, {1, 1}), {1, 1}, count);
    ASSERT_TRUE(scan.refusal);
    EXPECT_EQ(scan.refusal->code, RejectCode::malformed);
  }
}

TEST(Scan, NamesTheRecordThatIsDamaged) {
  std::string records = plain_records(3, {1, 5});
  records[records.size() / 3 + 4] ^= 1;  // the payload of the second one
  Scanned scan;
  scan_into(scan, records, {1, 5}, 3);
  ASSERT_TRUE(scan.refusal);
  EXPECT_EQ(scan.refusal->code, RejectCode::corrupt);
  EXPECT_EQ(scan.refusal->position, (Position{1, 6}));
}

TEST(Scan, ARecordAtAnotherPositionIsCorrupt) {
  Scanned scan;
  scan_into(scan, plain_records(3, {1, 1}), {1, 2}, 3);
  ASSERT_TRUE(scan.refusal);
  EXPECT_EQ(scan.refusal->code, RejectCode::corrupt);
}

TEST(Scan, ARecordMayBeAsLargeAsItsLimit) {
  const std::string records = plain_records(1, {1, 1});
  const std::uint64_t size = records.size() - 2;
  for (const std::uint64_t limit : {size - 1, size, size + 1}) {
    BatchView view{1, 1, 1, {}, {}, bytes_of(records)};
    PartState parts;
    std::vector<RecordShape> shapes;
    std::optional<NewestMark> mark;
    const auto refusal = scan_records(view, limit, parts, shapes, mark);
    EXPECT_EQ(refusal.has_value(), size > limit);
    if (refusal) {
      EXPECT_EQ(refusal->code, RejectCode::too_large);
    }
  }
}

// Scans one part after the other, each in a batch of its own.
std::optional<RejectCode> scan_parts(const std::vector<RecordFields>& fields, PartState parts,
                                     std::uint64_t limit = 1000) {
  std::uint64_t sequence = 1;
  for (const RecordFields& record : fields) {
    const std::string records = records_of({record}, {1, sequence});
    BatchView view{1, sequence, 1, {}, {}, bytes_of(records)};
    std::vector<RecordShape> shapes;
    std::optional<NewestMark> mark;
    const auto refusal = scan_records(view, limit, parts, shapes, mark);
    if (refusal) return refusal->code;
    ++sequence;
  }
  return std::nullopt;
}

TEST(Scan, PartsFollowOneAnotherFromBatchToBatch) {
  const std::vector<RecordFields> good{part_of("a", 0, false), part_of("b", 1, false),
                                       part_of("c", 2, true), record_of("d")};
  EXPECT_EQ(scan_parts(good, {}), std::nullopt);
  EXPECT_EQ(scan_parts({part_of("a", 0, false), part_of("b", 2, true)}, {}), RejectCode::malformed);
  EXPECT_EQ(scan_parts({record_of("a"), part_of("b", 1, true)}, {}), RejectCode::malformed);
  EXPECT_EQ(scan_parts({part_of("a", 0, true), part_of("b", 1, true)}, {}), RejectCode::malformed);
}

TEST(Scan, AFreshStateTakesAnyPart) {
  EXPECT_EQ(scan_parts({part_of("b", 5, false), part_of("c", 6, true)}, {}), std::nullopt);
  EXPECT_EQ(scan_parts({part_of("b", 5, false)}, {true, 0, 0}), RejectCode::malformed);
}

TEST(Scan, ARecordInPartsMayBeAbandoned) {
  EXPECT_EQ(scan_parts({part_of("a", 0, false), record_of("b")}, {}), std::nullopt);
  EXPECT_EQ(scan_parts({part_of("a", 0, false), part_of("b", 0, true)}, {}), std::nullopt);
}

TEST(Scan, AllPartsTogetherAreOneRecordForTheLimit) {
  const std::string piece(50, 'x');
  const std::vector<RecordFields> fields{part_of(piece, 0, false), part_of(piece, 1, true)};
  const std::size_t bytes = encoded_bytes(fields[0]) + encoded_bytes(fields[1]) - 4;
  EXPECT_EQ(scan_parts(fields, {}, bytes), std::nullopt);
  EXPECT_EQ(scan_parts(fields, {}, bytes - 1), RejectCode::too_large);
}

TEST(SubBatch, IsARunOfTheRecords) {
  Scanned scan;
  scan_into(scan, plain_records(20, {4, 1}), {4, 1}, 20);
  ASSERT_FALSE(scan.refusal);
  scan.view.previous = Position{3, 9};
  const BatchView all = sub_batch(scan.view, scan.shapes, 0, 20);
  EXPECT_EQ(text_of(all.records), scan.records);
  EXPECT_EQ(all.previous, (Position{3, 9}));
  const BatchView part = sub_batch(scan.view, scan.shapes, 5, 7);
  EXPECT_EQ(part.first(), (Position{4, 6}));
  EXPECT_EQ(part.last(), (Position{4, 12}));
  EXPECT_FALSE(part.previous);
  Scanned again;
  scan_into(again, text_of(part.records), part.first(), 7);
  EXPECT_FALSE(again.refusal);
}

TEST(SubBatch, OfASkipIsAShorterSkip) {
  BatchView skip;
  skip.epoch = 4;
  skip.first_sequence = 10;
  skip.count = 100;
  skip.skip = LossReason::age;
  const BatchView part = sub_batch(skip, {}, 30, 70);
  EXPECT_EQ(part.first(), (Position{4, 40}));
  EXPECT_EQ(part.last(), (Position{4, 109}));
  EXPECT_EQ(part.skip, LossReason::age);
}

}  // namespace
}  // namespace spillway::wire
