// The spillway sink against a scripted receiver: greeting, custody, flow control, halts, refusals.
#include <gtest/gtest.h>

#include <fstream>

#include "broker/sinks/relay_queue.h"
#include "broker/sinks/spillway_sink.h"
#include "tests/broker/sinks_peer.h"
#include "tests/broker/sinks_support.h"
#include "wire/batch.h"
#include "wire/frame.h"

namespace spillway::broker::test {
namespace {

constexpr std::uint64_t kFrameBytes = wire::kMinMaxFrameBytes;

// ---- RelayQueue
// -------------------------------------------------------------------------------------

TEST(RelayQueueTest, OversizedBlocksTravelInPiecesOfWholeRecords) {
  const std::string hundred(100, 'x');
  RelayQueue queue({}, {}, {250, 1000});
  queue.push({block_of(1, {hundred, hundred, hundred})});
  const auto first = queue.next();
  ASSERT_TRUE(first);
  EXPECT_EQ(first->block->count, 2U);
  const auto second = queue.next();
  ASSERT_TRUE(second);
  EXPECT_EQ(second->block->first, 3U);
  EXPECT_EQ(second->block->position, (Position{kEpoch, 3}));
  EXPECT_FALSE(queue.next());
}

TEST(RelayQueueTest, ARecordLargerThanAFrameStopsTheQueueAndIsNamed) {
  RelayQueue queue({}, {}, {250, 1000});
  queue.push({block_of(1, {"small", std::string(300, 'x')})});
  ASSERT_TRUE(queue.next());
  EXPECT_FALSE(queue.next());
  EXPECT_EQ(queue.too_large(), (Position{kEpoch, 2}));
}

TEST(RelayQueueTest, WhatIsInFlightStaysWithinTheLimitAndOnePieceAloneMayExceedIt) {
  const std::string hundred(100, 'x');
  RelayQueue queue({}, {}, {1000, 250});
  queue.push({block_of(1, {hundred}), block_of(2, {hundred}), block_of(3, {hundred}),
              block_of(4, {std::string(500, 'y')})});
  EXPECT_TRUE(queue.next());
  EXPECT_TRUE(queue.next());
  EXPECT_FALSE(queue.next());
  EXPECT_FALSE(queue.take_safe({kEpoch, 1}));
  EXPECT_EQ(queue.settle(), 1U);
  EXPECT_TRUE(queue.next());
  EXPECT_FALSE(queue.next());
  EXPECT_FALSE(queue.take_safe({kEpoch, 3}));
  EXPECT_EQ(queue.settle(), 3U);
  EXPECT_TRUE(queue.next());
}

TEST(RelayQueueTest, WhatTheReceiverHoldsIsNotSentAndAcknowledgedWhenItIsSafe) {
  RelayQueue queue({kEpoch, 3}, {kEpoch, 1}, {1000, 1000});
  queue.push({block_of(2, {"two", "three", "four"})});
  const auto piece = queue.next();
  ASSERT_TRUE(piece);
  EXPECT_EQ(piece->block->first, 4U);
  EXPECT_FALSE(queue.settle());
  EXPECT_FALSE(queue.take_safe({kEpoch, 2}));
  EXPECT_EQ(queue.settle(), 2U);
  EXPECT_FALSE(queue.settle());
  EXPECT_FALSE(queue.take_safe({kEpoch, 4}));
  EXPECT_EQ(queue.settle(), 4U);
}

TEST(RelayQueueTest, AReceiverAheadOfUsAcknowledgesWhatItAlreadyHad) {
  RelayQueue queue({kEpoch, 10}, {kEpoch, 0}, {1000, 1000});
  EXPECT_FALSE(queue.take_safe({kEpoch, 10}));
  queue.push({block_of(1, {"one", "two"})});
  EXPECT_FALSE(queue.next());
  EXPECT_EQ(queue.settle(), 2U);
}

TEST(RelayQueueTest, AcknowledgementsGoneBackOrNeverSentAreErrors) {
  RelayQueue queue({kEpoch, 2}, {kEpoch, 2}, {1000, 1000});
  EXPECT_TRUE(queue.take_safe({kEpoch, 1}));
  EXPECT_TRUE(queue.take_safe({kEpoch, 3}));
  queue.push({block_of(3, {"three"})});
  ASSERT_TRUE(queue.next());
  EXPECT_FALSE(queue.take_safe({kEpoch, 3}));
}

TEST(RelayQueueTest, TheFirstRecordOfAnEpochNamesThePositionBefore) {
  const auto second_epoch = [] { return BlockMaker(6, Position{9, 1}).record("x").make(); };
  RelayQueue from_held({7, 5}, {7, 5}, {1000, 1000});
  from_held.push({second_epoch()});
  EXPECT_EQ(from_held.next()->previous, (Position{7, 5}));

  RelayQueue from_sent({7, 4}, {7, 4}, {1000, 1000});
  from_sent.push({block_of(5, {"five"}), second_epoch()});
  EXPECT_FALSE(from_sent.next()->previous);
  EXPECT_EQ(from_sent.next()->previous, (Position{7, 5}));

  RelayQueue first_of_all({}, {}, {1000, 1000});
  first_of_all.push({block_of(1, {"one"})});
  EXPECT_FALSE(first_of_all.next()->previous);

  RelayQueue already_open({9, 0}, {7, 5}, {1000, 1000});
  already_open.push({second_epoch()});
  EXPECT_FALSE(already_open.next()->previous);
}

// ---- SpillwaySink
// -----------------------------------------------------------------------------------

// What a Welcome says, with what a healthy receiver would.
v1::Frame welcome(std::optional<Position> held = {}, std::optional<Position> safe = {}) {
  v1::Frame frame;
  v1::Welcome& message = *frame.mutable_welcome();
  message.set_version(1);
  message.set_generation(4);
  message.set_epoch(kEpoch);
  if (held) {
    *message.mutable_held() = wire::to_proto(*held);
  }
  if (safe) {
    *message.mutable_safe() = wire::to_proto(*safe);
  }
  message.set_max_frame_bytes(kFrameBytes);
  message.set_max_record_bytes(kFrameBytes);
  message.set_max_in_flight_bytes(kFrameBytes);
  message.set_ping_interval_ms(60000);
  return frame;
}

v1::Frame reject(v1::RejectCode code, std::optional<Position> position = {},
                 std::optional<Position> last = {}) {
  v1::Frame frame;
  v1::Reject& message = *frame.mutable_reject();
  message.set_code(code);
  message.set_text("because");
  if (position) {
    *message.mutable_position() = wire::to_proto(*position);
  }
  if (last) {
    *message.mutable_last() = wire::to_proto(*last);
  }
  return frame;
}

class SpillwaySinkTest : public SinkTest {
 protected:
  // The next frame that the sink sent; an empty one if none comes.
  v1::Frame next_frame() {
    const auto bytes = next_bytes();
    const Result<v1::Frame> frame = wire::decode(bytes_of(bytes));
    EXPECT_TRUE(frame.has_value());
    return frame ? *frame : v1::Frame{};
  }
  // The same for a Batch, in words: "7/1+2 one two", "7/3+5 skip", "... after 6/9".
  std::string next_batch() {
    const std::string bytes = next_bytes();
    const auto inner = wire::batch_of(bytes_of(bytes));
    if (!inner) {
      return inner.error().message;
    }
    const auto batch = wire::parse_batch(*inner);
    if (!batch) {
      return batch.error().message;
    }
    std::string text = to_string(batch->first()) + "+" + std::to_string(batch->count);
    if (batch->skip) {
      text += " skip";
    }
    wire::RecordReader reader(batch->records, batch->first());
    for (wire::RecordView record; reader.next(record);) {
      EXPECT_TRUE(wire::crc_matches(record));
      text += " ";
      text.append(reinterpret_cast<const char*>(record.payload.data()), record.payload.size());
    }
    if (batch->previous) {
      text += " after " + to_string(*batch->previous);
    }
    return text;
  }
  void say(const v1::Frame& frame) { listener->peer->write(wire::encode(frame)); }
  void ack(Position safe) { listener->peer->write(wire::encode_ack(safe, safe)); }

