// A test body in a process of its own: RocksDB may abort on what is injected, and the parent of a
// fork must never have opened a store.
#pragma once

#include <filesystem>
#include <functional>

namespace spillway::journal {

// Where files go that no machine has to survive for: a disk in memory, if it has the room. What is
// durable there the tests decide, not the disk.
std::filesystem::path in_memory();

// Runs `body` in a child; its failures fail this test, and so does its death.
void in_child(const std::function<void()>& body);

// Starts `body` in a child, waits until `acked` numbers came back from it through report(), kills
// it with SIGKILL and returns the last number that came.
class Victim {
 public:
  explicit Victim(const std::function<void(Victim&)>& body);
  ~Victim();
  Victim(const Victim&) = delete;
  Victim& operator=(const Victim&) = delete;

  void report(unsigned long number);              // in the child
  unsigned long kill_after(unsigned long acked);  // in the parent

 private:
  int pipe_[2];
  int pid_ = -1;
};

}  // namespace spillway::journal
