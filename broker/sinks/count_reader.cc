#include "broker/sinks/count_reader.h"

#include <string>
#include <utility>

namespace spillway::broker {

namespace {

constexpr int kMaxDigits = 19;  // fits 64 bits without a check for overflow

}  // namespace

Result<std::optional<std::uint64_t>> CountReader::read(std::string_view text, std::uint64_t taken,
                                                       std::uint64_t added) {
  std::optional<std::uint64_t> newest;
  for (const char c : text) {
    if (c >= '0' && c <= '9' && digits_ < kMaxDigits) {
      count_ = count_ * 10 + static_cast<std::uint64_t>(c - '0');
      ++digits_;
      continue;
    }
    if (c != '\n' || digits_ == 0) {
      return Error{"the acknowledgement is not a decimal number and a newline"};
    }
    if (count_ > added) {
      return Error{"the receiver acknowledges " + std::to_string(count_) + " records, and " +
                   std::to_string(added) + " were sent"};
    }
    if (const std::uint64_t before = newest.value_or(taken); count_ < before) {
      return Error{"the acknowledgement went back from " + std::to_string(before) + " to " +
                   std::to_string(count_)};
    }
    newest = std::exchange(count_, 0);
    digits_ = 0;
  }
  return newest;
}

}  // namespace spillway::broker
