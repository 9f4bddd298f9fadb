// Looks at the files of a store before RocksDB may change them: it recovers up to the first byte
// that it does not like, and deletes what it does not know then, intact or not.
#pragma once

#include <optional>
#include <string>

#include "journal/store.h"

namespace spillway::journal {

struct StartCheck {
  std::optional<Error> error;         // a file cannot be read: trying again may help
  std::optional<std::string> damage;  // why the store must not be opened for writing
};
// Reads the WAL and the MANIFEST, and tables only if the MANIFEST has no proper end, or there is
// one that it never listed.
StartCheck check_before_start(StoreContext& context);

// The MANIFEST that CURRENT names; nothing when CURRENT is missing or names none.
std::optional<std::filesystem::path> current_manifest(const Layout& layout);

}  // namespace spillway::journal
