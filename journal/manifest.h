// What the records of a MANIFEST say, read without RocksDB: it tells which tables a store lists
// only once it has opened all of them.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string_view>

namespace spillway::journal {

class Manifest {
 public:
  // Record after record, in order.
  void take(std::string_view record);

  // Whether all of them were understood; else what follows may lack something.
  bool known() const { return known_; }
  const std::set<std::uint64_t>& tables() const { return tables_; }  // that were ever listed
  // The number of the first WAL file that is still needed; RocksDB does not read those before it.
  std::uint64_t first_wal() const;

 private:
  bool known_ = true;
  std::set<std::uint64_t> tables_;
  std::map<std::uint64_t, std::uint64_t> wal_of_family_;
  std::uint64_t wal_kept_ = 0;
};

}  // namespace spillway::journal
