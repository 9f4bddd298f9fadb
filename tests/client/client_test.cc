// What a producer sees while the connection holds.
#include "client/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "tests/client/fake_broker.h"

namespace spillway::client {
namespace {

using testing::ElementsAre;

TEST(Client, PublishesAndHearsOfAcknowledgements) {
  FakeBroker broker;
  Log log;
  const auto client = Client::create(options_for(broker), log.events()).value();
  const auto peer = broker.accept();
  const v1::Hello hello = peer->greet();
  EXPECT_EQ(hello.stream(), "blocks");
  EXPECT_EQ(hello.generation(), 0u);
  EXPECT_FALSE(hello.has_acknowledged());
  EXPECT_FALSE(hello.has_oldest());
  EXPECT_EQ(publish(*client, "a").value(), (Position{kEpoch, 1}));
  EXPECT_EQ(publish(*client, "b").value(), (Position{kEpoch, 2}));
  const Sent sent = peer->records(2);
  EXPECT_THAT(sent.payloads, ElementsAre("a", "b"));
  EXPECT_EQ(sent.first, (Position{kEpoch, 1}));
  peer->ack({kEpoch, 2}, {kEpoch, 1});
  log.await("acknowledged " + to_string({kEpoch, 2}));
  log.await("taken " + to_string({kEpoch, 1}));
  EXPECT_TRUE(client->flush(kPatience).value());
  EXPECT_TRUE(client->wait_taken({kEpoch, 1}, kPatience).value());
  EXPECT_FALSE(client->wait_taken({kEpoch, 2}, Milliseconds{0}).value());
  const Status status = client->status();
  EXPECT_EQ(status.state, State::live);
  EXPECT_EQ(status.kept_records, 0u);
  EXPECT_EQ(status.published, (Position{kEpoch, 2}));
  EXPECT_EQ(status.acknowledged, (Position{kEpoch, 2}));
}

TEST(Client, SpeaksOverAUnixSocketToo) {
  const std::string path =
      std::filesystem::temp_directory_path() / ("client_test_" + std::to_string(getpid()));
  std::filesystem::remove(path);
  FakeBroker broker(path);
  const auto client = Client::create(options_for(broker), {}).value();
  const auto peer = broker.accept();
  peer->greet();
  publish(*client, "a").value();
  EXPECT_THAT(peer->records(1).payloads, ElementsAre("a"));
  std::filesystem::remove(path);
}

TEST(Client, GoesOnAfterWhatTheStreamHolds) {
  FakeBroker broker;
  Options options = options_for(broker);
  options.resumes = true;
  const auto client = Client::create(options, {}).value();
  const auto peer = broker.accept();
  Greeting greeting;
  greeting.held = {kEpoch, 41};
  greeting.safe = {kEpoch, 40};
  greeting.mark = "height 7";
  EXPECT_TRUE(peer->greet(greeting).resumes());
  const auto welcome = client->wait_connected(kPatience).value();
  ASSERT_TRUE(welcome);
  EXPECT_EQ(welcome->held, (Position{kEpoch, 41}));
  EXPECT_EQ(welcome->mark, "height 7");
  EXPECT_EQ(publish(*client, "a").value(), (Position{kEpoch, 42}));
  EXPECT_EQ(peer->batch().first, (Position{kEpoch, 42}));
  // What is held, but not yet safe, is acknowledged without ever having been sent here.
  peer->ack({kEpoch, 41});
  EXPECT_TRUE(client->wait_acknowledged({kEpoch, 41}, kPatience).value());
}

TEST(Client, TheFirstBatchOfAnEpochNamesThePositionBeforeIt) {
  FakeBroker broker;
  const auto client = Client::create(options_for(broker), {}).value();
  const auto peer = broker.accept();
  Greeting greeting;
  greeting.held = {kEpoch - 10, 99};
  peer->greet(greeting);
  EXPECT_EQ(publish(*client, "a").value(), (Position{kEpoch, 1}));
  EXPECT_EQ(peer->batch().previous, (Position{kEpoch - 10, 99}));
  publish(*client, "b").value();
  EXPECT_EQ(peer->batch().previous, std::nullopt);
}

TEST(Client, SendsEveryFieldOfARecord) {
  FakeBroker broker;
  const auto client = Client::create(options_for(broker), {}).value();
  const auto peer = broker.accept();
  peer->greet();
  const Header header{"h", "v"};
  Record record;
  record.payload = "payload";
  record.key = "key";
  record.type = "type";
  record.headers = std::span(&header, 1);
  record.timestamp_ms = 12;
  record.group = Group::begins;
  record.mark = "mark";
  client->publish(record).value();
  EXPECT_THAT(peer->batch().details, ElementsAre("key/type/h=v,/12/1//mark"));
}

TEST(Client, CutsLargeRecordsIntoParts) {
  FakeBroker broker;
  Options options = options_for(broker);
  options.part_bytes = 4;
  const auto client = Client::create(options, {}).value();
  const auto peer = broker.accept();
  peer->greet();
  Record record;
  record.payload = "abcdefghij";
  record.key = "key";
  record.group = Group::ends;
  record.mark = "mark";
  EXPECT_EQ(client->publish(record).value(), (Position{kEpoch, 3}));
  record.payload = "abcd";
  EXPECT_EQ(client->publish(record).value(), (Position{kEpoch, 4}));
  const Sent sent = peer->records(4);
  EXPECT_THAT(sent.payloads, ElementsAre("abcd", "efgh", "ij", "abcd"));
  EXPECT_THAT(sent.details,
              ElementsAre("key////3/0/", "////3/1/", "////3/2!/mark", "key////3//mark"));
}

TEST(Client, PublishesManyAtOnceNextToEachOther) {
  FakeBroker broker;
  const auto client = Client::create(options_for(broker), {}).value();
  const auto peer = broker.accept();
  peer->greet();
  std::vector<Record> records(1000);
  for (Record& record : records) record.payload = "x";
  EXPECT_EQ(client->publish(records).value(), (Position{kEpoch, 1000}));
  const Sent sent = peer->batch();
  EXPECT_EQ(sent.payloads.size(), 1000u);
}

TEST(Client, ManyThreadsPublishAndNothingIsLostOrRepeated) {
  constexpr int kThreads = 4;
  constexpr int kEach = 3000;
  FakeBroker broker;
  Options options = options_for(broker);
  options.max_in_flight_bytes = 20'000;
  const auto client = Client::create(options, {}).value();
  const auto peer = broker.accept();
  peer->greet();
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&client, t] {
      for (int i = 0; i < kEach; ++i) {
        publish(*client, std::to_string(t) + ":" + std::to_string(i)).value();
      }
    });
  }
  std::vector<int> next(kThreads, 0);
  std::size_t received = 0;
  while (received < std::size_t{kThreads} * kEach) {
    const Sent sent = peer->batch();
    ASSERT_EQ(sent.first, (Position{kEpoch, received + 1}));
    for (const std::string& payload : sent.payloads) {
      const auto thread = static_cast<std::size_t>(payload[0] - '0');
      ASSERT_EQ(payload.substr(2), std::to_string(next[thread]++));
    }
    received += sent.payloads.size();
    peer->ack({kEpoch, received});
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(client->flush(kPatience).value());
}

