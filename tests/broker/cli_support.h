// A command line with a broker that is played by the test.
#pragma once

#include <sstream>
#include <string>
#include <vector>

#include "broker/cli/cli.h"
#include "tests/temp_dir.h"

namespace spillway::cli {

struct Ran {
  int code = 0;
  std::string out;
  std::string err;
};

inline Ran run_command(const std::vector<std::string>& arguments, const Backend& backend = {}) {
  std::ostringstream out;
  std::ostringstream err;
  const int code = execute(arguments, backend, Output{out, err});
  return {code, out.str(), err.str()};
}

}  // namespace spillway::cli
