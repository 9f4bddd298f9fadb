// What bounds a producer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/client/fake_broker.h"
#include "wire/record.h"

namespace spillway::client {
namespace {

using testing::ElementsAre;

// Encoded bytes of a record with a payload of one byte.
std::uint64_t one_byte() {
  wire::RecordFields fields;
  const std::byte payload{};
  fields.payload = std::span(&payload, 1);
  return wire::encoded_bytes(fields);
}

Record record_of(std::string_view payload) {
  Record record;
  record.payload = payload;
  return record;
}

TEST(Limits, PublishingWaitsForRoomInMemory) {
  FakeBroker broker;
  Options options = options_for(broker);
  options.max_in_flight_bytes = 2 * one_byte();
  const auto client = Client::create(options, {}).value();
  const auto peer = broker.accept();
  peer->greet();
  publish(*client, "a").value();
  EXPECT_TRUE(client->try_publish(record_of("b")).value());
  EXPECT_FALSE(client->try_publish(record_of("c")).value());
  peer->records(2);
  std::thread waiting([&] { EXPECT_EQ(publish(*client, "c").value(), (Position{kEpoch, 3})); });
  peer->ack({kEpoch, 1});
  waiting.join();
  EXPECT_THAT(peer->records(1).payloads, ElementsAre("c"));
}

TEST(Limits, OneRecordAloneMayBeLargerThanTheMemory) {
  FakeBroker broker;
  Options options = options_for(broker);
  options.max_in_flight_bytes = 10;
  const auto client = Client::create(options, {}).value();
  const auto peer = broker.accept();
  peer->greet();
  publish(*client, std::string(1000, 'x')).value();
  EXPECT_FALSE(client->try_publish(record_of("b")).value());
  EXPECT_EQ(peer->records(1).payloads[0].size(), 1000u);
}

TEST(Limits, NoMoreIsInFlightThanTheBrokerAllows) {
  FakeBroker broker;
  const auto client = Client::create(options_for(broker), {}).value();
  const auto peer = broker.accept();
  Greeting greeting;
  greeting.max_in_flight_bytes = 3 * one_byte();
  peer->greet(greeting);
  for (int i = 0; i < 5; ++i) publish(*client, std::to_string(i)).value();
  EXPECT_THAT(peer->records(3).payloads, ElementsAre("0", "1", "2"));
  EXPECT_TRUE(peer->quiet());
  peer->ack({kEpoch, 1});
  EXPECT_THAT(peer->records(1).payloads, ElementsAre("3"));
  EXPECT_TRUE(peer->quiet());
  peer->ack({kEpoch, 4});
  EXPECT_THAT(peer->records(1).payloads, ElementsAre("4"));
}

TEST(Limits, OneRecordAloneMayBeLargerThanWhatTheBrokerAllowsInFlight) {
  FakeBroker broker;
  const auto client = Client::create(options_for(broker), {}).value();
  const auto peer = broker.accept();
  Greeting greeting;
  greeting.max_in_flight_bytes = 10;
  peer->greet(greeting);
  publish(*client, std::string(1000, 'x')).value();
  publish(*client, "b").value();
  EXPECT_EQ(peer->records(1).payloads[0].size(), 1000u);
  EXPECT_TRUE(peer->quiet());
  peer->ack({kEpoch, 1});
  EXPECT_THAT(peer->records(1).payloads, ElementsAre("b"));
}

TEST(Limits, ARecordMayBeAsLargeAsTheBrokerTakes) {
  FakeBroker broker;
  const auto client = Client::create(options_for(broker), {}).value();
  const auto peer = broker.accept();
  const std::string payload(100, 'x');
  wire::RecordFields fields;
  fields.payload = std::as_bytes(std::span(payload));
  Greeting greeting;
  greeting.max_record_bytes = wire::record_bytes(fields);
  peer->greet(greeting);
  EXPECT_TRUE(publish(*client, payload.substr(1)).has_value());
  EXPECT_TRUE(publish(*client, payload).has_value());
  EXPECT_TRUE(publish(*client, payload + "x").has_error());
  EXPECT_NE(client->status().state, State::failed);
}

TEST(Limits, FieldsOverTheirLimitsAreRefusedAtOnce) {
  FakeBroker broker;
  const auto client = Client::create(options_for(broker), {}).value();
  const auto peer = broker.accept();
  peer->greet();
  const std::string mark(wire::kMaxMarkBytes + 1, 'm');
  Record record;
  record.mark = std::string_view(mark).substr(1);
  EXPECT_TRUE(client->publish(record).has_value());
  record.mark = mark;
  EXPECT_TRUE(client->publish(record).has_error());
  // All or nothing.
  const std::vector<Record> both{record_of("a"), record};
  EXPECT_TRUE(client->publish(both).has_error());
  EXPECT_TRUE(client->publish(std::span<const Record>()).has_error());
  EXPECT_EQ(client->status().published, (Position{kEpoch, 1}));
}

TEST(Limits, BatchesStayWithinAFrame) {
  FakeBroker broker;
  const auto client = Client::create(options_for(broker), {}).value();
  const auto peer = broker.accept();
  peer->greet();
  const std::string payload(5 << 20, 'x');
  publish(*client, payload).value();
  std::string received;
  while (received.size() < payload.size()) {
    for (const std::string& part : peer->batch().payloads) received += part;
  }
  EXPECT_EQ(received, payload);
}

}  // namespace
}  // namespace spillway::client
