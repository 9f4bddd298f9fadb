// What is wrong with the store of a broker that does not run, what of it is lost, and its repair.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/position.h"
#include "base/result.h"
#include "broker/config/config.h"

namespace spillway::broker::offline {

// One thing that is wrong. journal/README.md has the list of kinds.
struct JournalFinding {
  std::string kind;
  std::string stream;  // empty: of the store
  std::string text;
};

// Inclusive. Positions in an epoch that is not known are of epoch 0, and offsets.
struct LostRange {
  Offset first = 0;
  Offset last = 0;
  Position first_position;
  Position last_position;
};

struct StreamReport {
  std::string stream;
  std::uint64_t saved = 0;      // records that are intact and can be saved
  std::vector<LostRange> lost;  // ascending, apart
};

struct JournalReport {
  bool broker_running = false;
  std::vector<JournalFinding> findings;
  std::vector<std::string> notes;  // not damage
  std::vector<StreamReport> streams;
  std::string beyond_repair;  // why a repair cannot help; empty: it can
};

// Reads only. `config`, if there is one, tells which streams and sinks there should be. Beside a
// running broker only what the store says of itself is checked.
Result<JournalReport> check_journal(const std::filesystem::path& data_dir,
                                    const config::Config* config);

struct RepairReport {
  JournalReport found;
  std::vector<std::string> steps;  // what was, or would be, done, as sentences
  bool applied = false;
  std::string kept;  // the folder with what was replaced
};

// Makes a damaged store whole again with all of it that is intact. The rest becomes ranges without
// records, and entries of the ledger. Streams of `forget` are left out of it, which takes a
// `config` that does not name them. Only the plan, unless `apply`. broker/README.md says what a
// crash at each step leaves. Blocks.
Result<RepairReport> repair_journal(const std::filesystem::path& data_dir,
                                    const config::Config* config, bool apply,
                                    const std::vector<std::string>& forget = {});

}  // namespace spillway::broker::offline
