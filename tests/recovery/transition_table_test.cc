// The tables of recovery/README.md and those that the machines obey are the same.
#include <gmock/gmock.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "recovery/delivery_machine.h"
#include "recovery/stream_machine.h"

namespace spillway::recovery {
namespace {

using Row = std::vector<std::string>;

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(' ');
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

// The rows of the table under `| from | to | <third> |`.
std::vector<Row> table(const std::string& third) {
  std::ifstream file(RECOVERY_README);
  EXPECT_TRUE(file.good()) << RECOVERY_README;
  std::vector<Row> rows;
  bool inside = false;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line.front() != '|') {
      inside = false;
      continue;
    }
    Row row;
    std::istringstream cells(line.substr(1));
    for (std::string cell; std::getline(cells, cell, '|');) row.push_back(trimmed(cell));
    if (row == Row{"from", "to", third}) {
      inside = true;
    } else if (inside && row.front().find("---") == std::string::npos) {
      rows.push_back(row);
    }
  }
  return rows;
}

TEST(TransitionTable, OfDeliveriesIsTheOneInTheReadme) {
  std::vector<Row> rows;
  for (const DeliveryTransition& t : delivery_transitions()) {
    rows.push_back(
        {std::string(name_of(t.from)), std::string(name_of(t.to)), std::string(name_of(t.cause))});
  }
  EXPECT_THAT(table("cause"), ::testing::UnorderedElementsAreArray(rows));
}

TEST(TransitionTable, OfCoverageIsTheOneInTheReadme) {
  std::vector<Row> rows;
  for (const CoverageTransition& t : coverage_transitions()) {
    rows.push_back({std::string(name_of(t.from)), std::string(name_of(t.to)), std::string(t.when)});
  }
  EXPECT_THAT(table("when"), ::testing::UnorderedElementsAreArray(rows));
}

}  // namespace
}  // namespace spillway::recovery
