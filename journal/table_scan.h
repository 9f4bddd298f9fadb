// Reads one table file of the store by itself, around what is damaged in it: whatever the store's
// own lists say of it.
#pragma once

#include <rocksdb/env.h>
#include <rocksdb/iterator.h>
#include <rocksdb/sst_file_reader.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/block.h"

namespace spillway::journal {

class Table {
 public:
  // Nothing, and why, when the parts that lead to the rest are not intact: then all of it is lost.
  // Or when the device failed: then `why` is no corruption, and asking again may help.
  static std::unique_ptr<Table> open(const std::filesystem::path& path, rocksdb::Status& why,
                                     rocksdb::Env* env = nullptr);

  const std::string& family() const { return family_; }
  std::uint32_t family_id() const { return family_id_; }

  // Every entry that can be read. Returns what went wrong. Keys are in order; where they are
  // offsets, reading goes on behind what cannot be read.
  using Visit = std::function<void(std::string_view key, std::string_view value)>;
  rocksdb::Status for_each(const Visit& visit, std::uint64_t snapshot = kNewest) const;
  // The number of the newest write in it: what an entry of another file is older or newer than. It
  // is worth nothing where `device` says that the device failed.
  std::uint64_t newest_write(rocksdb::Status& device) const;

  static constexpr std::uint64_t kNewest = (std::uint64_t{1} << 56) - 1;

 private:
  friend class TableBlocks;
  explicit Table(std::unique_ptr<rocksdb::SstFileReader> reader) : reader_(std::move(reader)) {}
  std::unique_ptr<rocksdb::Iterator> iterator() const;

  std::unique_ptr<rocksdb::SstFileReader> reader_;
  std::string family_;
  std::uint32_t family_id_ = 0;
};

// The intact blocks of a stream's table, ascending.
class TableBlocks {
 public:
  explicit TableBlocks(std::unique_ptr<Table> table);

  BlockPtr next();  // null: no more
  // What could not be read so far, in words; empty: nothing.
  const std::string& damage() const { return damage_; }
  std::uint64_t damaged_values() const { return damaged_values_; }
  // Not ok: the device failed, and what could not be read may be intact.
  const rocksdb::Status& device() const { return device_; }

 private:
  void skip_damage();
  void note();

  std::unique_ptr<Table> table_;
  std::unique_ptr<rocksdb::Iterator> it_;
  Offset last_ = 0;  // where reading stands
  bool begun_ = false;
  std::string damage_;
  rocksdb::Status device_;
  std::uint64_t damaged_values_ = 0;
};

}  // namespace spillway::journal
