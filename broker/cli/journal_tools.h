// What the commands that look into a journal share.
#pragma once

#include <memory>
#include <string>

#include "broker/cli/commands.h"
#include "broker/cli/remote.h"
#include "journal/inspect.h"

namespace spillway::cli {

Outcome<std::unique_ptr<journal::Inspector>> open_journal(const JournalOptions& options);

struct OpenStream {
  std::unique_ptr<journal::Inspector> inspector;
  const journal::Recovered* stream = nullptr;  // the inspector's, never null
};
Outcome<OpenStream> open_stream(const JournalOptions& options, const std::string& name);
// Null when there is none of that name: nothing else tells a typing error from an empty stream.
const journal::Recovered* find_stream(const journal::Inspector& inspector, const std::string& name);
std::string no_such_stream(const journal::Inspector& inspector, const std::string& name);

}  // namespace spillway::cli