  // Connects, and returns the Hello.
  v1::Hello greet(ConnectHint how) {
    const int before = listener->accepted;
    parsed_ = 0;
    sink->connect(std::move(how));
    EXPECT_TRUE(await([&] { return listener->accepted > before; }));
    return next_frame().hello();
  }
  void open(std::uint64_t attempt = 1, std::optional<Position> held = {},
            std::optional<Position> safe = {}) {
    greet(hint(attempt));
    say(welcome(held, safe));
    ASSERT_TRUE(await_event("connected " + std::to_string(attempt)));
  }

  void TearDown() override { stop(*sink); }

  void make(const std::string& unix_path = {}, const std::filesystem::path& token_file = {}) {
    listener.emplace(io, unix_path);
    sink = std::make_unique<SpillwaySink>(
        io, config::SpillwaySink{listener->address(), "blocks", token_file}, events);
  }
  void SetUp() override { make(); }

  std::optional<Listener> listener;
  std::unique_ptr<SpillwaySink> sink;

 private:
  std::string next_bytes() {
    std::uint32_t length = 0;
    const auto whole = [&] {
      const std::string& in = listener->peer->received;
      if (in.size() < parsed_ + sizeof(length)) {
        return false;
      }
      std::memcpy(&length, in.data() + parsed_, sizeof(length));
      return in.size() >= parsed_ + sizeof(length) + length;
    };
    if (!await(whole)) {
      return {};
    }
    std::string bytes = listener->peer->received.substr(parsed_ + sizeof(length), length);
    parsed_ += sizeof(length) + length;
    return bytes;
  }