TEST(Client, HearsOfAHaltAndSendsAgainAfterResume) {
  FakeBroker broker;
  Log log;
  const auto client = Client::create(options_for(broker), log.events()).value();
  const auto peer = broker.accept();
  peer->greet();
  publish(*client, "a").value();
  publish(*client, "b").value();
  peer->records(2);
  peer->halt();
  log.await("halted");
  log.await("halt outage_timeout warehouse");
  EXPECT_EQ(client->status().halt.size(), 1u);
  publish(*client, "c").value();
  EXPECT_TRUE(peer->quiet());
  peer->resume({kEpoch, 1});  // "b" was discarded
  log.await("resume");
  const Sent sent = peer->records(2);
  EXPECT_EQ(sent.first, (Position{kEpoch, 2}));
  EXPECT_THAT(sent.payloads, ElementsAre("b", "c"));
  EXPECT_TRUE(client->status().halt.empty());
}

TEST(Client, SendsAgainAfterAResumeFromAHaltThatWasOverBeforeItWasTold) {
  FakeBroker broker;
  Log log;
  const auto client = Client::create(options_for(broker), log.events()).value();
  const auto peer = broker.accept();
  peer->greet();
  publish(*client, "a").value();
  publish(*client, "b").value();
  peer->records(2);
  peer->resume({kEpoch, 1});  // "b" was discarded
  const Sent sent = peer->records(1);
  EXPECT_EQ(sent.first, (Position{kEpoch, 2}));
  EXPECT_THAT(sent.payloads, ElementsAre("b"));
}

TEST(Client, FinishesAGroupAfterAHalt) {
  FakeBroker broker;
  Log log;
  const auto client = Client::create(options_for(broker), log.events()).value();
  const auto peer = broker.accept();
  peer->greet();
  Record record;
  record.payload = "begin";
  record.group = Group::begins;
  client->publish(record).value();
  peer->records(1);
  peer->halt();
  log.await("halt outage_timeout warehouse");
  record.payload = "end";
  record.group = Group::ends;
  client->publish(record).value();
  EXPECT_THAT(peer->records(1).payloads, ElementsAre("end"));
  publish(*client, "next").value();
  EXPECT_TRUE(peer->quiet());
}

