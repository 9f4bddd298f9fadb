// PartTracker: says record by record what a sink that cannot pass parts on has to do with it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/block.h"
#include "base/position.h"
#include "broker/config/config.h"
#include "wire/record.h"

namespace spillway::broker {

// Records that a destination can never take: one record, or all parts of one.
struct Refused {
  Offset first = 0;
  Offset last = 0;
  std::string text;
};

// Joins parts into records and finds those that cannot be framed: a newline in `lines`, more than
// 32 bits of length in `length_prefixed`, parts that are missing. The refusal of a record in parts
// waits for its last part, so that it names all of them. A record whose producer never finished it
// is abandoned: it is none, and goes nowhere. One per attempt; not thread-safe.
class PartTracker {
 public:
  enum class Step {
    whole,      // a record of one piece
    begins,     // the first part of several
    continues,  // a part in the middle
    completes,  // the last part of several
    hold,       // a part of a record that will be refused: write nothing
    refuse,     // refused() has the range; nothing of the records in it may stand
  };

  explicit PartTracker(config::Framing framing) : framing_(framing) {}

  // Requires records (and skips) in order, without a gap.
  Step record(Offset offset, const wire::RecordView& record);
  // A range that is missing by policy. Returns false if it cuts a record short: then see refused().
  bool skip();

  // Set by record() when it found the record before unfinished: the last part of that one.
  std::optional<Offset> abandoned() const { return abandoned_; }
  std::uint64_t payload_bytes() const { return bytes_; }  // of the record in hand, so far
  // Requires that the last call asked for a refusal.
  Refused refused() const { return {first_, last_, flaw_}; }

 private:
  const char* flaw_of(std::span<const std::byte> payload) const;

  config::Framing framing_;
  bool open_ = false;  // parts are still to come
  Offset first_ = 0;
  Offset last_ = 0;
  std::optional<Offset> abandoned_;
  std::uint64_t next_part_ = 0;
  std::uint64_t bytes_ = 0;
  const char* flaw_ = "";
};

}  // namespace spillway::broker
