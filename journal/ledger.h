// Reads the ledger of a stream and keeps it within kMaxLedgerEntries.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "journal/store.h"

namespace spillway::journal {

// Newest first, at most `max`.
Result<std::vector<LedgerEntry>> read_ledger(Store& store, const std::string& stream,
                                             std::size_t max);
std::uint64_t count_ledger(Store& store, const std::string& stream, rocksdb::Status& status);

// Merges the oldest entries, entries of one sink and reason with one another, until a tenth of the
// limit is free again; an entry that still grows is left alone. Adds the changes to `batch` and
// returns how many entries remain.
std::uint64_t merge_ledger(Store& store, const std::string& stream, std::uint64_t count,
                           rocksdb::WriteBatch& batch);

}  // namespace spillway::journal
