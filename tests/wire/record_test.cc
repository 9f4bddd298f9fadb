#include "wire/record.h"

#include <gtest/gtest.h>

#include <array>

#include "tests/wire/build.h"
#include "wire/spillway.pb.h"
#include "wire/varint.h"

namespace spillway::wire {
namespace {

// {tag, length, message} with a correct CRC for {1, 1}.
std::string sealed(std::string message) {
  const std::uint32_t crc = record_crc({1, 1}, bytes_of(message));
  message += '\x7d';
  for (int i = 0; i < 4; ++i) message += static_cast<char>(crc >> (8 * i) & 0xff);
  std::array<std::byte, kMaxVarintBytes> length;
  const std::byte* end = write_varint(message.size(), length.data());
  return "\x7a" + text_of(std::span(std::as_const(length).data(), end)) + message;
}

const char* error_of(const std::string& records) {
  RecordReader reader(bytes_of(records), {1, 1});
  RecordView record;
  while (reader.next(record)) {
  }
  return reader.error();
}

TEST(Record, EveryFieldComesBackAsItWas) {
  const std::array<HeaderView, 3> headers{
      {{"a", bytes_of("1")}, {"", bytes_of("empty key")}, {"empty value", {}}}};
  RecordFields fields = part_of("payload", 3, true, Group::continues);
  fields.key = bytes_of("key");
  fields.type = "type";
  fields.headers = headers;
  fields.timestamp_ms = -5;
  fields.mark = bytes_of("mark");
  std::string bytes;
  append_record(bytes, fields, {7, 9});
  EXPECT_EQ(bytes.size(), encoded_bytes(fields));

  RecordReader reader(bytes_of(bytes), {7, 9});
  RecordView record;
  ASSERT_TRUE(reader.next(record)) << reader.error();
  EXPECT_EQ(record.position, (Position{7, 9}));
  EXPECT_EQ(text_of(record.payload), "payload");
  EXPECT_EQ(text_of(record.key), "key");
  EXPECT_EQ(record.type, "type");
  EXPECT_EQ(record.timestamp_ms, -5);
  EXPECT_EQ(record.group, Group::continues);
  EXPECT_EQ(record.part, 3u);
  EXPECT_TRUE(record.last_part);
  EXPECT_EQ(text_of(record.mark), "mark");
  EXPECT_TRUE(crc_matches(record));
  const std::vector<HeaderView> back = record.headers();
  ASSERT_EQ(back.size(), 3u);
  EXPECT_EQ(back[0].key, "a");
  EXPECT_EQ(text_of(back[0].value), "1");
  EXPECT_EQ(back[1].key, "");
  EXPECT_EQ(text_of(back[1].value), "empty key");
  EXPECT_EQ(back[2].key, "empty value");
  EXPECT_FALSE(reader.next(record));
  EXPECT_EQ(reader.error(), nullptr);

  // The same bytes are what protobuf makes of it.
  v1::Record message;
  ASSERT_TRUE(message.ParseFromArray(bytes.data() + 2, static_cast<int>(bytes.size() - 2)));
  EXPECT_EQ(message.SerializeAsString(), bytes.substr(2));
}

TEST(Record, OneWithoutAnythingIsJustItsCrc) {
  const std::string bytes = records_of({RecordFields{}}, {1, 1});
  EXPECT_EQ(bytes.size(), 7u);
  EXPECT_EQ(error_of(bytes), nullptr);
}

TEST(Record, TheCrcCoversPositionAndEveryByte) {
  const std::string bytes = plain_records(1, {1, 1});
  for (const Position position : {Position{1, 1}, Position{1, 2}, Position{2, 1}}) {
    RecordReader reader(bytes_of(bytes), position);
    RecordView record;
    ASSERT_TRUE(reader.next(record));
    EXPECT_EQ(crc_matches(record), (position == Position{1, 1}));
  }
}

TEST(Record, RenumberingChangesOnlyTheCrcs) {
  std::string bytes = plain_records(50, {1, 1});
  renumber_records(std::as_writable_bytes(std::span(bytes)), {9, 100});
  EXPECT_EQ(bytes, plain_records(50, {9, 100}));
}

TEST(Record, KnowsWhetherItContinuesAndWhetherSomethingIsOpenAfterIt) {
  struct Case {
    RecordFields fields;
    bool continues;
    bool open;
    bool completes;
  };
  for (const Case& c : {Case{record_of("x"), false, false, true},
                        Case{record_of("x", Group::begins), false, true, true},
                        Case{record_of("x", Group::continues), true, true, true},
                        Case{record_of("x", Group::ends), true, false, true},
                        Case{part_of("x", 0, false), false, true, false},
                        Case{part_of("x", 1, false), true, true, false},
                        Case{part_of("x", 2, true), true, false, true},
                        Case{part_of("x", 0, true), false, false, true},
                        Case{part_of("x", 1, false, Group::ends), true, true, false},
                        Case{part_of("x", 1, true, Group::begins), true, true, true}}) {
    const std::string bytes = records_of({c.fields}, {1, 1});
    RecordReader reader(bytes_of(bytes), {1, 1});
    RecordView record;
    ASSERT_TRUE(reader.next(record));
    EXPECT_EQ(record.continues(), c.continues);
    EXPECT_EQ(record.open(), c.open);
    EXPECT_EQ(record.completes(), c.completes);
  }
}

TEST(Record, FieldsOfLaterVersionsArePassedOver) {
  using namespace std::string_literals;
  EXPECT_EQ(error_of(sealed("\x0a\x01x\x50\x05\x59"s + "12345678" + "\x62\x02zz\x6d" + "1234")),
            nullptr);
}

TEST(Record, RefusesWhatIsMalformed) {
  using namespace std::string_literals;
  const std::vector<std::pair<const char*, std::string>> cases{
      {"no crc32c", "\x7a\x03\x0a\x01x"},
      {"empty", "\x7a\x00"s},
      {"another tag", "\x72\x00"s},
      {"cut off", plain_records(1, {1, 1}).substr(0, 5)},
      {"length over 64 bits", "\x7a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"},
      {"payload twice", sealed("\x0a\x01x\x0a\x01y")},
      {"descending", sealed("\x12\x01k\x0a\x01x")},
      {"field number 0", sealed("\x02\x01x")},
      {"field number 16", sealed("\x82\x01\x01x")},
      {"wrong wire type", sealed("\x08\x01")},
      {"a wire type that does not exist", sealed("\x57\x01")},
      {"a value beyond the record", sealed("\x0a\x7fx")},
      {"group 4", sealed("\x30\x04")},
      {"last_part 2", sealed("\x38\x00\x40\x02"s)},
      {"last_part without part", sealed("\x40\x01")},
      {"crc32c twice", sealed("\x7d"
                              "1234")},
      {"a header with another field", sealed("\x22\x02\x18\x01")},
      {"a header that is cut off", sealed("\x22\x02\x0a\x05")},
      {"a later field that is cut off", sealed("\x59"
                                               "1234")},
      {"a type that is not UTF-8", sealed("\x1a\x01\xff")},
      {"a header key that is not UTF-8", sealed("\x22\x03\x0a\x01\xff")},
  };
  for (const auto& [name, records] : cases) EXPECT_NE(error_of(records), nullptr) << name;
}

TEST(Record, LimitsHoldAtBelowAndAbove) {
  const auto check = [](const RecordFields& fields, bool good) {
    const std::string bytes = records_of({fields}, {1, 1});
    EXPECT_EQ(error_of(bytes) == nullptr, good);
    EXPECT_EQ(!check_limits(fields).has_value(), good);
  };
  for (const int step : {-1, 0, 1}) {
    const auto size = [step](std::size_t limit) {
      return std::string(limit + static_cast<std::size_t>(step), 'x');
    };
    const std::string key = size(kMaxKeyBytes);
    const std::string type = size(kMaxTypeBytes);
    const std::string mark = size(kMaxMarkBytes);
    // {tag, length of 2 bytes} of the header, and the same of its value.
    const std::string value = size(kMaxHeadersBytes - 6);
    const std::array<HeaderView, 1> header{{{"", bytes_of(value)}}};
    const std::vector<HeaderView> headers(size(kMaxHeaders).size());
    RecordFields fields;
    fields.key = bytes_of(key);
    check(fields, step <= 0);
    fields = {};
    fields.type = type;
    check(fields, step <= 0);
    fields = {};
    fields.mark = bytes_of(mark);
    check(fields, step <= 0);
    fields = {};
    fields.headers = headers;
    check(fields, step <= 0);
    fields = {};
    fields.headers = header;
    check(fields, step <= 0);
  }
  RecordFields fields;
  fields.last_part = true;
  EXPECT_TRUE(check_limits(fields).has_value());
  fields = {};
  fields.type = "\xff";
  check(fields, false);
  const std::array<HeaderView, 1> header{{{"\xff", {}}}};
  fields = {};
  fields.headers = header;
  check(fields, false);
}

TEST(Varint, TakesSixtyFourBitsAndNotMore) {
  for (const std::uint64_t value : {std::uint64_t{0}, std::uint64_t{127}, std::uint64_t{128},
                                    std::uint64_t{16384}, ~std::uint64_t{0}}) {
    std::array<std::byte, kMaxVarintBytes> buffer;
    const std::byte* end = write_varint(value, buffer.data());
    std::span<const std::byte> bytes(std::as_const(buffer).data(), end);
    EXPECT_EQ(bytes.size(), varint_bytes(value));
    for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
      std::span<const std::byte> part = bytes.first(cut);
      std::uint64_t ignored = 0;
      EXPECT_FALSE(read_varint(part, ignored));
      EXPECT_EQ(part.size(), cut);
    }
    std::uint64_t back = 1;
    ASSERT_TRUE(read_varint(bytes, back));
    EXPECT_EQ(back, value);
    EXPECT_TRUE(bytes.empty());
  }
  std::span<const std::byte> beyond = bytes_of("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02");
  std::uint64_t value = 0;
  EXPECT_FALSE(read_varint(beyond, value));
}

}  // namespace
}  // namespace spillway::wire
