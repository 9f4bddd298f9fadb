// How ledger entries and dead letters are stored.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "journal/journal.h"

namespace spillway::journal {

std::string encode(const LedgerEntry& entry);  // without its id, which is in the key
std::optional<LedgerEntry> decode_ledger_entry(std::uint64_t id, std::string_view value);

std::string encode(const DeadLetter& letter);
std::optional<DeadLetter> decode_dead_letter(std::string_view value);

}  // namespace spillway::journal
