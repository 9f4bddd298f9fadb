// What the kernel knows of this process, read when it is asked for.
#pragma once

#include <vector>

#include <prometheus/metric_family.h>

namespace spillway::metrics {

// The process_* families. What cannot be read is left at 0.
std::vector<prometheus::MetricFamily> process_families();

}  // namespace spillway::metrics
