#include "metrics/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <iterator>
#include <utility>
#include <vector>

#include "base/invariant.h"
#include "metrics/catalogue.h"
#include "metrics/process.h"

namespace spillway::metrics {
namespace {

// Finds the family, or makes it with the words of the catalogue.
template <class Builder>
auto& family(Builder builder, prometheus::Registry& registry, const Definition& definition) {
  return builder.Name(std::string(definition.name))
      .Help(std::string(definition.help))
      .Register(registry);
}

const Definition& checked(const std::string& name, Type type) {
  const Definition& definition = definition_of(name);
  INVARIANT(definition.type == type);
  return definition;
}

}  // namespace

Metrics::Metrics(const Identity& identity) : registry_(std::make_unique<prometheus::Registry>()) {
  gauge("spillway_build_info", {{"version", identity.version}, {"compiler", __VERSION__}}).Set(1);
  gauge("spillway_config_hash_info", {{"hash", identity.config_hash}}).Set(1);
  gauge("spillway_config_last_reload_successful").Set(1);
  gauge("spillway_config_last_reload_success_timestamp_seconds").Set(identity.loaded_seconds);
}

Metrics::~Metrics() = default;

std::string Metrics::expose() const {
  std::vector<prometheus::MetricFamily> families = registry_->Collect();
  std::vector<prometheus::MetricFamily> process = process_families();
  std::move(process.begin(), process.end(), std::back_inserter(families));
  return prometheus::TextSerializer().Serialize(families);
}

prometheus::Counter& Metrics::counter(const std::string& name, const Labels& labels) {
  return family(prometheus::BuildCounter(), *registry_, checked(name, Type::counter)).Add(labels);
}

prometheus::Gauge& Metrics::gauge(const std::string& name, const Labels& labels) {
  return family(prometheus::BuildGauge(), *registry_, checked(name, Type::gauge)).Add(labels);
}

prometheus::Histogram& Metrics::histogram(const std::string& name, const Labels& labels) {
  const Definition& definition = checked(name, Type::histogram);
  return family(prometheus::BuildHistogram(), *registry_, definition)
      .Add(labels, prometheus::Histogram::BucketBoundaries(definition.buckets.begin(),
                                                           definition.buckets.end()));
}

}  // namespace spillway::metrics
