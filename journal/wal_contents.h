// What the WAL files hold, by stream: everything that is intact, also behind damage.
#pragma once

#include <rocksdb/write_batch.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/block.h"
#include "journal/log_scan.h"

namespace spillway::journal {

struct WalFile {
  std::filesystem::path path;
  std::uint64_t number = 0;
  LogScan scan;
  std::optional<std::uint64_t> first_write;  // numbers of writes; nothing when it has none
  std::uint64_t next_write = 0;
};

class WalContents {
 public:
  // Column families by number, as far as tables tell; the WAL itself tells the rest.
  using Families = std::map<std::uint32_t, std::string>;
  struct Value {
    std::uint64_t write = 0;
    std::optional<std::string> value;  // nothing: deleted
  };

  // In memory: a store bounds its WAL (Sizing::wal).
  static WalContents read(const std::filesystem::path& store, Families families);

  const std::vector<WalFile>& files() const { return files_; }  // by number
  const std::map<std::string, std::map<Offset, BlockPtr>>& blocks() const { return blocks_; }
  const std::map<std::string, Value>& meta() const { return meta_; }
  // As last written; nothing: purged.
  const std::map<std::string, std::optional<std::string>>& dead_letters() const {
    return dead_letters_;
  }
  std::uint64_t unclaimed() const { return unclaimed_; }  // blocks of no stream that is known
  std::uint64_t damaged_values() const { return damaged_values_; }

 private:
  class Handler;
  void add(const std::string& record, WalFile& file);
  void name_families();

  Families families_;
  std::vector<WalFile> files_;
  std::map<std::uint32_t, std::map<Offset, BlockPtr>> by_number_;
  std::map<std::string, std::map<Offset, BlockPtr>> blocks_;
  std::map<std::string, Value> meta_;
  std::map<std::string, std::optional<std::string>> dead_letters_;
  std::uint64_t unclaimed_ = 0;
  std::uint64_t damaged_values_ = 0;
};

// The number in the name of a store's file such as 000012.log; nothing for another name.
std::optional<std::uint64_t> file_number(const std::filesystem::path& path);

}  // namespace spillway::journal
