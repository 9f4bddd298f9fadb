// A command line with a broker that is played by the test.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "broker/cli/cli.h"

namespace spillway::cli {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "cli_test.XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::string write(const std::string& name, const std::string& text) const {
    const auto file = path_ / name;
    std::ofstream(file, std::ios::binary) << text;
    return file.string();
  }

 private:
  std::filesystem::path path_;
};

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
