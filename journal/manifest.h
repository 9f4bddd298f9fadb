// What the records of a MANIFEST say, read without RocksDB: it tells which tables a store lists
// only once it has opened all of them.
#pragma once

#include <cstdint>
#include <set>
#include <string_view>

namespace spillway::journal {

// Puts the numbers of the tables that `record` adds to the store into `tables`. False when there is
// something in it that this does not know; then some may be left out.
bool take_tables(std::string_view record, std::set<std::uint64_t>& tables);

}  // namespace spillway::journal
