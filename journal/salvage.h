// What the files of a data directory hold, read one by one: for tools that must look behind damage
// which keeps the store from being opened, or makes it end early. Reads only, takes no lock; exact
// only while no broker runs.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "journal/journal.h"

namespace spillway::journal {

// Which of a store's files is damaged, and how.
struct FileDamage {
  std::string file;  // its name under data_dir
  std::string text;
};

struct SalvagedStream {
  std::string name;
  std::optional<std::string> state;  // the newest that is intact
  std::optional<Offset> watermark;
  bool in_store = false;             // it has blocks, a state or a watermark
  std::optional<Offset> high_water;  // nothing: its mark file is missing or damaged
  bool mark_damaged = false;
  std::optional<std::string> latch;  // nothing: never written, or damaged
  bool latch_damaged = false;
  bool latch_missing = false;  // of a stream in the store, which had one before anything else
  std::uint64_t dead_letter_bytes = 0;
  std::vector<LedgerEntry> ledger;  // ascending by id
  std::vector<DeadLetter> dead_letters;
};

// Not thread-safe.
class Salvage {
 public:
  static Result<std::unique_ptr<Salvage>> open(const std::filesystem::path& data_dir);
  virtual ~Salvage() = default;

  // The number of the store's format when it is not this version's: then nothing else was read.
  virtual const std::optional<std::string>& unknown_format() const = 0;
  virtual const std::vector<FileDamage>& damage() const = 0;
  // Files that look as after a crash or a power failure: nothing that was durable is missing.
  virtual const std::vector<FileDamage>& notes() const = 0;
  virtual const std::vector<SalvagedStream>& streams() const = 0;  // by name
  virtual std::uint64_t bytes() const = 0;                         // of all tables and WAL files
  // All intact blocks of `stream`, ascending, none overlapping another, until `visit` returns
  // false. Damage that shows only here is added to damage(), once.
  virtual void for_each_block(const std::string& stream,
                              const std::function<bool(const BlockPtr&)>& visit) = 0;
};

}  // namespace spillway::journal
