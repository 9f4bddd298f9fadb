// What is registered, the list in metrics/README.md and the alert rules say the same.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "metrics/catalogue.h"
#include "metrics/metrics.h"
#include "metrics/probes.h"

namespace spillway::metrics {
namespace {

std::string read(const std::string& name) {
  std::ifstream file(std::string(METRICS_DIR "/") + name);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

struct Shape {
  std::string type;
  std::set<std::string> labels;
  bool operator==(const Shape&) const = default;
};
void PrintTo(const Shape& shape, std::ostream* out) {
  *out << shape.type;
  for (const std::string& label : shape.labels) *out << ' ' << label;
}

// The maximal runs of [a-z_] in `text`: "stream, [sink]" without brackets and comma.
std::vector<std::string> words(std::string_view text) {
  std::vector<std::string> result;
  bool inside = false;
  for (const char c : text) {
    const bool is_letter = (c >= 'a' && c <= 'z') || c == '_';
    if (is_letter && !inside) result.emplace_back();
    if (is_letter) result.back() += c;
    inside = is_letter;
  }
  return result;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> result;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) result.push_back(line);
  return result;
}

// What follows `key` in `line`, or nothing.
std::optional<std::string> after(const std::string& line, std::string_view key) {
  const std::size_t at = line.find(key);
  if (at == std::string::npos) return std::nullopt;
  return line.substr(at + key.size());
}

std::map<std::string, Shape> catalogued() {
  std::map<std::string, Shape> result;
  for (const Definition& each : catalogue()) {
    const std::vector<std::string> labels = words(each.labels);
    result[std::string(each.name)] = {std::string(name_of(each.type)),
                                      {labels.begin(), labels.end()}};
  }
  return result;
}

// All that a process with one of each exposes, with the union of the labels.
std::map<std::string, Shape> exposed() {
  Metrics metrics({"1", "hash", 0});
  const StreamProbe stream(metrics, {.stream = "s", .acks = "all"});
  const SinkProbe sink(metrics, {.stream = "s", .sink = "k", .type = "file"});
  const JournalProbe journal(metrics);
  const IngressProbe ingress(metrics);
  std::map<std::string, Shape> result;
  std::string family;
  for (const std::string& line : lines_of(metrics.expose())) {
    if (const auto type = after(line, "# TYPE ")) {
      family = type->substr(0, type->find(' '));
      result[family].type = type->substr(type->find(' ') + 1);
    } else if (!line.starts_with('#')) {
      for (std::size_t at = line.find("=\""); at != std::string::npos;
           at = line.find("=\"", at + 1)) {
        const std::string label = words(line.substr(0, at)).back();
        if (label != "le") result[family].labels.insert(label);
      }
    }
  }
  return result;
}

TEST(DocumentsTest, everything_in_the_catalogue_is_exposed_from_the_start_and_nothing_else) {
  EXPECT_EQ(exposed(), catalogued());
}

TEST(DocumentsTest, the_list_in_the_readme_is_the_catalogue) {
  std::string listed;
  for (const std::string& line : lines_of(read("README.md"))) {
    std::vector<std::string> cells;  // `name`, type, unit, labels, meaning
    for (std::size_t at = line.find("| "); at != std::string::npos; at = line.find("| ", at + 1)) {
      cells.push_back(line.substr(at + 2, line.find(" |", at + 1) - at - 2));
    }
    if (cells.size() != 5 ||
        !(cells[0].starts_with("`spillway_") || cells[0].starts_with("`process_"))) {
      continue;
    }
    const std::string meaning = cells[4].substr(0, cells[4].find(". Alert:"));
    listed += cells[0] + " | " + cells[1] + " | " + cells[3] + " | " + meaning + "\n";
  }
  std::string expected;
  for (const Definition& each : catalogue()) {
    expected += "`" + std::string(each.name) + "` | " + std::string(name_of(each.type)) + " | " +
                std::string(each.labels.empty() ? "-" : each.labels) + " | " +
                std::string(each.help) + "\n";
  }
  EXPECT_EQ(listed, expected);
}

TEST(DocumentsTest, names_follow_the_conventions) {
  for (const Definition& each : catalogue()) {
    const std::string name(each.name);
    EXPECT_TRUE(name.starts_with("spillway_") || name.starts_with("process_")) << name;
    EXPECT_EQ(name.ends_with("_total"), each.type == Type::counter) << name;
    EXPECT_EQ(each.buckets.empty(), each.type != Type::histogram) << name;
  }
}

TEST(DocumentsTest, alert_rules_use_only_metrics_that_exist) {
  const std::map<std::string, Shape> known = catalogued();
  int found = 0;
  for (std::string word : words(read("alerts.yml"))) {
    if (!word.starts_with("spillway_")) continue;
    if (word.ends_with("_bucket")) word.resize(word.size() - 7);
    EXPECT_TRUE(known.contains(word)) << word;
    ++found;
  }
  EXPECT_GT(found, 20);
}

TEST(DocumentsTest, the_dashboard_shows_only_metrics_that_exist) {
  const std::map<std::string, Shape> known = catalogued();
  std::set<std::string> shown;
  for (std::string word : words(read("dashboard.json"))) {
    if (!word.starts_with("spillway_") && !word.starts_with("process_")) continue;
    if (word.ends_with("_bucket")) word.resize(word.size() - 7);
    EXPECT_TRUE(known.contains(word)) << word;
    shown.insert(word);
  }
  EXPECT_GT(shown.size(), 25U);
}

TEST(DocumentsTest, every_alert_has_a_severity_a_summary_and_a_runbook_in_the_readme) {
  const std::string readme = read("README.md");
  std::string rules = read("alerts.yml");
  int found = 0;
  while (const auto rest = after(rules, "- alert: ")) {
    const std::string rule = rest->substr(0, rest->find("- alert: "));
    const std::string name = rule.substr(0, rule.find('\n'));
    EXPECT_THAT(rule, testing::HasSubstr("expr: ")) << name;
    EXPECT_THAT(rule, testing::HasSubstr("severity: ")) << name;
    EXPECT_THAT(rule, testing::HasSubstr("summary: ")) << name;
    const auto anchor = after(rule, "runbook_url: metrics/README.md#");
    ASSERT_TRUE(anchor) << name;
    EXPECT_THAT(readme, testing::HasSubstr("| " + name + " |"));
    EXPECT_THAT(readme,
                testing::HasSubstr("<a id=\"" + anchor->substr(0, anchor->find('\n')) + "\""));
    rules = *rest;
    ++found;
  }
  EXPECT_GT(found, 20);
}

}  // namespace
}  // namespace spillway::metrics
