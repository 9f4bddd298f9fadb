// The tcp sink against a peer on loopback: framing, acknowledgements by count and by kernel,
// faults.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "broker/sinks/tcp_sink.h"
#include "tests/broker/sinks_peer.h"
#include "tests/broker/sinks_support.h"

namespace spillway::broker::test {
namespace {

using config::Acknowledge;
using config::Framing;

class TcpSinkTest : public SinkTest {
 protected:
  std::unique_ptr<TcpSink> make(Framing framing = Framing::lines,
                                Acknowledge acknowledge = Acknowledge::count) {
    return std::make_unique<TcpSink>(io, config::TcpSink{listener.address(), framing, acknowledge},
                                     events);
  }
  void connect(TcpSink& sink, std::uint64_t attempt = 1) {
    const int before = listener.accepted;
    sink.connect(hint(attempt));
    ASSERT_TRUE(await([&] {
      return events.has("connected " + std::to_string(attempt) + " none") &&
             listener.accepted > before;
    }));
  }
  [[nodiscard]] bool await_received(std::string_view text) {
    return await([&] { return listener.peer->received.size() >= text.size(); }) &&
           listener.peer->received == text;
  }

  Listener listener{io};
};

TEST_F(TcpSinkTest, LinesGoOutInOrderAndCountsBecomeAcknowledgements) {
  const auto sink = make();
  connect(*sink);
  sink->send(Attempt{1}, {block_of(11, {"one", "two"}), block_of(13, {"", "four"})});
  ASSERT_TRUE(await_received("one\ntwo\n\nfour\n"));
  listener.peer->write("1\n");
  ASSERT_TRUE(await_event("acked 1 11"));
  listener.peer->write("1\n3\n");
  ASSERT_TRUE(await_event("acked 1 13"));
  listener.peer->write("4");
  listener.peer->write("\n");
  ASSERT_TRUE(await_event("acked 1 14"));
  stop(*sink);
}

TEST_F(TcpSinkTest, LengthsStandBeforeThePayloadLittleEndian) {
  const auto sink = make(Framing::length_prefixed);
  connect(*sink);
  sink->send(Attempt{1}, {block_of(1, {"a\nb", ""})});
  ASSERT_TRUE(await_received(std::string("\x03\0\0\0a\nb\0\0\0\0", 11)));
  stop(*sink);
}

TEST_F(TcpSinkTest, ManyLargeBlocksArriveWholeAndInOrder) {
  const auto sink = make();
  connect(*sink);
  std::string expected;
  Offset next = 1;
  std::vector<BlockPtr> blocks;
  while (next <= 20000) {
    std::vector<std::string> payloads;
    for (int i = 0; i < 500; ++i) {
      const std::size_t length = (next + static_cast<Offset>(i)) % 1000 == 0 ? 50000 : 100;
      payloads.push_back(std::to_string(next + static_cast<Offset>(i)) + std::string(length, '.'));
      expected += payloads.back() + "\n";
    }
    blocks.push_back(block_of(next, payloads));
    next += 500;
  }
  sink->send(Attempt{1}, blocks);
  ASSERT_TRUE(await_received(expected));
  listener.peer->write("20000\n");
  ASSERT_TRUE(await_event("acked 1 20000"));
  stop(*sink);
}

TEST_F(TcpSinkTest, ARecordInPartsGoesOutAsOneAndCountsAsOne) {
  const auto sink = make(Framing::length_prefixed);
  connect(*sink);
  sink->send(Attempt{1}, {BlockMaker(1).record("a").part(0, "b").make()});
  ASSERT_TRUE(await_received(std::string("\1\0\0\0a", 5)));
  sink->send(Attempt{1}, {BlockMaker(3).part(1, "cd").part(2, "e", true).record("f").make()});
  ASSERT_TRUE(await_received(std::string("\1\0\0\0a\4\0\0\0bcde\1\0\0\0f", 18)));
  listener.peer->write("1\n");
  ASSERT_TRUE(await_event("acked 1 1"));
  listener.peer->write("2\n");
  ASSERT_TRUE(await_event("acked 1 4"));
  listener.peer->write("3\n");
  ASSERT_TRUE(await_event("acked 1 5"));
  stop(*sink);
}

TEST_F(TcpSinkTest, AnAbandonedRecordIsNotSentAndTakenWithWhatIsBeforeIt) {
  const auto sink = make();
  connect(*sink);
  sink->send(Attempt{1}, {BlockMaker(1).record("a").part(0, "b").part(1, "c").record("d").make()});
  ASSERT_TRUE(await_received("a\nd\n"));
  listener.peer->write("1\n");
  ASSERT_TRUE(await_event("acked 1 3"));
  listener.peer->write("2\n");
  ASSERT_TRUE(await_event("acked 1 4"));
  stop(*sink);
}

TEST_F(TcpSinkTest, ASkipIsTakenOnceEverythingBeforeItIs) {
  const auto sink = make();
  connect(*sink);
  sink->send(Attempt{1}, {skip_of(1, 3)});
  ASSERT_TRUE(await_event("acked 1 3"));
  sink->send(Attempt{1}, {block_of(4, {"four"}), skip_of(5, 5), block_of(10, {"ten"})});
  ASSERT_TRUE(await_received("four\nten\n"));
  EXPECT_EQ(events.acked_through, 3U);
  listener.peer->write("1\n");
  ASSERT_TRUE(await_event("acked 1 9"));
  listener.peer->write("2\n");
  ASSERT_TRUE(await_event("acked 1 10"));
  stop(*sink);
}

TEST_F(TcpSinkTest, ANewlineIsRejectedOnceEverythingBeforeItIsTakenAndNothingBeyondIsSent) {
  const auto sink = make();
  connect(*sink);
  sink->send(Attempt{1}, {block_of(1, {"one", "t\nwo", "three"}), block_of(4, {"four"})});
  ASSERT_TRUE(await_received("one\n"));
  EXPECT_FALSE(events.has("rejected"));
  listener.peer->write("1\n");
  ASSERT_TRUE(await_event("rejected 1 2-2"));
  EXPECT_EQ(events.acked_through, 1U);
  ASSERT_TRUE(await([&] { return listener.peer->closed; }));
  EXPECT_EQ(listener.peer->received, "one\n");
  stop(*sink);
}

TEST_F(TcpSinkTest, AStreamThatClosesAsItHearsTheLastAcknowledgementHearsOfNoRejection) {
  const auto sink = make();
  connect(*sink);
  events.on_event = [&](const std::string& line) {
    if (line.starts_with("acked")) sink->close(Attempt{1});
  };
  sink->send(Attempt{1}, {block_of(1, {"one", "t\nwo"})});
  ASSERT_TRUE(await_received("one\n"));
  listener.peer->write("1\n");
  ASSERT_TRUE(await([&] { return listener.peer->closed; }));
  EXPECT_TRUE(events.last_is("acked 1 1"));
  stop(*sink);
}

TEST_F(TcpSinkTest, ARejectedRecordInPartsNamesAllOfThemAndSendsNone) {
  const auto sink = make();
  connect(*sink);
  sink->send(Attempt{1}, {BlockMaker(1).part(0, "a").part(1, "\n").make()});
  sink->send(Attempt{1}, {BlockMaker(3).part(2, "c", true).record("next").make()});
  ASSERT_TRUE(await_event("rejected 1 1-3"));
  ASSERT_TRUE(await([&] { return listener.peer->closed; }));
  EXPECT_EQ(listener.peer->received, "");
  stop(*sink);
}

TEST_F(TcpSinkTest, PartsThatASkipCutsShortAreRejected) {
  const auto sink = make();
  connect(*sink);
  sink->send(Attempt{1}, {BlockMaker(1).record("a").part(0, "b").make(), skip_of(3, 2)});
  ASSERT_TRUE(await_received("a\n"));
  listener.peer->write("1\n");
  ASSERT_TRUE(await_event("rejected 1 2-2"));
  stop(*sink);
}

class TcpSinkGarbageTest : public TcpSinkTest, public testing::WithParamInterface<const char*> {};

TEST_P(TcpSinkGarbageTest, EndsTheAttemptAsAProtocolError) {
  const auto sink = make();
  connect(*sink);
  sink->send(Attempt{1}, {block_of(1, {"one", "two"})});
  ASSERT_TRUE(await_received("one\ntwo\n"));
  listener.peer->write(GetParam());
  ASSERT_TRUE(await_event("lost 1 protocol"));
  ASSERT_TRUE(await([&] { return listener.peer->closed; }));
  stop(*sink);
}

INSTANTIATE_TEST_SUITE_P(Acknowledgements, TcpSinkGarbageTest,
                         testing::Values("ok\n", "\n", "-1\n", " 1\n", "1\r\n", "1 2\n", "3\n",
                                         "2\n1\n", "00000000000000000001\n",
                                         "99999999999999999999999\n", "18446744073709551617\n"));

TEST_F(TcpSinkTest, AnAcknowledgementBeforeAnythingWasSentIsAProtocolError) {
  const auto sink = make();
  connect(*sink);
  listener.peer->write("1\n");
  ASSERT_TRUE(await_event("lost 1 protocol"));
  EXPECT_NE(events.log.back().find("acknowledges 1 records, and 0 were sent"), std::string::npos);
  stop(*sink);
}

TEST_F(TcpSinkTest, APeerThatClosesIsABrokenConnectionAndItsLastWordCounts) {
  const auto sink = make();
  connect(*sink);
  sink->send(Attempt{1}, {block_of(1, {"one", "two"})});
  ASSERT_TRUE(await_received("one\ntwo\n"));
  listener.peer->write("1\n");
  listener.peer->close();
  ASSERT_TRUE(await_event("lost 1 broken"));
  EXPECT_EQ(events.acked_through, 1U);
  stop(*sink);
}

TEST_F(TcpSinkTest, APeerThatClosesInTheMiddleOfARecordIsABrokenConnection) {
  const auto sink = make();
  connect(*sink);
  // More than both socket buffers take, so that the write is in progress when the peer goes.
  sink->send(Attempt{1}, {block_of(1, {std::string(std::size_t{32} << 20, 'x')})});
  ASSERT_TRUE(await([&] { return listener.peer->received.size() > 100000; }));
  listener.peer->close();
  ASSERT_TRUE(await_event("lost 1 broken"));
  EXPECT_EQ(events.acked_through, 0U);
  stop(*sink);
}

TEST_F(TcpSinkTest, CountsBeginAnewOnEveryConnection) {
  const auto sink = make();
  connect(*sink);
  sink->send(Attempt{1}, {block_of(1, {"one", "two"})});
  ASSERT_TRUE(await_received("one\ntwo\n"));
  listener.peer->write("1\n");
  ASSERT_TRUE(await_event("acked 1 1"));
  listener.peer->close();
  ASSERT_TRUE(await_event("lost 1 broken"));
  connect(*sink, 2);
  sink->send(Attempt{2}, {block_of(2, {"two"})});
  ASSERT_TRUE(await_received("two\n"));
  listener.peer->write("1\n");
  ASSERT_TRUE(await_event("acked 2 2"));
  stop(*sink);
}

TEST_F(TcpSinkTest, CloseEndsASilentPeerWithoutAnEvent) {
  const auto sink = make();
  connect(*sink);
  sink->send(Attempt{1}, {block_of(1, {"one"})});
  ASSERT_TRUE(await_received("one\n"));
  sink->close(Attempt{1});
  ASSERT_TRUE(await([&] { return listener.peer->closed; }));
  EXPECT_TRUE(events.last_is("connected 1"));
  stop(*sink);
}

TEST_F(TcpSinkTest, CallsForAnOlderAttemptDoNothing) {
  const auto sink = make();
  connect(*sink);
  connect(*sink, 2);
  sink->send(Attempt{1}, {block_of(1, {"old"})});
  sink->close(Attempt{1});
  sink->send(Attempt{2}, {block_of(1, {"new"})});
  ASSERT_TRUE(await_received("new\n"));
  EXPECT_FALSE(events.has("lost"));
  stop(*sink);
}

TEST_F(TcpSinkTest, NobodyThereIsAFailedConnectThatNamesTheAddress) {
  boost::asio::ip::tcp::acceptor taken(
      io, {boost::asio::ip::address_v4::loopback(), 0});  // bound, and closed again
  config::Address address = listener.address();
  address.port = taken.local_endpoint().port();
  taken.close();
  TcpSink sink(io, {address, Framing::lines, Acknowledge::count}, events);
  sink.connect(hint(1));
  ASSERT_TRUE(await_event("lost 1 connect_failed"));
  EXPECT_NE(events.log.back().find("tcp://127.0.0.1:"), std::string::npos) << events.log.back();
  stop(sink);
}

TEST_F(TcpSinkTest, ANameIsResolved) {
  config::Address address = listener.address();
  address.host = "localhost";
  TcpSink sink(io, {address, Framing::lines, Acknowledge::count}, events);
  sink.connect(hint(1));
  ASSERT_TRUE(await_event("connected 1"));
  stop(sink);
}

TEST_F(TcpSinkTest, StoppingWhileTheConnectIsUnderWayCallsBackAndNothingElse) {
  const auto sink = make();
  sink->connect(hint(1));
  stop(*sink);
  EXPECT_TRUE(events.log.empty());
}

TEST_F(TcpSinkTest, WithKernelAcknowledgementsWhatThePeersKernelTookIsTaken) {
  const auto sink = make(Framing::lines, Acknowledge::kernel);
  connect(*sink);
  sink->send(Attempt{1}, {block_of(1, {"one", "two"}), skip_of(3, 2)});
  ASSERT_TRUE(await_event("acked 1 4"));
  listener.peer->write("whatever it says\n");
  sink->send(Attempt{1}, {BlockMaker(5).part(0, "a").part(1, "b", true).make()});
  ASSERT_TRUE(await_event("acked 1 6"));
  ASSERT_TRUE(await_received("one\ntwo\nab\n"));
  stop(*sink);
}

TEST_F(TcpSinkTest, WithKernelAcknowledgementsWhatThePeersKernelHasNoRoomForIsNotTaken) {
  Listener lazy(io, {}, false);  // accepts, and never reads
  TcpSink sink(io, {lazy.address(), Framing::lines, Acknowledge::kernel}, events);
  sink.connect(hint(1));
  ASSERT_TRUE(await_event("connected 1"));
  std::vector<BlockPtr> blocks;
  for (Offset offset = 1; offset <= 64 * 64; ++offset) {
    blocks.push_back(block_of(offset, {std::string(std::size_t{16} << 10, 'x')}));
  }
  sink.send(Attempt{1}, blocks);
  // The socket buffers take some of it, and no more.
  ASSERT_TRUE(await_event("acked 1"));
  ASSERT_TRUE(await([&] { return lazy.peer != nullptr; }));
  lazy.peer->close();
  ASSERT_TRUE(await_event("lost 1 broken"));
  EXPECT_LT(events.acked_through, 64U * 64U);
  stop(sink);
}

TEST_F(TcpSinkTest, WithKernelAcknowledgementsANewlineIsRejectedToo) {
  const auto sink = make(Framing::lines, Acknowledge::kernel);
  connect(*sink);
  sink->send(Attempt{1}, {block_of(1, {"one", "t\nwo"})});
  ASSERT_TRUE(await_event("rejected 1 2-2"));
  EXPECT_EQ(events.acked_through, 1U);
  stop(*sink);
}

}  // namespace
}  // namespace spillway::broker::test