TEST(Client, WaitsForResumeWhenTheStreamIsHaltedAtWelcome) {
  FakeBroker broker;
  Log log;
  const auto client = Client::create(options_for(broker), log.events()).value();
  const auto peer = broker.accept();
  Greeting greeting;
  greeting.halted = true;
  peer->greet(greeting);
  log.await("halt max_bytes ");
  publish(*client, "a").value();
  EXPECT_TRUE(peer->quiet());
  peer->resume({});
  EXPECT_THAT(peer->records(1).payloads, ElementsAre("a"));
}

TEST(Client, OpensANewEpochOnceEverythingOlderIsAcknowledged) {
  FakeBroker broker;
  const auto client = Client::create(options_for(broker), {}).value();
  auto peer = broker.accept();
  peer->greet();
  publish(*client, "a").value();
  peer->records(1);
  Result<std::optional<std::uint64_t>> epoch = std::optional<std::uint64_t>();
  std::thread asking([&] { epoch = client->new_epoch(kPatience); });
  peer->ack({kEpoch, 1});
  peer = broker.accept();
  const v1::Hello hello = peer->hello();
  EXPECT_TRUE(hello.assign_epoch());
  EXPECT_EQ(hello.generation(), 1u);
  EXPECT_EQ(wire::from_proto(hello.acknowledged()), (Position{kEpoch, 1}));
  Greeting greeting;
  greeting.epoch = kEpoch + 5;
  greeting.held = greeting.safe = {kEpoch, 1};
  peer->welcome(greeting);
  asking.join();
  EXPECT_EQ(epoch.value(), kEpoch + 5);
  EXPECT_EQ(publish(*client, "b").value(), (Position{kEpoch + 5, 1}));
  const Sent sent = peer->batch();
  EXPECT_EQ(sent.first, (Position{kEpoch + 5, 1}));
  EXPECT_EQ(sent.previous, (Position{kEpoch, 1}));
}

TEST(Client, ANewEpochThatCannotComeInTimeLeavesTheOldOne) {
  FakeBroker broker;
  const auto client = Client::create(options_for(broker), {}).value();
  const auto peer = broker.accept();
  peer->greet();
  publish(*client, "a").value();
  EXPECT_EQ(client->new_epoch(Milliseconds{1}).value(), std::nullopt);
  EXPECT_EQ(publish(*client, "b").value(), (Position{kEpoch, 2}));
}

TEST(Client, SaysGoodbyeWhenItIsClosed) {
  FakeBroker broker;
  auto client = Client::create(options_for(broker), {}).value();
  const auto peer = broker.accept();
  peer->greet();
  client->wait_connected(kPatience).value();
  client.reset();
  EXPECT_TRUE(peer->control().has_goodbye());
  EXPECT_TRUE(peer->ended());
}

TEST(Client, CallsThatWaitEndWhenItIsClosed) {
  FakeBroker broker;
  const auto client = Client::create(options_for(broker), {}).value();
  const auto peer = broker.accept();
  peer->greet();
  const Position position = publish(*client, "a").value();
  peer->records(1);
  std::thread closing([&] { client->close(); });
  EXPECT_TRUE(client->wait_acknowledged(position).has_error());
  closing.join();
  EXPECT_TRUE(publish(*client, "b").has_error());
  EXPECT_TRUE(client->flush().has_error());
  EXPECT_EQ(client->status().state, State::closed);
}

TEST(Client, CanBeDestroyedAtAnyMoment) {
  FakeBroker broker;
  Client::create(options_for(broker), {}).value().reset();
  {
    const auto client = Client::create(options_for(broker), {}).value();
    broker.accept();
  }
  broker.stop_listening();
  const auto client = Client::create(options_for(broker), {}).value();
}

TEST(Client, RefusesOptionsThatMakeNoSense) {
  FakeBroker broker;
  const auto wrong = [&](auto change) {
    Options options = options_for(broker);
    change(options);
    return Client::create(options, {}).has_error();
  };
  EXPECT_TRUE(wrong([](Options& o) { o.connect = "nowhere"; }));
  EXPECT_TRUE(wrong([](Options& o) { o.stream = ""; }));
  EXPECT_TRUE(wrong([](Options& o) { o.part_bytes = 0; }));
  EXPECT_TRUE(wrong([](Options& o) { o.part_bytes = (1 << 20) + 1; }));
  EXPECT_FALSE(wrong([](Options& o) { o.part_bytes = 1 << 20; }));
  EXPECT_TRUE(wrong([](Options& o) { o.max_in_flight_bytes = 0; }));
  EXPECT_TRUE(wrong([](Options& o) { o.reconnect_initial = Milliseconds{0}; }));
  EXPECT_TRUE(wrong([](Options& o) { o.reconnect_max = Milliseconds{0}; }));
  EXPECT_TRUE(wrong([](Options& o) { o.reconnect_multiplier = 0.5; }));
  EXPECT_TRUE(wrong([](Options& o) { o.reconnect_jitter = 1.5; }));
}

}  // namespace
}  // namespace spillway::client
