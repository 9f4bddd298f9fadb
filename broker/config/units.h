// Human units: "64MiB", "200ms", "8MiB/s", both ways. For the configuration and the command line.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace spillway::config {

// "64MiB", "1.5GB", "512" (bytes). Binary units KiB..TiB, decimal units kB (or KB)..TB, "B".
Result<std::uint64_t> parse_bytes(std::string_view text);
// "200ms", "1.5s", "24h", "1h30m", "0". Units ms, s, m (or min), h, d; finer than 1 ms is an error.
Result<std::chrono::milliseconds> parse_duration(std::string_view text);
// Bytes and "/s": "8MiB/s".
Result<std::uint64_t> parse_rate(std::string_view text);

// The largest binary unit that leaves at most one decimal: "64MiB", "1.5GiB", "1000B".
std::string format_bytes(std::uint64_t bytes);
// The reverse of parse_duration, exact: "1h30m", "200ms", "0s".
std::string format_duration(std::chrono::milliseconds duration);

}  // namespace spillway::config
