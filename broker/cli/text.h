// Pieces of text that several commands print.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "broker/status.h"

namespace spillway::cli {

// Rows of equal length as columns, two spaces apart, each line ending with a newline; the first row
// is the heading. Without rows: "".
std::string table(const std::vector<std::vector<std::string>>& rows, const std::string& indent);
// "2026-11-22 16:00:01Z".
std::string utc(std::int64_t ms);
// Whole seconds as "2h13m5s"; below ten seconds with tenths.
std::string seconds_text(double seconds);

std::string status_text(const broker::StatusReport& report);
std::string sink_table(const broker::StatusReport& report);
// "max_age of sink k: why", or only the text where it begins with the limit itself.
std::string cause_text(const std::string& kind, const std::string& sink, const std::string& text);
// What halts a stream, one line per cause; "" when nothing does.
std::string halt_text(const std::string& stream, const broker::HaltStatus& halt);

}  // namespace spillway::cli
