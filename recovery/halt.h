// Why a stream refuses new records: the causes that its latch holds.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/position.h"
#include "recovery/time.h"

namespace spillway::recovery {

// Stored in the latch file and sent to producers: numbers are never reused.
enum class CauseKind : std::uint8_t {
  max_bytes = 1,
  max_records = 2,
  max_age = 3,
  outage_timeout = 4,
  disk_bound = 5,
  min_free_disk = 6,
  journal_failing = 7,
  journal_damaged = 8,
  gap = 9,
};
inline constexpr int kCauseKinds = 9;

constexpr std::string_view name_of(CauseKind kind) {
  switch (kind) {
    case CauseKind::max_bytes: return "max_bytes";
    case CauseKind::max_records: return "max_records";
    case CauseKind::max_age: return "max_age";
    case CauseKind::outage_timeout: return "outage_timeout";
    case CauseKind::disk_bound: return "disk_bound";
    case CauseKind::min_free_disk: return "min_free_disk";
    case CauseKind::journal_failing: return "journal_failing";
    case CauseKind::journal_damaged: return "journal_damaged";
    case CauseKind::gap: return "gap";
  }
  return "unknown";
}

struct HaltCause {
  CauseKind kind{};
  std::string sink;   // empty: the stream's own
  Position position;  // the last record taken when it tripped
  WallMs since = 0;
  std::string text;  // the limit and what to do
  friend bool operator==(const HaltCause&, const HaltCause&) = default;
};

}  // namespace spillway::recovery
