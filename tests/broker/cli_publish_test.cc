#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/write.hpp>
#include <boost/json.hpp>
#include <mutex>
#include <thread>

#include "broker/cli/record_source.h"
#include "broker/cli/tally.h"
#include "tests/broker/cli_support.h"
#include "wire/batch.h"
#include "wire/frame.h"

namespace spillway::cli {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using Local = asio::local::stream_protocol;

// A broker of one stream that acknowledges what it gets, on a Unix socket and a thread of its own.
// Set it up before the first connection.
class OneStreamBroker {
 public:
  explicit OneStreamBroker(const std::string& path)
      : acceptor_(context_, Local::endpoint(path)), thread_([this] { serve(); }) {}
  ~OneStreamBroker() {
    ::shutdown(acceptor_.native_handle(), SHUT_RDWR);
    thread_.join();
  }

  Position held{7, 0};
  Position safe_at_first{7, 0};
  bool halt = false;                // latched: takes nothing
  std::uint64_t hang_up_after = 0;  // the first connection ends after so many records

  std::vector<std::string> records() {
    const std::lock_guard lock(mutex_);
    return records_;
  }
  v1::Hello hello() {
    const std::lock_guard lock(mutex_);
    return hello_;
  }

 private:
  void serve() {
    while (true) {
      boost::system::error_code failed;
      Local::socket socket(context_);
      acceptor_.accept(socket, failed);
      if (failed) return;
      connection(socket);
      hang_up_after = 0;
    }
  }

  void connection(Local::socket& socket) {
    wire::FrameReader reader;
    std::uint64_t taken = 0;
    while (true) {
      const auto frame = reader.next();
      if (!frame) return;
      if (!*frame) {
        boost::system::error_code failed;
        const auto room = reader.prepare();
        const auto got = socket.read_some(asio::buffer(room.data(), room.size()), failed);
        if (failed) return;
        reader.commit(got);
        continue;
      }
      if (wire::is_batch(**frame)) {
        taken += take(wire::parse_batch(wire::batch_of(**frame).value()).value());
        if (hang_up_after != 0 && taken >= hang_up_after) return;
        write(socket, wire::encode_ack(held, held));
        continue;
      }
      const auto message = wire::decode(**frame).value();
      if (message.has_hello()) welcome(socket, message.hello());
      if (message.has_ping()) write(socket, wire::encode_pong(message.ping().nonce()));
    }
  }

  void welcome(Local::socket& socket, const v1::Hello& hello) {
    {
      const std::lock_guard lock(mutex_);
      hello_ = hello;
    }
    v1::Frame frame;
    auto& welcome = *frame.mutable_welcome();
    welcome.set_version(wire::kVersion);
    welcome.set_generation(1);
    welcome.set_epoch(held.epoch);
    *welcome.mutable_held() = wire::to_proto(held);
    *welcome.mutable_safe() = wire::to_proto(std::min(held, safe_at_first));
    welcome.set_max_frame_bytes(wire::kDefaultMaxFrameBytes);
    welcome.set_max_record_bytes(64 << 20);
    welcome.set_max_in_flight_bytes(48 << 20);
    welcome.set_ping_interval_ms(1000);
    if (halt) welcome.add_halt()->set_text("over the limit");
    write(socket, wire::encode(frame));
    if (!halt && safe_at_first < held) write(socket, wire::encode_ack(held, held));
  }

  std::uint64_t take(const wire::BatchView& batch) {
    const std::lock_guard lock(mutex_);
    wire::RecordReader reader(batch.records, batch.first());
    for (wire::RecordView record; reader.next(record);) {
      const std::string payload(reinterpret_cast<const char*>(record.payload.data()),
                                record.payload.size());
      if (record.part.value_or(0) == 0) {
        records_.push_back(payload);
      } else {
        records_.back() += payload;
      }
    }
    held = batch.last();
    return batch.count;
  }

  static void write(Local::socket& socket, const std::string& bytes) {
    boost::system::error_code ignored;
    asio::write(socket, asio::buffer(bytes), ignored);
  }

