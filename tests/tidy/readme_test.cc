// What README.md shows must work: its configurations are read as they stand there.
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "broker/config/config.h"

namespace spillway {
namespace {

std::vector<std::string> fenced(const std::string& file, const std::string& language) {
  std::ifstream stream(std::string(SPILLWAY_ROOT) + "/" + file);
  std::vector<std::string> found;
  std::string line;
  bool inside = false;
  while (std::getline(stream, line)) {
    if (inside && line == "```") {
      inside = false;
    } else if (inside) {
      found.back() += line + "\n";
    } else if (line == "```" + language) {
      inside = true;
      found.emplace_back();
    }
  }
  return found;
}

TEST(Readme, ShowsConfigurationsThatAreValid) {
  const std::vector<std::string> examples = fenced("README.md", "toml");
  ASSERT_FALSE(examples.empty());
  for (const std::string& example : examples) {
    const Result<config::Config> read = config::parse(example, "README.md");
    EXPECT_TRUE(read.has_value()) << read.error().message << "\n" << example;
  }
}

}  // namespace
}  // namespace spillway
