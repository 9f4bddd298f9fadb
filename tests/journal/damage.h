// Damage done to the files of a journal.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "journal/log_scan.h"

namespace spillway::journal {

// The files of the store whose names have `part` in them, by name.
inline std::vector<std::filesystem::path> store_files(const std::filesystem::path& data_dir,
                                                      const std::string& part) {
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(data_dir / "journal")) {
    if (entry.path().filename().string().find(part) != std::string::npos) {
      found.push_back(entry.path());
    }
  }
  std::ranges::sort(found);
  return found;
}

// The lowest bit of a byte.
inline void flip(const std::filesystem::path& path, std::uintmax_t at) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(at));
  const int c = file.get();
  file.seekp(static_cast<std::streamoff>(at));
  file.put(static_cast<char>(c ^ 1));
}

// Flips a bit of `part` in each table that has it; returns in how many.
inline int flip_in_tables(const std::filesystem::path& data_dir, const std::string& part) {
  int flips = 0;
  for (const std::filesystem::path& table : store_files(data_dir, ".sst")) {
    std::ifstream file(table, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    const auto at = bytes.find(part);
    if (at == std::string::npos) continue;
    flip(table, at + part.size() / 2);
    ++flips;
  }
  return flips;
}

// Moves all but the first `records` of a WAL file into one that follows it. So it is when a
// memtable was full, and the process died before it was in a table.
inline void split_wal(const std::filesystem::path& wal, const std::filesystem::path& next,
                      std::uint64_t records) {
  std::string logs[2];
  const LogScan scan = scan_log(wal, [&](const std::string& record, bool) {
    append_log(logs[records == 0 ? 1 : 0], record);
    if (records > 0) --records;
  });
  ASSERT_FALSE(scan.damaged_at);
  ASSERT_FALSE(logs[1].empty());
  std::ofstream(wal, std::ios::binary) << logs[0];
  std::ofstream(next, std::ios::binary) << logs[1];
}

}  // namespace spillway::journal
