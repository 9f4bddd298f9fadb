// Each reader of outside bytes takes every file of its corpus: real input, and what once went wrong
// or took a way of its own. And every one of these with a byte changed, or cut off.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>

#include "tests/fuzz/targets.h"

namespace spillway::fuzz {
namespace {

std::filesystem::path corpus_of(const Target& target) {
  return std::filesystem::path(CORPUS_DIR) / target.name;
}

// An exact copy on the heap, so that a sanitizer notices one byte too far.
void run(const Target& target, const std::string& input) {
  const auto copy = std::make_unique<std::uint8_t[]>(input.size());
  std::copy(input.begin(), input.end(), copy.get());
  target.run({copy.get(), input.size()});
}

class Corpus : public testing::TestWithParam<Target> {};

TEST_P(Corpus, IsReadOrRefusedAsItIsAndDamaged) {
  std::mt19937_64 random(20240601);
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(corpus_of(GetParam()))) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string input{std::istreambuf_iterator<char>(file), {}};
    run(GetParam(), input);
    for (int i = 0; i < 200 && !input.empty(); ++i) {
      std::string changed = input;
      changed[random() % changed.size()] = static_cast<char>(random());
      if (i % 4 == 0) changed.resize(random() % changed.size());
      run(GetParam(), changed);
    }
    ++files;
  }
  EXPECT_GE(files, 5) << corpus_of(GetParam());
}

INSTANTIATE_TEST_SUITE_P(Of, Corpus, testing::ValuesIn(kTargets),
                         [](const auto& one) { return std::string(one.param.name); });

}  // namespace
}  // namespace spillway::fuzz
