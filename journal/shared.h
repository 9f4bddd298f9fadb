// What the journal thread and the reader thread share.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>

#include "journal/slots.h"
#include "journal/store.h"

namespace spillway::journal {

// One stream. The journal thread alone changes it; others read the atomics.
struct Stream {
  Stream(std::string its_name, Slots its_latch, Slots its_mark)
      : name(std::move(its_name)), latch(std::move(its_latch)), mark(std::move(its_mark)) {}

  const std::string name;
  std::atomic<Offset> end{0};        // of what is durable
  std::atomic<Offset> watermark{0};  // as durable

  // What the group that is being put together will make of it.
  struct Staged {
    Offset end = 0;
    Offset watermark = 0;
    bool group_open = false;  // the last block ends inside a group
    std::uint64_t next_ledger_id = 1;
    std::uint64_t ledger_count = 0;
    std::uint64_t next_dead_letter = 1;
  };
  Staged durable;
  Staged staged;

  Outcome refused = Outcome::ok;  // how the last append that was not taken ended
  Offset high_water = 0;          // what must be found again; the mark file follows it
  Slots latch;
  bool latch_missing = false;  // at the start, though the store had the stream; until it is written
  Slots mark;
  bool trim_due = false;
};

struct Shared {
  explicit Shared(const Options& options) : context(options) {}

  Stream* find(const std::string& name) const {
    const auto it = streams.find(name);
    return it == streams.end() ? nullptr : it->second.get();
  }

  StoreContext context;
  std::map<std::string, std::unique_ptr<Stream>> streams;  // fixed once open

  // Held shared by whoever uses `store`, alone by the journal thread to close, open or extend it;
  // the journal thread itself uses it without.
  mutable std::shared_mutex store_mutex;
  std::unique_ptr<Store> store;
  std::atomic<bool> damaged{false};  // opened for salvage only, or not at all
  std::string damage;                // why; set before the threads start

  mutable std::mutex counters_mutex;
  Stats counters;  // what is counted rather than asked of RocksDB
};

}  // namespace spillway::journal
