// What of a configuration can be checked against this machine without running: `spillway validate`.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "broker/config/config.h"

namespace spillway::config {

struct Environment {
  std::vector<std::string> checked;  // one line per thing looked at
  std::vector<Diagnostic> problems;  // would keep the broker from starting or from journaling
  std::vector<Diagnostic> warnings;  // may be meant, or pass: a limit that another one always
                                     // precedes, a sink that is away
};

// Looks at directories, disk space, listeners, hosts of sinks and token files. Changes nothing: a
// listener is bound for a moment, a directory that is missing is not made. May wait for name
// resolution. Blocks; call it from no reactor.
Environment check_environment(const Config& config);

// "its folder F does not exist: mkdir -p F", of a file or a socket that is to be made; nobody makes
// that folder but its operator.
std::optional<std::string> missing_folder(const std::filesystem::path& file);

}  // namespace spillway::config
