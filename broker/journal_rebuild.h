// The new store of a repair.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "base/result.h"
#include "broker/journal_check.h"
#include "journal/salvage.h"

namespace spillway::broker::offline {

// Fills a new store under `data_dir` with what is intact of `streams`, reading it again: an error
// where that is not what the diagnosis has found, since plan and ledger follow the diagnosis.
std::optional<Error> rebuild(journal::Salvage& salvage, const std::vector<StreamOutlook>& streams,
                             const std::filesystem::path& data_dir);

}  // namespace spillway::broker::offline
