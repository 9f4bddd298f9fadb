// What of a configuration can be checked against this machine without running: `spillway validate`.
#pragma once

#include <string>
#include <vector>

#include "broker/config/config.h"

namespace spillway::config {

struct Environment {
  std::vector<std::string> checked;  // one line per thing looked at
  std::vector<Diagnostic> problems;  // would keep the broker from starting or from journaling
  std::vector<Diagnostic> warnings;  // may be meant: a limit that another one always precedes
};

// Looks at directories, disk space, listeners, hosts of sinks and token files. Changes nothing: a
// listener is bound for a moment, a directory that is missing is not made. May wait for name
// resolution. Blocks; call it from no reactor.
Environment check_environment(const Config& config);

}  // namespace spillway::config
