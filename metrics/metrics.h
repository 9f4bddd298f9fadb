// Metrics: the registry of a process, and its text exposition.
//
// Operation: make one, then one probe (metrics/probes.h) per stream, sink and so on; a probe makes
// its series with the value 0. expose() may be called at any time.
// Concurrency: everything here may be called from any thread.
// Lifetime: must outlive its probes. Series are never removed.
#pragma once

#include <map>
#include <memory>
#include <string>

namespace prometheus {
class Counter;
class Gauge;
class Histogram;
class Registry;
}  // namespace prometheus

namespace spillway::metrics {

using Labels = std::map<std::string, std::string>;

struct Identity {
  std::string version;
  std::string config_hash;    // of the configuration file
  double loaded_seconds = 0;  // when it was read, since 1970
};

class Metrics {
 public:
  explicit Metrics(const Identity& identity);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // Everything in the text format 0.0.4; serve it as kContentType.
  std::string expose() const;
  static constexpr const char* kContentType = "text/plain; version=0.0.4; charset=utf-8";

  // For probes: the series of a metric of the catalogue, made if it is not there.
  prometheus::Counter& counter(const std::string& name, const Labels& labels = {});
  prometheus::Gauge& gauge(const std::string& name, const Labels& labels = {});
  prometheus::Histogram& histogram(const std::string& name, const Labels& labels = {});

 private:
  std::unique_ptr<prometheus::Registry> registry_;
};

}  // namespace spillway::metrics
