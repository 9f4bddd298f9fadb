// The byte vectors of wire/README.md, read from there.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "tests/wire/build.h"
#include "wire/frame.h"

namespace spillway::wire {
namespace {

constexpr std::uint64_t kEpoch = 1'700'000'000;

// The bytes of the block that begins with "```hex NAME"; empty if there is none.
std::string vector_of(const std::string& name) {
  std::ifstream readme(WIRE_README);
  std::string line;
  while (std::getline(readme, line) && line != "```hex " + name) {
  }
  std::string bytes;
  while (std::getline(readme, line) && line != "```") {
    std::istringstream words(line);
    for (std::string word; words >> word;) {
      bytes += static_cast<char>(std::stoi(word, nullptr, 16));
    }
  }
  return bytes;
}

std::string batch_frame(Position first, std::uint64_t count, const std::string& records) {
  return batch_frame_header(first, count, records.size(), std::nullopt, std::nullopt) + records;
}

TEST(Vectors, Hello) {
  v1::Frame frame;
  auto& hello = *frame.mutable_hello();
  hello.set_min_version(1);
  hello.set_max_version(1);
  hello.set_stream("blocks");
  hello.set_resumes(true);
  EXPECT_EQ(encode(frame), vector_of("hello"));
}

TEST(Vectors, Welcome) {
  v1::Frame frame;
  auto& welcome = *frame.mutable_welcome();
  welcome.set_version(1);
  welcome.set_generation(1);
  welcome.set_epoch(kEpoch);
  *welcome.mutable_held() = to_proto({kEpoch, 2});
  *welcome.mutable_safe() = to_proto({kEpoch, 1});
  welcome.set_mark("h7");
  *welcome.mutable_mark_position() = to_proto({kEpoch, 1});
  welcome.set_max_frame_bytes(kDefaultMaxFrameBytes);
  welcome.set_max_record_bytes(64 << 20);
  welcome.set_max_in_flight_bytes(48 << 20);
  welcome.set_ping_interval_ms(1000);
  EXPECT_EQ(encode(frame), vector_of("welcome"));
}

TEST(Vectors, BatchOfOneRecord) {
  EXPECT_EQ(batch_frame({kEpoch, 1}, 1, records_of({record_of("hello")}, {kEpoch, 1})),
            vector_of("batch_one"));
}

TEST(Vectors, BatchWithEveryFieldOfARecord) {
  const HeaderView header{"x", bytes_of("1")};
  RecordFields rich = record_of("a", Group::begins);
  rich.key = bytes_of("k");
  rich.type = "t";
  rich.headers = std::span(&header, 1);
  rich.timestamp_ms = 1'700'000'000'123;
  rich.mark = bytes_of("h7");
  const std::string records = records_of({rich, record_of("", Group::ends)}, {kEpoch, 2});
  EXPECT_EQ(batch_frame({kEpoch, 2}, 2, records), vector_of("batch_two"));
}

TEST(Vectors, BatchOfParts) {
  const std::string records =
      records_of({part_of("ab", 0, false), part_of("c", 1, true)}, {kEpoch, 4});
  EXPECT_EQ(batch_frame({kEpoch, 4}, 2, records), vector_of("batch_parts"));
}

TEST(Vectors, BatchThatSkips) {
  EXPECT_EQ(batch_frame_header({kEpoch + 100, 1}, 300, 0, LossReason::limit, Position{kEpoch, 5}),
            vector_of("batch_skip"));
}

TEST(Vectors, AllBatchesAreAcceptedByTheReader) {
  for (const char* name : {"batch_one", "batch_two", "batch_parts", "batch_skip"}) {
    const std::string bytes = vector_of(name);
    ASSERT_GT(bytes.size(), kLengthBytes) << name;
    const auto batch = parse_batch(batch_of(bytes_of(bytes).subspan(kLengthBytes)).value());
    ASSERT_TRUE(batch) << name;
    PartState parts;
    std::vector<RecordShape> shapes;
    std::optional<NewestMark> mark;
    if (!batch->skip) {
      EXPECT_FALSE(scan_records(*batch, 1000, parts, shapes, mark)) << name;
    }
  }
}

TEST(Vectors, AnswersOfTheBroker) {
  EXPECT_EQ(encode_ack({kEpoch, 5}, {kEpoch, 3}), vector_of("ack"));
  EXPECT_EQ(encode_reject({RejectCode::fork, "other content", Position{kEpoch, 2}}),
            vector_of("reject"));
  v1::Frame halt;
  auto& cause = *halt.mutable_halt()->add_causes();
  cause.set_kind(v1::HALT_KIND_OUTAGE_TIMEOUT);
  cause.set_sink("warehouse");
  cause.set_text("outage_timeout");
  *cause.mutable_position() = to_proto({kEpoch, 5});
  cause.set_since_ms(1'700'000'000'123);
  EXPECT_EQ(encode(halt), vector_of("halt"));
  v1::Frame resume;
  *resume.mutable_resume()->mutable_held() = to_proto({kEpoch, 5});
  EXPECT_EQ(encode(resume), vector_of("resume"));
}

TEST(Vectors, GoodbyePingAndPong) {
  v1::Frame goodbye;
  goodbye.mutable_goodbye()->set_reason("stopping");
  goodbye.mutable_goodbye()->set_retry_after_ms(1000);
  EXPECT_EQ(encode(goodbye), vector_of("goodbye"));
  EXPECT_EQ(encode_ping(300), vector_of("ping"));
  EXPECT_EQ(encode_pong(300), vector_of("pong"));
}

}  // namespace
}  // namespace spillway::wire
