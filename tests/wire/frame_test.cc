#include "wire/frame.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/wire/build.h"

namespace spillway::wire {
namespace {

void feed(FrameReader& reader, std::string_view bytes) {
  while (!bytes.empty()) {
    const std::span<std::byte> room = reader.prepare();
    ASSERT_FALSE(room.empty());
    const std::size_t size = std::min(room.size(), bytes.size());
    std::ranges::copy(bytes_of(bytes.substr(0, size)), room.begin());
    reader.commit(size);
    bytes.remove_prefix(size);
  }
}

std::string frame_with(std::size_t length, char fill = 'x') {
  std::string frame;
  for (int i = 0; i < 4; ++i) frame += static_cast<char>(length >> (8 * i) & 0xff);
  return frame + std::string(length, fill);
}

TEST(FrameReader, HandsOutFramesThatArriveByteByByte) {
  FrameReader reader;
  const std::string stream = frame_with(3, 'a') + frame_with(1, 'b');
  std::vector<std::string> frames;
  for (const char byte : stream) {
    feed(reader, std::string_view(&byte, 1));
    while (const auto frame = reader.next().value()) frames.push_back(text_of(*frame));
  }
  EXPECT_EQ(frames, (std::vector<std::string>{"aaa", "b"}));
  EXPECT_EQ(reader.buffered(), 0u);
}

TEST(FrameReader, HandsOutManyFramesOfOneRead) {
  FrameReader reader;
  std::string stream;
  for (int i = 0; i < 1000; ++i) stream += frame_with(10);
  feed(reader, stream);
  int frames = 0;
  while (reader.next().value()) ++frames;
  EXPECT_EQ(frames, 1000);
}

TEST(FrameReader, TakesAFrameAtItsLimitAndRefusesOneBeyond) {
  for (const std::size_t length : {99u, 100u, 101u}) {
    FrameReader reader(100);
    feed(reader, frame_with(length));
    const auto frame = reader.next();
    EXPECT_EQ(frame.has_value(), length <= 100) << length;
    if (frame) {
      EXPECT_EQ((*frame)->size(), length);
    }
  }
}

TEST(FrameReader, RefusesALengthBeforeItsBytesArrive) {
  FrameReader reader(std::uint64_t{1} << 20);
  feed(reader, std::string_view("\xff\xff\xff\xff", 4));
  EXPECT_TRUE(reader.next().has_error());
}

TEST(FrameReader, RefusesALengthOfZero) {
  FrameReader reader;
  feed(reader, frame_with(0));
  EXPECT_TRUE(reader.next().has_error());
}

TEST(FrameReader, AllocatesForWhatArrivedAndNotForWhatWasAnnounced) {
  FrameReader reader(std::uint64_t{1} << 30);
  feed(reader, frame_with(std::size_t{512} << 20).substr(0, 1000));
  EXPECT_FALSE(reader.next().value());
  EXPECT_LE(reader.prepare().size(), FrameReader::kReadBytes);
}

TEST(FrameReader, GrowsForALargeFrameAndGivesTheMemoryBack) {
  FrameReader reader;
  const std::string large = frame_with(std::size_t{3} << 20, 'l');
  feed(reader, frame_with(5) + large + frame_with(7, 's'));
  EXPECT_EQ((*reader.next().value()).size(), 5u);
  EXPECT_EQ(text_of(*reader.next().value()), large.substr(4));
  EXPECT_EQ(text_of(*reader.next().value()), "sssssss");
  EXPECT_LE(reader.prepare().size(), FrameReader::kReadBytes);
}

TEST(FrameReader, ReadsIntoTheSameMemoryAgainOnceAllWasTaken) {
  FrameReader reader;
  const std::byte* const begin = reader.prepare().data();
  for (int i = 0; i < 1000; ++i) {
    feed(reader, frame_with(100));
    EXPECT_TRUE(*reader.next());
    EXPECT_EQ(reader.prepare().data(), begin);
  }
}

TEST(FrameReader, GoesBackToTheSizeThatItWasGiven) {
  FrameReader reader(std::uint64_t{1} << 20, 1024);
  EXPECT_EQ(reader.prepare().size(), 1024u);
  feed(reader, frame_with(50'000));
  EXPECT_EQ((*reader.next().value()).size(), 50'000u);
  feed(reader, frame_with(5));
  EXPECT_EQ((*reader.next().value()).size(), 5u);
  EXPECT_EQ(reader.prepare().size(), 1024u);
}

TEST(FrameReader, ReadsLargeFramesIntoTheSameMemoryAndNothingBehindThem) {
  FrameReader reader;
  const std::string large = frame_with(std::size_t{1} << 20, 'l');
  feed(reader, large);
  EXPECT_TRUE(*reader.next());
  const std::byte* const begin = reader.prepare().data();
  for (int i = 0; i < 10; ++i) {
    // In two reads, of which the first has its length.
    feed(reader, std::string_view(large).substr(0, 1000));
    EXPECT_FALSE(reader.next().value());
    EXPECT_EQ(reader.prepare().data(), begin + 1000);
    EXPECT_EQ(reader.prepare().size(), large.size() - 1000);
    feed(reader, std::string_view(large).substr(1000));
    EXPECT_EQ(text_of(*reader.next().value()), large.substr(4));
    EXPECT_EQ(reader.prepare().data(), begin);
  }
}

TEST(FrameReader, NeverTakesMoreThanFourTimesWhatArrived) {
  for (const std::size_t part : {std::size_t{1}, std::size_t{300} << 10, std::size_t{900} << 10}) {
    FrameReader reader;
    feed(reader, frame_with(std::size_t{4} << 20).substr(0, part));
    EXPECT_FALSE(reader.next().value());
    EXPECT_LE(part + reader.prepare().size(), std::max(4 * part, FrameReader::kReadBytes)) << part;
  }
}

TEST(Frame, ControlMessagesComeBackAsTheyWere) {
  v1::Frame frame;
  auto& hello = *frame.mutable_hello();
  hello.set_stream("blocks");
  hello.set_generation(7);
  *hello.mutable_acknowledged() = to_proto({9, 12});
  hello.set_own_epoch(9);
  const std::string bytes = encode(frame);
  const v1::Frame back = decode(bytes_of(bytes).subspan(kLengthBytes)).value();
  EXPECT_EQ(back.hello().stream(), "blocks");
  EXPECT_EQ(from_proto(back.hello().acknowledged()), (Position{9, 12}));
  EXPECT_FALSE(back.hello().has_oldest());
  EXPECT_EQ(back.hello().epoch_case(), v1::Hello::kOwnEpoch);
}

TEST(Frame, DecodeRefusesWhatIsNoControlMessage) {
  EXPECT_TRUE(decode(bytes_of("\xff\xff")).has_error());
  EXPECT_TRUE(decode({}).has_error());
  // A kind of a later version: field 100, empty.
  EXPECT_TRUE(decode(bytes_of(std::string_view("\xa2\x06\x00", 3))).has_error());
  const std::string batch = batch_frame_header({1, 1}, 1, 0, LossReason::gap, std::nullopt);
  EXPECT_TRUE(is_batch(bytes_of(batch).subspan(4)));
  EXPECT_TRUE(decode(bytes_of(batch).subspan(4)).has_error());
}

TEST(Frame, ControlMessagesHaveALimitOfTheirOwn) {
  for (const bool beyond : {false, true}) {
    v1::Frame frame;
    // {tag, length of 3 bytes} of the frame's field and of the text: 8 bytes.
    frame.mutable_goodbye()->set_reason(std::string(kMaxControlBytes - 8 + (beyond ? 1 : 0), 'x'));
    ASSERT_EQ(frame.ByteSizeLong(), kMaxControlBytes + (beyond ? 1 : 0));
    const std::string bytes = encode(frame);
    EXPECT_EQ(decode(bytes_of(bytes).subspan(kLengthBytes)).has_error(), beyond);
  }
}

TEST(Frame, AnAcknowledgementOfNothingHasNoPositions) {
  const std::string bytes = encode_ack({}, {});
  const v1::Frame frame = decode(bytes_of(bytes).subspan(kLengthBytes)).value();
  ASSERT_TRUE(frame.has_ack());
  EXPECT_FALSE(frame.ack().has_safe());
  EXPECT_EQ(from_proto(frame.ack().safe()), Position{});
}

TEST(Reject, EveryCodeHasItsNumberNameAndRetry) {
  for (int number = 1; number <= kRejectCodes; ++number) {
    ASSERT_TRUE(v1::RejectCode_IsValid(number));
    std::string name = "REJECT_CODE_" + std::string(name_of(static_cast<RejectCode>(number)));
    std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::toupper(c); });
    EXPECT_EQ(v1::RejectCode_Name(static_cast<v1::RejectCode>(number)), name);
  }
  EXPECT_FALSE(v1::RejectCode_IsValid(kRejectCodes + 1));
  EXPECT_EQ(name_of(static_cast<RejectCode>(99)), "unknown");
  EXPECT_TRUE(is_retryable(RejectCode::busy));
  EXPECT_FALSE(is_retryable(RejectCode::fenced));
}

TEST(Reject, CarriesPositionAndWhetherToRetry) {
  const std::string bytes = encode_reject({RejectCode::corrupt, "bad", Position{3, 4}});
  const v1::Frame frame = decode(bytes_of(bytes).subspan(kLengthBytes)).value();
  EXPECT_EQ(frame.reject().code(), v1::REJECT_CODE_CORRUPT);
  EXPECT_EQ(from_proto(frame.reject().position()), (Position{3, 4}));
  EXPECT_FALSE(frame.reject().has_last());
  EXPECT_TRUE(frame.reject().retryable());
}

}  // namespace
}  // namespace spillway::wire
