// A node that makes a record as often as it can, stops when the broker halts the stream, and goes
// on after Resume. It ends when so many records are acknowledged.
//
//   example_halt tcp://127.0.0.1:7070 STREAM COUNT
#include <chrono>
#include <condition_variable>
#include <iostream>
#include <mutex>
#include <string>
#include <vector>

#include "client/client.h"

using namespace spillway::client;

// Where the node waits while the stream is halted. Events come from the client's thread.
class Gate {
 public:
  void set(bool open) {
    const std::lock_guard lock(mutex_);
    open_ = open;
    changed_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true;
};

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: example_halt ADDRESS STREAM COUNT\n";
    return 2;
  }
  Options options;
  options.connect = argv[1];
  options.stream = argv[2];
  options.give_up_after = std::chrono::seconds(30);
  const unsigned long count = std::stoul(argv[3]);

  Gate gate;
  Events events;
  events.on_halt = [&](const std::vector<HaltCause>& causes) {
    for (const HaltCause& cause : causes) {
      std::cout << "halt: " << cause.kind << " " << cause.sink << " " << cause.text << std::endl;
    }
    gate.set(false);
  };
  events.on_resume = [&] {
    std::cout << "resume" << std::endl;
    gate.set(true);
  };
  events.on_state = [&](State state, const std::string& why) {
    std::cout << name_of(state) << (why.empty() ? "" : ": ") << why << std::endl;
    // Without a connection nothing is known of a halt: publish() waits by itself when it has to.
    if (state != State::halted) gate.set(true);
  };
  auto client = Client::create(options, events);
  if (!client) {
    std::cerr << client.error().message << "\n";
    return 2;
  }
  for (unsigned long i = 1; i <= count; ++i) {
    gate.wait();
    const std::string payload = "record " + std::to_string(i);
    Record record;
    record.payload = payload;
    if (const auto position = (*client)->publish(record); !position) {
      std::cerr << position.error().message << "\n";
      return 1;
    }
  }
  const auto acknowledged = (*client)->flush();
  if (!acknowledged) {
    std::cerr << acknowledged.error().message << "\n";
    return 1;
  }
  std::cout << count << " records acknowledged" << std::endl;
  return 0;
}
