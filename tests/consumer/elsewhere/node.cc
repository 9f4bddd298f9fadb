// A node elsewhere: that it builds, links and runs is the test. There is no broker, so what it
// publishes must not be acknowledged, and it must be told.
#include <cstdio>

#include "client/client.h"

int main() {
  using namespace spillway::client;

  Options options;
  options.connect = "unix:///nonexistent/spillway.sock";
  options.stream = "blocks";
  options.reconnect_initial = Milliseconds(1);
  options.give_up_after = Milliseconds(50);
  auto client = Client::create(options, {});
  if (!client.has_value()) {
    std::fprintf(stderr, "create: %s\n", client.error().message.c_str());
    return 1;
  }

  Record record;
  record.payload = "hello";
  const auto published = (*client)->publish(record);
  if (published.has_value() || (*client)->status().state != State::failed) {
    std::fprintf(stderr, "published to nobody\n");
    return 1;
  }
  std::printf("as it should be: %s\n", published.error().message.c_str());
  return 0;
}