  std::size_t parsed_ = 0;
};

TEST_F(SpillwaySinkTest, HelloSaysWhatWeKnowAndRepeatsTheGenerationLater) {
  ConnectHint known = hint(1);
  known.acknowledged = Position{kEpoch, 41};
  known.next = Position{kEpoch, 42};
  known.oldest = Position{kEpoch, 30};
  known.epoch = 8;
  const v1::Hello hello = greet(known);
  EXPECT_EQ(hello.stream(), "blocks");
  EXPECT_EQ(hello.min_version(), 1U);
  EXPECT_EQ(hello.max_version(), 1U);
  EXPECT_EQ(hello.generation(), 0U);
  EXPECT_TRUE(hello.resumes());
  EXPECT_EQ(wire::from_proto(hello.acknowledged()), (Position{kEpoch, 41}));
  EXPECT_EQ(wire::from_proto(hello.oldest()), (Position{kEpoch, 30}));
  EXPECT_EQ(hello.own_epoch(), 8U);
  say(welcome(Position{kEpoch, 41}, Position{kEpoch, 41}));
  ASSERT_TRUE(await_event("connected 1 7/41"));

  const v1::Hello again = greet(hint(2));
  EXPECT_EQ(again.generation(), 4U);
  EXPECT_FALSE(again.has_acknowledged());
  EXPECT_FALSE(again.has_oldest());
}

TEST_F(SpillwaySinkTest,
       WithoutAnAcknowledgementHelloNamesTheEpochOfTheFirstRecordUntilThatIsRefused) {
  ConnectHint unknown = hint(1);
  unknown.next = Position{kEpoch, 1};
  unknown.epoch = 9;
  EXPECT_EQ(greet(unknown).own_epoch(), kEpoch);
  say(reject(v1::REJECT_CODE_EPOCH));
  ASSERT_TRUE(await_event("lost 1 refused: the receiver refuses (epoch): because"));
  unknown.attempt = Attempt{2};
  EXPECT_EQ(greet(unknown).own_epoch(), 9U);
}

TEST_F(SpillwaySinkTest, AnEmptyReceiverCannotSayWhatItHolds) {
  open();
  EXPECT_TRUE(events.last_is("connected 1 none"));
}

TEST_F(SpillwaySinkTest, BlocksGoOutAsTheyAreAndSafeIsTheAcknowledgement) {
  open();
  sink->send(Attempt{1}, {block_of(1, {"one", "two"}), skip_of(3, 4), block_of(7, {"seven"}),
                          BlockMaker(8, Position{9, 1}).record("new").make()});
  EXPECT_EQ(next_batch(), "7/1+2 one two");
  EXPECT_EQ(next_batch(), "7/3+4 skip");
  EXPECT_EQ(next_batch(), "7/7+1 seven");
  EXPECT_EQ(next_batch(), "9/1+1 new after 7/7");
  ack({kEpoch, 1});
  ASSERT_TRUE(await_event("acked 1 1"));
  ack({kEpoch, 7});
  ASSERT_TRUE(await_event("acked 1 7"));
  ack({9, 1});
  ASSERT_TRUE(await_event("acked 1 8"));
}

TEST_F(SpillwaySinkTest, HeldIsNotSafeAndNotSentAgainEither) {
  open(1, Position{kEpoch, 3}, Position{kEpoch, 1});
  EXPECT_TRUE(events.last_is("connected 1 7/1"));
  sink->send(Attempt{1}, {block_of(2, {"two", "three", "four"})});
  EXPECT_EQ(next_batch(), "7/4+1 four");
  EXPECT_FALSE(events.has("acked"));
  ack({kEpoch, 3});
  ASSERT_TRUE(await_event("acked 1 3"));
}

TEST_F(SpillwaySinkTest, TheReceiversLimitOfBytesInFlightIsKept) {
  greet(hint(1));
  v1::Frame limited = welcome();
  limited.mutable_welcome()->set_max_in_flight_bytes(300);
  say(limited);
  ASSERT_TRUE(await_event("connected 1"));
  const std::string large(180, 'x');
  sink->send(Attempt{1}, {block_of(1, {large, large})});
  EXPECT_EQ(next_batch(), "7/1+1 " + large);
  // Answered in order: nothing came between the first piece and the Pong.
  listener->peer->write(wire::encode_ping(5));
  EXPECT_EQ(next_frame().pong().nonce(), 5U);
  ack({kEpoch, 1});
  EXPECT_EQ(next_batch(), "7/2+1 " + large);
}

TEST_F(SpillwaySinkTest, ARecordLargerThanTheReceiversFramesIsARefusalThatSaysWhatToDo) {
  open();
  sink->send(Attempt{1}, {block_of(1, {std::string(kFrameBytes, 'x')})});
  ASSERT_TRUE(await_event("lost 1 refused: the record at 7/1 is larger"));
}

TEST_F(SpillwaySinkTest, AHaltEndsTheAttemptAndResumeIsANudge) {
  open();
  sink->send(Attempt{1}, {block_of(1, {"one"})});
  EXPECT_EQ(next_batch(), "7/1+1 one");
  v1::Frame halt;
  v1::HaltCause& cause = *halt.mutable_halt()->add_causes();
  cause.set_sink("warehouse");
  cause.set_text("outage_timeout");
  say(halt);
  ASSERT_TRUE(
      await_event("lost 1 refused: the receiver is halted: sink warehouse: outage_timeout"));
  say(halt);
  ack({kEpoch, 1});
  v1::Frame resume;
  resume.mutable_resume();
  say(resume);
  ASSERT_TRUE(await_event("nudge"));
  EXPECT_FALSE(events.has("acked"));
  open(2, Position{kEpoch, 1}, Position{kEpoch, 1});
  EXPECT_TRUE(events.last_is("connected 2 7/1"));
}

TEST_F(SpillwaySinkTest, AReceiverThatIsHaltedAtWelcomeRefusesAndIsListenedTo) {
  greet(hint(1));
  v1::Frame halted = welcome();
  halted.mutable_welcome()->add_halt()->set_text("disk bound");
  say(halted);
  ASSERT_TRUE(await_event("lost 1 refused: the receiver is halted: disk bound"));
  sink->close(Attempt{1});
  v1::Frame resume;
  resume.mutable_resume();
  say(resume);
  ASSERT_TRUE(await_event("nudge"));
  listener->peer->close();
  EXPECT_FALSE(events.has("connected"));
}

TEST_F(SpillwaySinkTest, ARefusedRecordIsRejectedWithAllItsParts) {
  open();
  sink->send(Attempt{1}, {BlockMaker(11, Position{kEpoch, 1})
                              .record("a")
                              .part(0, "b")
                              .part(1, "c", true)
                              .record("d")
                              .make()});
  EXPECT_EQ(next_batch(), "7/1+4 a b c d");
  say(reject(v1::REJECT_CODE_RECORD, Position{kEpoch, 2}, Position{kEpoch, 3}));
  ASSERT_TRUE(await_event("rejected 1 12-13: the receiver refuses (record): because"));
}

TEST_F(SpillwaySinkTest, OtherRefusalsAreForAPersonToSeeAndWillBeTriedAgain) {
  std::uint64_t attempt = 0;
  for (const auto code : {v1::REJECT_CODE_UNAUTHORIZED, v1::REJECT_CODE_FENCED,
                          v1::REJECT_CODE_BUSY, v1::REJECT_CODE_UNKNOWN_STREAM}) {
    greet(hint(++attempt));
    say(reject(code));
    ASSERT_TRUE(await_event("lost " + std::to_string(attempt) + " refused"));
  }
  open(++attempt);
  sink->send(Attempt{attempt}, {block_of(1, {"one"})});
  EXPECT_EQ(next_batch(), "7/1+1 one");
  say(reject(v1::REJECT_CODE_FORK, Position{kEpoch, 1}));
  ASSERT_TRUE(await_event("lost " + std::to_string(attempt) + " refused"));
  EXPECT_FALSE(events.has("rejected"));
}

TEST_F(SpillwaySinkTest, AGoodbyeWithATimeKeepsUsAwayUntilThen) {
  open();
  v1::Frame goodbye;
  goodbye.mutable_goodbye()->set_reason("stopping");
  goodbye.mutable_goodbye()->set_retry_after_ms(200);
  say(goodbye);
  ASSERT_TRUE(await_event("lost 1 refused: the receiver says goodbye: stopping"));
  sink->connect(hint(2));
  EXPECT_TRUE(events.last_is("lost 2 refused"));
  ASSERT_TRUE(await_event("nudge"));
  open(3);
}

TEST_F(SpillwaySinkTest, APeerThatClosesInsteadOfAWelcomeIsAFailedConnect) {
  greet(hint(1));
  listener->peer->close();
  ASSERT_TRUE(await_event("lost 1 connect_failed"));
}

TEST_F(SpillwaySinkTest, APeerThatClosesLaterIsABrokenConnection) {
  open();
  sink->send(Attempt{1}, {block_of(1, {"one"})});
  EXPECT_EQ(next_batch(), "7/1+1 one");
  listener->peer->close();
  ASSERT_TRUE(await_event("lost 1 broken"));
}

TEST_F(SpillwaySinkTest, AReceiverThatDoesNotAnswerPingsIsABrokenConnection) {
  greet(hint(1));
  v1::Frame hasty = welcome();
  hasty.mutable_welcome()->set_ping_interval_ms(20);
  say(hasty);
  ASSERT_TRUE(await_event("connected 1"));
  EXPECT_TRUE(next_frame().has_ping());
  ASSERT_TRUE(await_event("lost 1 broken: the receiver has been silent"));
}

TEST_F(SpillwaySinkTest, WhatMakesNoSenseIsAProtocolError) {
  const auto framed = [](std::string_view body) {
    std::string text(4, '\0');
    text[0] = static_cast<char>(body.size());
    return text + std::string(body);
  };
  v1::Frame hello;
  hello.mutable_hello()->set_stream("blocks");
  const std::vector<std::string> nonsense = {
      std::string("\xff\xff\xff\xff", 4),  // a length beyond the limit
      framed("\x07garbage"),               // not a Frame
      wire::encode(hello),                 // not for us
      wire::encode(welcome()),             // a second one
      wire::encode_ack({kEpoch, 9}, {}),   // never sent
      wire::batch_frame_header({kEpoch, 1}, 5, 0, LossReason::gap, {}),  // a Batch
  };
  std::uint64_t attempt = 0;
  for (const std::string& bytes : nonsense) {
    open(++attempt);
    listener->peer->write(bytes);
    ASSERT_TRUE(await_event("lost " + std::to_string(attempt) + " protocol")) << attempt;
    ASSERT_TRUE(await([&] { return listener->peer->closed; }));
  }
}

TEST_F(SpillwaySinkTest, AWelcomeThatIsNotOneIsAProtocolError) {
  std::vector<v1::Frame> wrong(4, welcome());
  wrong[0].mutable_welcome()->set_version(2);
  wrong[1].mutable_welcome()->set_max_frame_bytes(kFrameBytes - 1);
  *wrong[2].mutable_welcome()->mutable_safe() = wire::to_proto({kEpoch, 1});
  *wrong[3].mutable_welcome()->mutable_held() = wire::to_proto({kMaxOffset + 1, 1});
  std::uint64_t attempt = 0;
  for (const v1::Frame& frame : wrong) {
    greet(hint(++attempt));
    say(frame);
    ASSERT_TRUE(await_event("lost " + std::to_string(attempt) + " protocol"));
  }
}

TEST_F(SpillwaySinkTest, AReceiverOfSmallerRecordsIsRefusedBeforeItGetsAPartOfALargerOne) {
  ConnectHint larger = hint(1);
  larger.max_record_bytes = kFrameBytes + 1;
  greet(larger);
  say(welcome());
  ASSERT_TRUE(await_event("lost 1 refused"));
  EXPECT_NE(events.log.back().find(std::to_string(kFrameBytes + 1)), std::string::npos);
  EXPECT_NE(events.log.back().find(std::to_string(kFrameBytes) + " "), std::string::npos);
  ConnectHint equal = hint(2);
  equal.max_record_bytes = kFrameBytes;
  greet(equal);
  say(welcome());
  ASSERT_TRUE(await_event("connected 2"));
}

TEST_F(SpillwaySinkTest, CloseEndsTheConnectionWithoutAnEvent) {
  open();
  sink->close(Attempt{1});
  ASSERT_TRUE(await([&] { return listener->peer->closed; }));
  EXPECT_TRUE(events.last_is("connected 1"));
}

TEST_F(SpillwaySinkTest, AUnixSocketAndATokenWork) {
  const auto token_file = folder / "token";
  std::ofstream(token_file) << "# comment\nsecret\n";
  std::filesystem::permissions(token_file, std::filesystem::perms::owner_read);
  make((folder / "socket").string(), token_file);
  EXPECT_EQ(greet(hint(1)).token(), "secret");
  say(welcome());
  ASSERT_TRUE(await_event("connected 1"));
  std::filesystem::remove(token_file);
  sink->connect(hint(2));
  EXPECT_TRUE(events.last_is("lost 2 refused"));
}

TEST_F(SpillwaySinkTest, NobodyAtAUnixSocketIsAFailedConnect) {
  make((folder / "socket").string());
  std::filesystem::remove(folder / "socket");
  sink->connect(hint(1));
  ASSERT_TRUE(await_event("lost 1 connect_failed"));
}

}  // namespace
}  // namespace spillway::broker::test
