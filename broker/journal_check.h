// Diagnosis of a store from its salvaged files: what journal check tells, and what journal repair
// needs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "broker/journal_report.h"
#include "journal/salvage.h"
#include "recovery/durable_state.h"

namespace spillway::broker::offline {

struct StreamOutlook : StreamReport {
  Offset low = 0;            // before the first record that is needed
  Offset end = 0;            // of what is or was there
  bool upper_bound = false;  // some of `lost` may have been delivered, or never been here
  bool has_blocks = false;
  std::uint64_t stored_bytes = 0;  // of its blocks that are intact, about
  bool in_store = false;
  // As stored, with what had to be mended so that it agrees with the blocks. Nothing: lost, and
  // nothing to make it of.
  std::optional<recovery::DurableState> state;
  bool state_lost = false;
  std::optional<std::string> latch;  // to be written: without the cause that a repair removes
  bool mark_needed = false;          // its mark file is damaged or missing
};

struct Diagnosis {
  JournalReport report;
  std::vector<StreamOutlook> streams;
  std::vector<StreamOutlook> forgotten;  // those of `forget`
  bool new_store = false;                // more is to be done than marks and latches
};

// `forget`: streams that a repair leaves out, so that nothing about them stands in its way.
Diagnosis diagnose(journal::Salvage& salvage, const config::Config* config,
                   const std::vector<std::string>& forget = {});

// A range in pieces of one epoch each.
struct Piece {
  Offset first = 0;
  Position position;
  std::uint64_t count = 0;
};
std::vector<Piece> pieces_of(const StreamOutlook& stream, Offset first, Offset last);
LostRange range_of(const StreamOutlook& stream, Offset first, Offset last);
// "7/3 to 7/9 (7 records)"
std::string range_text(const LostRange& range);

}  // namespace spillway::broker::offline
