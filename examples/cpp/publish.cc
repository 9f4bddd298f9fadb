// Publishes each line of standard input, and waits until the broker answers for all of them.
//
//   example_publish tcp://127.0.0.1:7070 STREAM < lines
#include <chrono>
#include <iostream>
#include <string>

#include "client/client.h"

using spillway::client::Client;
using spillway::client::Options;
using spillway::client::Record;

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: example_publish ADDRESS STREAM < lines\n";
    return 2;
  }
  Options options;
  options.connect = argv[1];
  options.stream = argv[2];
  options.give_up_after = std::chrono::seconds(30);
  auto client = Client::create(options, {});
  if (!client) {
    std::cerr << client.error().message << "\n";
    return 2;
  }
  std::uint64_t count = 0;
  for (std::string line; std::getline(std::cin, line); ++count) {
    Record record;
    record.payload = line;
    // Waits only while too much is unacknowledged.
    const auto position = (*client)->publish(record);
    if (!position) {
      std::cerr << position.error().message << "\n";
      return 1;
    }
  }
  const auto acknowledged = (*client)->flush();
  if (!acknowledged) {
    std::cerr << acknowledged.error().message << "\n";
    return 1;
  }
  std::cout << count << " records acknowledged, through "
            << to_string((*client)->status().acknowledged) << "\n";
  return 0;
}
