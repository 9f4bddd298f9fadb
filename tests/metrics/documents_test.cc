// What is registered, the list in metrics/README.md and the alert rules say the same.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>

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

// "stream, [sink]" without brackets.
std::set<std::string> split(std::string labels) {
  std::set<std::string> result;
  static const std::regex word("[a-z_]+");
  for (std::sregex_iterator i(labels.begin(), labels.end(), word), end; i != end; ++i) {
    result.insert(i->str());
  }
  return result;
}

std::map<std::string, Shape> catalogued() {
  std::map<std::string, Shape> result;
  for (const Definition& each : catalogue()) {
    result[std::string(each.name)] = {std::string(name_of(each.type)),
                                      split(std::string(each.labels))};
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
  std::istringstream lines(metrics.expose());
  static const std::regex type("# TYPE (\\S+) (\\S+)");
  static const std::regex label("([a-z_]+)=\"");
  std::string family;
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (std::regex_match(line, match, type)) {
      family = match[1];
      result[family].type = match[2];
    } else if (!line.starts_with('#')) {
      for (std::sregex_iterator i(line.begin(), line.end(), label), end; i != end; ++i) {
        if ((*i)[1] != "le") result[family].labels.insert((*i)[1]);
      }
    }
  }
  return result;
}

TEST(DocumentsTest, everything_in_the_catalogue_is_exposed_from_the_start_and_nothing_else) {
  EXPECT_EQ(exposed(), catalogued());
}

TEST(DocumentsTest, the_list_in_the_readme_is_the_catalogue) {
  std::istringstream lines(read("README.md"));
  static const std::regex row(
      "\\| `([a-z_]+)` \\| (counter|gauge|histogram) \\| ([^|]*) \\| ([^|]*) \\| (.+) \\|");
  std::string listed;
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (!std::regex_match(line, match, row)) continue;
    listed += match[1].str() + " | " + match[2].str() + " | " + match[4].str() + " | " +
              match[5].str().substr(0, match[5].str().find(". Alert:")) + "\n";
  }
  std::string expected;
  for (const Definition& each : catalogue()) {
    expected += std::string(each.name) + " | " + std::string(name_of(each.type)) + " | " +
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
  const std::string rules = read("alerts.yml");
  const std::map<std::string, Shape> known = catalogued();
  static const std::regex name("spillway_[a-z_]+");
  int found = 0;
  for (std::sregex_iterator i(rules.begin(), rules.end(), name), end; i != end; ++i, ++found) {
    std::string metric = i->str();
    if (metric.ends_with("_bucket")) metric.resize(metric.size() - 7);
    EXPECT_TRUE(known.contains(metric)) << metric;
  }
  EXPECT_GT(found, 20);
}

TEST(DocumentsTest, every_alert_has_a_severity_a_summary_and_a_runbook_in_the_readme) {
  const std::string rules = read("alerts.yml");
  const std::string readme = read("README.md");
  static const std::regex rule(R"(- alert: (\S+)\n([\s\S]*?)runbook_url: metrics/README.md#(\S+))");
  static const std::regex alert("- alert: ");
  const auto alerts = std::distance(std::sregex_iterator(rules.begin(), rules.end(), alert), {});
  std::ptrdiff_t found = 0;
  for (std::sregex_iterator i(rules.begin(), rules.end(), rule), end; i != end; ++i, ++found) {
    const std::string body = (*i)[2];
    EXPECT_THAT(body, testing::HasSubstr("severity: ")) << (*i)[1];
    EXPECT_THAT(body, testing::HasSubstr("summary: ")) << (*i)[1];
    EXPECT_THAT(body, testing::HasSubstr("expr: ")) << (*i)[1];
    EXPECT_THAT(readme, testing::HasSubstr("| " + (*i)[1].str() + " |")) << (*i)[1];
    EXPECT_THAT(readme, testing::HasSubstr("<a id=\"" + (*i)[3].str() + "\"></a>")) << (*i)[1];
  }
  EXPECT_EQ(found, alerts);
  EXPECT_GT(found, 20);
}

}  // namespace
}  // namespace spillway::metrics
