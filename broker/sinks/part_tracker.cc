#include "broker/sinks/part_tracker.h"

#include <cstring>
#include <limits>

namespace spillway::broker {

const char* PartTracker::flaw_of(std::span<const std::byte> payload) const {
  switch (framing_) {
    case config::Framing::lines:
      if (!payload.empty() && std::memchr(payload.data(), '\n', payload.size()) != nullptr) {
        return "the payload contains a newline, and framing is \"lines\"";
      }
      return "";
    case config::Framing::length_prefixed:
      if (bytes_ > std::numeric_limits<std::uint32_t>::max()) {
        return "the payload is longer than a 32-bit length can say";
      }
      return "";
  }
  return "";
}

PartTracker::Step PartTracker::record(Offset offset, const wire::RecordView& record) {
  abandoned_.reset();
  if (open_ && record.part != next_part_) {
    abandoned_ = last_;
    open_ = false;
  }
  const bool first = !open_;
  if (first) {
    first_ = offset;
    bytes_ = 0;
    flaw_ = "";
    next_part_ = record.part.value_or(0);
    if (next_part_ != 0) {
      flaw_ = "the first parts of the record are missing";
    }
  }
  last_ = offset;
  bytes_ += record.payload.size();
  if (*flaw_ == '\0') {
    flaw_ = flaw_of(record.payload);
  }
  open_ = !record.completes();
  ++next_part_;
  if (*flaw_ != '\0') {
    return open_ ? Step::hold : Step::refuse;
  }
  if (first) {
    return open_ ? Step::begins : Step::whole;
  }
  return open_ ? Step::continues : Step::completes;
}

bool PartTracker::skip() {
  if (!open_) {
    return true;
  }
  open_ = false;
  if (*flaw_ == '\0') {
    flaw_ = "the last parts of the record are missing";
  }
  return false;
}

}  // namespace spillway::broker
