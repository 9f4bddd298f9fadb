#include "client/address.h"

#include <gtest/gtest.h>

namespace spillway::client {
namespace {

TEST(Address, IsAHostAndPortOrAPath) {
  const Address tcp = parse_address("tcp://node.example:7070").value();
  EXPECT_EQ(tcp.host, "node.example");
  EXPECT_EQ(tcp.port, "7070");
  EXPECT_EQ(parse_address("tcp://[::1]:1").value().host, "::1");
  EXPECT_EQ(parse_address("unix:///run/s.sock").value().path, "/run/s.sock");
}

TEST(Address, RefusesEverythingElse) {
  for (const char* text : {"", "node:7070", "tcp://", "tcp://node", "tcp://:7070", "tcp://node:",
                           "tcp://node:x", "tcp://node:65536", "tcp://node:123456", "unix://",
                           "unix://relative", "http://node:80"}) {
    EXPECT_TRUE(parse_address(text).has_error()) << text;
  }
  EXPECT_TRUE(parse_address("tcp://node:65535").has_value());
  EXPECT_TRUE(parse_address("unix:///" + std::string(106, 'x')).has_value());
  EXPECT_TRUE(parse_address("unix:///" + std::string(107, 'x')).has_error());
}

}  // namespace
}  // namespace spillway::client
