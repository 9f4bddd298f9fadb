// Reads a WAL or a MANIFEST as far as its bytes are good, also behind bytes that are not: RocksDB
// stops at the first bad one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace spillway::journal {

struct LogScan {
  std::uint64_t bytes = 0;
  std::uint64_t records = 0;                // intact ones
  std::optional<std::uint64_t> damaged_at;  // the first byte that is not as it should be
  // An intact record follows one that is not. Each was synced before the next was written, so this
  // is damage; without it, it may be what a crash or a power failure leaves at the end.
  bool intact_after_damage = false;
  std::string error;  // the file cannot be read at all
};

// Calls `visit`, unless empty, with each intact record in order, and whether one was lost between
// it and the one before.
using VisitRecord = std::function<void(const std::string& record, bool after_damage)>;
LogScan scan_log(const std::filesystem::path& path, const VisitRecord& visit);

// The reverse: `record` behind the records that `log` holds already.
void append_log(std::string& log, std::string_view record);

// Of a record of the WAL: the number of its first write, and how many it has.
std::optional<std::pair<std::uint64_t, std::uint32_t>> writes_of(const std::string& record);

}  // namespace spillway::journal
