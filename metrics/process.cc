#include "metrics/process.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>

#include "metrics/catalogue.h"

namespace spillway::metrics {
namespace {

// The fields of /proc/self/stat that we want, numbered as in proc(5).
struct Stat {
  double user_ticks = 0;      // 14
  double system_ticks = 0;    // 15
  double threads = 0;         // 20
  double start_ticks = 0;     // 22, since boot
  double virtual_bytes = 0;   // 23
  double resident_pages = 0;  // 24
};

Stat read_stat() {
  Stat stat;
  std::ifstream file("/proc/self/stat");
  std::string text;
  std::getline(file, text);
  // The name of the program may hold spaces and brackets: the fields begin after the last bracket.
  const std::size_t end = text.rfind(')');
  if (end == std::string::npos) return stat;
  std::istringstream fields(text.substr(end + 1));
  std::string field;
  for (int i = 3; i <= 24 && fields >> field; ++i) {
    const auto number = [&field] { return std::strtod(field.c_str(), nullptr); };
    switch (i) {
      case 14: stat.user_ticks = number(); break;
      case 15: stat.system_ticks = number(); break;
      case 20: stat.threads = number(); break;
      case 22: stat.start_ticks = number(); break;
      case 23: stat.virtual_bytes = number(); break;
      case 24: stat.resident_pages = number(); break;
      default: break;
    }
  }
  return stat;
}

double boot_seconds() {
  std::ifstream file("/proc/stat");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("btime ")) return std::strtod(line.c_str() + 6, nullptr);
  }
  return 0;
}

double open_fds() {
  std::error_code error;
  double count = 0;
  for (auto each = std::filesystem::directory_iterator("/proc/self/fd", error);
       !error && each != std::filesystem::directory_iterator(); each.increment(error)) {
    ++count;
  }
  return count > 0 ? count - 1 : 0;  // without the one that lists them
}

double max_fds() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  if (limit.rlim_cur == RLIM_INFINITY) return std::numeric_limits<double>::infinity();
  return static_cast<double>(limit.rlim_cur);
}

prometheus::MetricFamily family(std::string_view name, double value) {
  const Definition& definition = definition_of(name);
  prometheus::ClientMetric metric;
  prometheus::MetricFamily result;
  if (definition.type == Type::counter) {
    metric.counter.value = value;
    result.type = prometheus::MetricType::Counter;
  } else {
    metric.gauge.value = value;
    result.type = prometheus::MetricType::Gauge;
  }
  result.name = definition.name;
  result.help = definition.help;
  result.metric.push_back(metric);
  return result;
}

}  // namespace

std::vector<prometheus::MetricFamily> process_families() {
  static const double ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  static const double page = static_cast<double>(sysconf(_SC_PAGESIZE));
  static const double boot = boot_seconds();
  const Stat stat = read_stat();
  return {
      family("process_cpu_seconds_total", (stat.user_ticks + stat.system_ticks) / ticks),
      family("process_resident_memory_bytes", stat.resident_pages * page),
      family("process_virtual_memory_bytes", stat.virtual_bytes),
      family("process_open_fds", open_fds()),
      family("process_max_fds", max_fds()),
      family("process_threads", stat.threads),
      family("process_start_time_seconds", boot + stat.start_ticks / ticks),
  };
}

}  // namespace spillway::metrics
