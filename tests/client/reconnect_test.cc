// What happens when the connection, or the broker, does not hold.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/client/fake_broker.h"

namespace spillway::client {
namespace {

using testing::ElementsAre;

class Reconnect : public testing::Test {
 protected:
  // Connected, with "a", "b", "c", "d" sent and "a" acknowledged.
  void start(Options options) {
    client_ = Client::create(options, log_.events()).value();
    peer_ = broker_.accept();
    peer_->greet();
    for (const char* payload : {"a", "b", "c", "d"}) publish(*client_, payload).value();
    peer_->records(4);
    peer_->ack({kEpoch, 1});
    log_.await("acknowledged " + to_string({kEpoch, 1}));
  }
  void start() { start(options_for(broker_)); }
  v1::Hello again(const Greeting& greeting) {
    peer_.reset();
    peer_ = broker_.accept();
    return peer_->greet(greeting);
  }

  FakeBroker broker_;
  Log log_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<Peer> peer_;
};

TEST_F(Reconnect, SendsAgainOnlyWhatTheBrokerDoesNotHold) {
  start();
  Greeting greeting;
  greeting.held = {kEpoch, 3};
  greeting.safe = {kEpoch, 1};
  const v1::Hello hello = again(greeting);
  EXPECT_EQ(hello.generation(), 1u);
  EXPECT_EQ(wire::from_proto(hello.acknowledged()), (Position{kEpoch, 1}));
  EXPECT_EQ(wire::from_proto(hello.oldest()), (Position{kEpoch, 2}));
  const Sent sent = peer_->records(1);
  EXPECT_EQ(sent.first, (Position{kEpoch, 4}));
  EXPECT_THAT(sent.payloads, ElementsAre("d"));
}

TEST_F(Reconnect, KeepsWhatIsHeldUntilItIsSafe) {
  start();
  Greeting greeting;
  greeting.held = {kEpoch, 4};
  greeting.safe = {kEpoch, 1};
  again(greeting);
  log_.await("live");
  EXPECT_EQ(client_->status().kept_records, 3u);
  // The broker's machine crashed: it holds less than before.
  greeting.held = {kEpoch, 2};
  again(greeting);
  EXPECT_THAT(peer_->records(2).payloads, ElementsAre("c", "d"));
}

TEST_F(Reconnect, WhatTheBrokerCallsSafeAtWelcomeIsForgotten) {
  start();
  Greeting greeting;
  greeting.held = greeting.safe = {kEpoch, 4};
  again(greeting);
  log_.await("acknowledged " + to_string({kEpoch, 4}));
  EXPECT_EQ(client_->status().kept_records, 0u);
  const v1::Hello hello = again(greeting);
  EXPECT_EQ(wire::from_proto(hello.oldest()), (Position{kEpoch, 5}));
}

TEST_F(Reconnect, WhenTheBrokerLostWhatItAcknowledgedItGoesOnWithTheOldestItHas) {
  start();
  again({});  // holds nothing at all
  const Sent sent = peer_->records(3);
  EXPECT_EQ(sent.first, (Position{kEpoch, 2}));
  EXPECT_THAT(sent.payloads, ElementsAre("b", "c", "d"));
}

TEST_F(Reconnect, AnEpochThatItDidNotAskForGetsWhatTheBrokerDoesNotHold) {
  client_ = Client::create(options_for(broker_), log_.events()).value();
  peer_ = broker_.accept();
  peer_->greet();
  const Position a = publish(*client_, "a").value();
  const Position b = publish(*client_, "b").value();
  peer_->records(2);
  Greeting greeting;
  greeting.epoch = kEpoch + 9;
  greeting.held = {kEpoch + 9, 0};
  const v1::Hello hello = again(greeting);
  EXPECT_FALSE(hello.has_acknowledged());
  log_.await("epoch " + std::to_string(kEpoch + 9) + " from " + to_string(a) + " records 2");
  const Sent sent = peer_->records(2);
  EXPECT_EQ(sent.first, (Position{kEpoch + 9, 1}));
  EXPECT_THAT(sent.payloads, ElementsAre("a", "b"));
  EXPECT_FALSE(client_->wait_acknowledged(a, Milliseconds{0}).value());
  peer_->ack({kEpoch + 9, 1});
  EXPECT_TRUE(client_->wait_acknowledged(a, kPatience).value());
  EXPECT_FALSE(client_->wait_acknowledged(b, Milliseconds{0}).value());
  EXPECT_EQ(publish(*client_, "c").value(), (Position{kEpoch + 9, 3}));
}

TEST_F(Reconnect, OnlyWhatTheOldEpochDoesNotHoldMovesToTheNewOne) {
  start();
  Greeting greeting;
  greeting.epoch = kEpoch + 9;
  greeting.held = {kEpoch, 2};
  greeting.safe = {kEpoch, 1};
  again(greeting);
  const Sent sent = peer_->records(2);
  EXPECT_EQ(sent.first, (Position{kEpoch + 9, 1}));
  EXPECT_EQ(sent.previous, (Position{kEpoch, 2}));
  EXPECT_THAT(sent.payloads, ElementsAre("c", "d"));
  EXPECT_EQ(client_->status().kept_records, 3u);
}

TEST_F(Reconnect, ABrokerThatLostItsStoreGetsAllThatIsNotAcknowledged) {
  start();
  Greeting greeting;
  greeting.epoch = kEpoch + 9;
  greeting.held = greeting.safe = {kEpoch + 9, 0};
  const v1::Hello hello = again(greeting);
  EXPECT_EQ(wire::from_proto(hello.acknowledged()), (Position{kEpoch, 1}));
  const Sent sent = peer_->records(3);
  EXPECT_EQ(sent.first, (Position{kEpoch + 9, 1}));
  EXPECT_THAT(sent.payloads, ElementsAre("b", "c", "d"));
}

TEST_F(Reconnect, ANewEpochThatAnotherProducerFilledIsFinal) {
  start();
  Greeting greeting;
  greeting.epoch = kEpoch + 9;
  greeting.held = {kEpoch + 9, 3};
  again(greeting);
  log_.await("failed");
}

TEST_F(Reconnect, TriesUntilTheBrokerIsThere) {
  const std::string address = broker_.address();
  broker_.stop_listening();
  client_ = Client::create(options_for(broker_), log_.events()).value();
  for (int i = 0; i < 5; ++i) log_.await("connecting");
  EXPECT_EQ(client_->status().connections, 0u);
  EXPECT_TRUE(log_.has("because cannot connect"));
}

TEST_F(Reconnect, GivesUpWhenToldTo) {
  Options options = options_for(broker_);
  options.give_up_after = Milliseconds{30};
  broker_.stop_listening();
  client_ = Client::create(options, log_.events()).value();
  EXPECT_TRUE(publish(*client_, "a").has_error());
  EXPECT_EQ(client_->status().state, State::failed);
  log_.await("failed");
  EXPECT_TRUE(log_.has("because gave up"));
}

TEST_F(Reconnect, ARetryableRejectIsTriedAgain) {
  start();
  peer_->reject(wire::RejectCode::shutting_down, "going down");
  Greeting greeting;
  greeting.held = {kEpoch, 4};
  again(greeting);
  log_.await("because refused (shutting_down): going down");
  log_.await("live");
}

TEST_F(Reconnect, AnyOtherRejectIsFinal) {
  for (const auto code : {wire::RejectCode::fenced, wire::RejectCode::replaced,
                          wire::RejectCode::unknown_stream, wire::RejectCode::fork}) {
    const auto client = Client::create(options_for(broker_), {}).value();
    const auto peer = broker_.accept();
    peer->hello();
    peer->reject(code, "because");
    EXPECT_TRUE(client->wait_connected(kPatience).has_error());
    EXPECT_EQ(client->status().state, State::failed);
    EXPECT_TRUE(peer->ended());
    EXPECT_TRUE(publish(*client, "x").has_error());
  }
}

TEST_F(Reconnect, AGoodbyeIsAnOrderlyLoss) {
  start();
  v1::Frame frame;
  frame.mutable_goodbye()->set_reason("restarting");
  frame.mutable_goodbye()->set_retry_after_ms(1);
  peer_->send(wire::encode(frame));
  Greeting greeting;
  greeting.held = {kEpoch, 4};
  again(greeting);
  log_.await("because the broker said goodbye: restarting");
  log_.await("live");
}

TEST_F(Reconnect, ASilentBrokerIsLeft) {
  client_ = Client::create(options_for(broker_), log_.events()).value();
  const auto silent = broker_.accept();
  Greeting greeting;
  greeting.ping_interval_ms = 5;
  silent->greet(greeting);
  EXPECT_TRUE(silent->control().has_ping());
  log_.await("because the broker is silent");
  broker_.accept()->greet();
}

TEST_F(Reconnect, ABrokerThatNeverSaysWelcomeIsLeft) {
  Options options = options_for(broker_);
  options.welcome_timeout = Milliseconds{5};
  client_ = Client::create(options, log_.events()).value();
  const auto silent = broker_.accept();
  silent->hello();
  log_.await("because the broker did not answer in time");
}

TEST_F(Reconnect, WhatMakesNoSenseEndsTheConnectionOnly) {
  for (const std::string& nonsense :
       {std::string("\xff\xff\xff\xff", 4), std::string("\0\0\0\0", 4), wire::encode(v1::Frame{}),
        wire::encode_ack({kEpoch, 99}, {})}) {
    Log log;
    const auto client = Client::create(options_for(broker_), log.events()).value();
    auto peer = broker_.accept();
    peer->greet();
    log.await("live");
    peer->send(nonsense);
    peer = broker_.accept();
    peer->greet();
    log.await("live");
  }
}

TEST_F(Reconnect, AWelcomeThatMakesNoSenseIsFinal) {
  const auto fails = [&](auto change) {
    const auto client = Client::create(options_for(broker_), {}).value();
    const auto peer = broker_.accept();
    Greeting greeting;
    change(greeting);
    peer->greet(greeting);
    return client->wait_connected(kPatience).has_error();
  };
  EXPECT_TRUE(fails([](Greeting& g) { g.epoch = 0; }));
  EXPECT_TRUE(fails([](Greeting& g) { g.held = {kEpoch + 1, 1}; }));
}

TEST_F(Reconnect, AStreamThatWentOnWithoutThisProducerIsFinal) {
  start();
  Greeting greeting;
  greeting.held = {kEpoch, 5};
  again(greeting);
  log_.await("failed");
  EXPECT_TRUE(log_.has("went on to"));
}

TEST_F(Reconnect, AnOlderEpochThanItsOwnIsFinal) {
  start();
  Greeting greeting;
  greeting.epoch = kEpoch - 1;
  again(greeting);
  log_.await("failed");
}

TEST_F(Reconnect, ALossWhileALargeBatchIsUnderWayLosesNothing) {
  client_ = Client::create(options_for(broker_), log_.events()).value();
  peer_ = broker_.accept();
  peer_->greet();
  // More than the sockets hold, and nobody reads: the write cannot finish.
  const std::string payload(30 << 20, 'x');
  publish(*client_, payload).value();
  again({});
  std::string received;
  while (received.size() < payload.size()) {
    for (const std::string& part : peer_->batch().payloads) received += part;
  }
  EXPECT_EQ(received, payload);
}

// A process before this one sent what is held and not safe; the broker may have lost it since.
TEST_F(Reconnect, BehindRecordsOfAnotherProcessANewEpochBegins) {
  client_ = Client::create(options_for(broker_), log_.events()).value();
  peer_ = broker_.accept();
  Greeting greeting;
  greeting.held = {kEpoch, 12};
  greeting.safe = {kEpoch, 10};
  EXPECT_FALSE(peer_->greet(greeting).assign_epoch());
  log_.await("live");
  peer_->close();
  peer_ = broker_.accept();
  greeting.held = {kEpoch + 1, 0};
  greeting.epoch = kEpoch + 1;
  EXPECT_TRUE(peer_->greet(greeting).assign_epoch());
  log_.await("live");
  EXPECT_EQ(publish(*client_, "k").value(), (Position{kEpoch + 1, 1}));
}

TEST_F(Reconnect, WhatIsPublishedWhileAnEpochIsAskedForIsSentInIt) {
  client_ = Client::create(options_for(broker_), log_.events()).value();
  peer_ = broker_.accept();
  Greeting greeting;
  greeting.held = {kEpoch, 12};
  greeting.safe = {kEpoch, 10};
  peer_->greet(greeting);
  log_.await("live");
  peer_->close();
  peer_ = broker_.accept();
  EXPECT_TRUE(peer_->hello().assign_epoch());
  EXPECT_EQ(publish(*client_, "k").value(), (Position{kEpoch, 13}));
  greeting.held = {kEpoch + 1, 0};
  greeting.epoch = kEpoch + 1;
  peer_->welcome(greeting);
  const Sent sent = peer_->records(1);
  EXPECT_EQ(sent.first, (Position{kEpoch + 1, 1}));
  EXPECT_THAT(sent.payloads, ElementsAre("k"));
}

// A node that stopped at on_halt waits for on_resume, also where the broker was started again.
TEST_F(Reconnect, AHaltThatEndedMeanwhileIsOver) {
  client_ = Client::create(options_for(broker_), log_.events()).value();
  peer_ = broker_.accept();
  peer_->greet();
  log_.await("live");
  peer_->halt();
  log_.await("halted");
  peer_->close();
  peer_ = broker_.accept();
  peer_->greet();
  log_.await("resume");
}

TEST_F(Reconnect, AProducerThatKnowsWhatWasAcknowledgedSaysSo) {
  Options options = options_for(broker_);
  options.acknowledged = Position{kEpoch, 10};
  client_ = Client::create(options, log_.events()).value();
  peer_ = broker_.accept();
  Greeting greeting;
  greeting.held = {kEpoch, 7};  // the broker lost some of it
  const v1::Hello hello = peer_->greet(greeting);
  EXPECT_EQ(wire::from_proto(hello.acknowledged()), (Position{kEpoch, 10}));
  EXPECT_EQ(wire::from_proto(hello.oldest()), (Position{kEpoch, 11}));
  // Sinks may hold more of the old one, which new records must not pass for.
  EXPECT_TRUE(hello.assign_epoch());
  EXPECT_EQ(publish(*client_, "k").value(), (Position{kEpoch, 11}));
  EXPECT_EQ(peer_->batch().first, (Position{kEpoch, 11}));
}

}  // namespace
}  // namespace spillway::client