  asio::io_context context_;
  Local::acceptor acceptor_;
  std::mutex mutex_;
  std::vector<std::string> records_;
  v1::Hello hello_;
  std::thread thread_;
};

class Publish : public testing::Test {
 protected:
  Ran publish(const std::string& file, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {
        "publish", "--connect", "unix://" + socket_, "--stream", "s", "--file", file};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_command(arguments);
  }
  static std::string numbers(int from, int to) {
    std::string out;
    for (int i = from; i <= to; ++i) out += "record " + std::to_string(i) + "\n";
    return out;
  }
  TempDir folder_;
  const std::string socket_ = (folder_.path() / "in.sock").string();
};

TEST_F(Publish, sends_every_line_in_order_and_says_what_became_of_it) {
  OneStreamBroker broker(socket_);
  const auto ran = publish(folder_.write("in", "a\n\nlast without newline"), {"--json"});
  EXPECT_EQ(ran.code, kOk) << ran.err;
  EXPECT_THAT(broker.records(), ElementsAre("a", "", "last without newline"));
  const auto said = json::parse(ran.out).as_object();
  EXPECT_EQ(said.at("published").to_number<int>(), 3);
  EXPECT_EQ(said.at("acknowledged").to_number<int>(), 3);
  EXPECT_EQ(said.at("first").as_string(), "7/1");
  EXPECT_EQ(said.at("last").as_string(), "7/3");
  EXPECT_GE(said.at("seconds").to_number<double>(), 0);
  EXPECT_FALSE(broker.hello().resumes());
}

TEST_F(Publish, takes_records_with_their_length_before_them) {
  OneStreamBroker broker(socket_);
  const std::string input("\x03\0\0\0a\nb\0\0\0\0", 11);
  const auto ran = publish(folder_.write("in", input), {"--framing", "length_prefixed"});
  EXPECT_EQ(ran.code, kOk) << ran.err;
  EXPECT_THAT(broker.records(), ElementsAre("a\nb", ""));
  EXPECT_THAT(ran.out, HasSubstr("published 2, acknowledged 2, 7/1 to 7/2"));
}

TEST_F(Publish, an_empty_input_is_fine) {
  OneStreamBroker broker(socket_);
  const auto ran = publish(folder_.write("in", ""), {"--json"});
  EXPECT_EQ(ran.code, kOk) << ran.err;
  EXPECT_TRUE(json::parse(ran.out).at("first").is_null());
}

TEST_F(Publish, a_lost_connection_loses_nothing) {
  OneStreamBroker broker(socket_);
  broker.hang_up_after = 100;
  const auto ran = publish(folder_.write("in", numbers(1, 5000)), {"--json"});
  EXPECT_EQ(ran.code, kOk) << ran.err;
  const auto records = broker.records();
  ASSERT_THAT(records, SizeIs(5000));
  for (int i = 1; i <= 5000; ++i) {
    ASSERT_EQ(records[static_cast<std::size_t>(i - 1)], "record " + std::to_string(i));
  }
  EXPECT_EQ(json::parse(ran.out).at("acknowledged").to_number<int>(), 5000);
}

TEST_F(Publish, resuming_skips_what_the_stream_holds) {
  OneStreamBroker broker(socket_);
  broker.held = {7, 4};
  const auto ran = publish(folder_.write("in", numbers(1, 6)), {"--resume", "--json"});
  EXPECT_EQ(ran.code, kOk) << ran.err;
  EXPECT_THAT(broker.records(), ElementsAre("record 5", "record 6"));
  const auto said = json::parse(ran.out).as_object();
  EXPECT_EQ(said.at("skipped").to_number<int>(), 4);
  EXPECT_EQ(said.at("first").as_string(), "7/5");
  EXPECT_EQ(said.at("last").as_string(), "7/6");
  EXPECT_TRUE(broker.hello().resumes());
}

TEST_F(Publish, resuming_what_is_all_there_publishes_nothing) {
  OneStreamBroker broker(socket_);
  broker.held = {7, 9};
  const auto ran = publish(folder_.write("in", numbers(1, 6)), {"--resume", "--json"});
  EXPECT_EQ(ran.code, kOk) << ran.err;
  EXPECT_EQ(json::parse(ran.out).at("skipped").to_number<int>(), 6);
  EXPECT_EQ(json::parse(ran.out).at("published").to_number<int>(), 0);
}

TEST_F(Publish, resuming_does_not_skip_what_nobody_answers_for) {
  OneStreamBroker broker(socket_);
  broker.held = {7, 4};
  broker.halt = true;  // nothing becomes safe
  const auto ran =
      publish(folder_.write("in", numbers(1, 6)), {"--resume", "--give-up-after", "100ms"});
  EXPECT_EQ(ran.code, kHalted);
  EXPECT_TRUE(broker.records().empty());
}

TEST_F(Publish, resuming_inside_a_record_in_parts_is_refused) {
  OneStreamBroker broker(socket_);
  broker.held = {7, 2};
  const auto input = folder_.write("in", std::string(3 << 20, 'x') + "\nsmall\n");
  const auto ran = publish(input, {"--resume"});
  EXPECT_EQ(ran.code, kFailed);
  EXPECT_THAT(ran.err, HasSubstr("only a part of record 1"));
  broker.held = {7, 3};
  EXPECT_EQ(publish(input, {"--resume"}).code, kOk);
  EXPECT_THAT(broker.records(), ElementsAre("small"));
}

TEST_F(Publish, a_record_in_parts_counts_as_one) {
  OneStreamBroker broker(socket_);
  const auto big = std::string((2 << 20) + 1, 'x');
  const auto ran = publish(folder_.write("in", "a\n" + big + "\nb\n"), {"--json"});
  EXPECT_EQ(ran.code, kOk) << ran.err;
  EXPECT_THAT(broker.records(), ElementsAre("a", big, "b"));
  const auto said = json::parse(ran.out).as_object();
  EXPECT_EQ(said.at("acknowledged").to_number<int>(), 3);
  EXPECT_EQ(said.at("last").as_string(), "7/5");
}

TEST_F(Publish, gives_up_with_3_on_a_halted_stream_and_with_1_without_a_broker) {
  {
    OneStreamBroker broker(socket_);
    broker.halt = true;
    const auto ran = publish(folder_.write("in", "a\n"), {"--give-up-after", "100ms", "--json"});
    EXPECT_EQ(ran.code, kHalted);
    EXPECT_EQ(json::parse(ran.out).at("acknowledged").to_number<int>(), 0);
    EXPECT_THAT(ran.err, HasSubstr("over the limit"));
  }
  const auto ran = publish(folder_.write("in", "a\n"), {"--give-up-after", "100ms"});
  EXPECT_EQ(ran.code, kFailed);
  EXPECT_THAT(ran.err, HasSubstr("gave up"));
}

TEST_F(Publish, wrong_options_exit_with_2) {
  const auto file = folder_.write("in", "a\n");
  EXPECT_EQ(publish(file, {"--give-up-after", "soon"}).code, kUsage);
  EXPECT_EQ(publish(file, {"--framing", "words"}).code, kUsage);
  EXPECT_EQ(publish(file, {"--token-file", "/nonexistent"}).code, kUsage);
  EXPECT_EQ(run_command({"publish", "--connect", "nowhere", "--stream", "s", "--file", file}).code,
            kUsage);
  EXPECT_EQ(publish("/nonexistent").code, kFailed);
}

TEST_F(Publish, presents_its_token) {
  OneStreamBroker broker(socket_);
  const auto tokens = folder_.write("tokens", "secret\n");
  std::filesystem::permissions(tokens, std::filesystem::perms::owner_read);
  EXPECT_EQ(publish(folder_.write("in", "a\n"), {"--token-file", tokens}).code, kOk);
  EXPECT_EQ(broker.hello().token(), "secret");
}

TEST_F(Publish, keeps_to_its_rate) {
  OneStreamBroker broker(socket_);
  const auto ran = publish(folder_.write("in", numbers(1, 21)), {"--rate", "100", "--json"});
  EXPECT_EQ(ran.code, kOk) << ran.err;
  EXPECT_GE(json::parse(ran.out).at("seconds").to_number<double>(), 0.15);
}

class Source : public testing::Test {
 protected:
  std::vector<std::string> all(const std::string& text, RecordSource::Framing framing) {
    auto source = RecordSource::open(folder_.write("in", text), framing).value();
    std::vector<std::string> out;
    while (true) {
      const auto record = source.next();
      if (!record) {
        error_ = record.error().message;
        return out;
      }
      if (!*record) return out;
      out.emplace_back(**record);
    }
  }
  TempDir folder_;
  std::string error_;
};

TEST_F(Source, records_longer_than_the_buffer_are_read_whole) {
  const std::string big(5 << 20, 'x');
  EXPECT_THAT(all("a\n" + big + "\nb", RecordSource::Framing::lines), ElementsAre("a", big, "b"));
}

TEST_F(Source, an_input_that_ends_inside_a_prefixed_record_is_an_error) {
  EXPECT_THAT(
      all(std::string("\x01\0\0\0a\x05\0\0\0bc", 11), RecordSource::Framing::length_prefixed),
      ElementsAre("a"));
  EXPECT_THAT(error_, HasSubstr("ends inside record 2"));
  EXPECT_THAT(all(std::string("\x01\0", 2), RecordSource::Framing::length_prefixed), SizeIs(0));
  EXPECT_THAT(error_, HasSubstr("ends inside record 1"));
}

TEST_F(Source, a_pipe_gives_what_it_has_without_waiting_for_more) {
  const auto name = (folder_.path() / "pipe").string();
  ASSERT_EQ(::mkfifo(name.c_str(), 0600), 0);
  const int writer = ::open(name.c_str(), O_RDWR | O_CLOEXEC);
  auto source = RecordSource::open(name, RecordSource::Framing::lines).value();
  ASSERT_EQ(::write(writer, "a\nb\nunfinished", 14), 14);
  EXPECT_FALSE(source.buffered());
  EXPECT_EQ(**source.next(), "a");
  EXPECT_TRUE(source.buffered());
  EXPECT_EQ(**source.next(), "b");
  EXPECT_FALSE(source.buffered());
  ::close(writer);
  EXPECT_EQ(**source.next(), "unfinished");
}

TEST(Tally, counts_through_what_is_acknowledged) {
  Tally tally;
  for (std::uint64_t i = 1; i <= 10; ++i) tally.published({7, i}, 1);
  tally.acknowledged({7, 4});
  EXPECT_EQ(tally.counts().acknowledged, 4u);
  tally.acknowledged({7, 3});
  EXPECT_EQ(tally.counts().acknowledged, 4u);
  tally.acknowledged({8, 0});
  EXPECT_EQ(tally.counts().acknowledged, 10u);
  EXPECT_EQ(tally.counts().first, (Position{7, 1}));
  EXPECT_EQ(tally.counts().last, (Position{7, 10}));
}

TEST(Tally, a_record_in_parts_is_acknowledged_with_its_last_part) {
  Tally tally;
  tally.published({7, 1}, 1);
  tally.published({7, 4}, 3);
  tally.published({7, 5}, 1);
  tally.acknowledged({7, 3});
  EXPECT_EQ(tally.counts().acknowledged, 1u);
  tally.acknowledged({7, 4});
  EXPECT_EQ(tally.counts().acknowledged, 2u);
  tally.acknowledged({7, 5});
  EXPECT_EQ(tally.counts().acknowledged, 3u);
}

TEST(Tally, an_acknowledgement_may_come_before_publish_returned) {
  Tally tally;
  tally.acknowledged({7, 2});
  tally.published({7, 1}, 1);
  tally.published({7, 2}, 1);
  EXPECT_EQ(tally.counts().acknowledged, 2u);
}

TEST(Tally, follows_records_into_a_new_epoch) {
  Tally tally;
  for (std::uint64_t i = 1; i <= 10; ++i) tally.published({7, i}, 1);
  tally.acknowledged({7, 4});
  tally.renumbered({{7, 7}, 9, 4});
  tally.published({7, 11}, 1);  // its position was made before the change
  tally.published({9, 6}, 1);
  EXPECT_EQ(tally.counts().last, (Position{9, 6}));
  tally.acknowledged({7, 6});
  EXPECT_EQ(tally.counts().acknowledged, 6u);
  tally.acknowledged({9, 5});
  EXPECT_EQ(tally.counts().acknowledged, 11u);
  tally.acknowledged({9, 6});
  EXPECT_EQ(tally.counts().acknowledged, 12u);
}

}  // namespace
}  // namespace spillway::cli
