// Journaled records as a file or a pipe has them: a line or a length before each.
#pragma once

#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>

#include "base/position.h"
#include "base/result.h"
#include "wire/record.h"

namespace spillway::cli {

// One thread. The parts of a record are put together; in memory, so one record at a time.
class RecordWriter {
 public:
  enum class Framing { lines, length_prefixed, json };
  // `framing` as the option of that name has it.
  static Framing framing_of(const std::string& framing, bool json);

  RecordWriter(std::ostream& out, Framing framing) : out_(out), framing_(framing) {}

  // In order. An error: the record cannot be written in this framing, and nothing of it was.
  std::optional<Error> write(const wire::RecordView& record);
  // The last call: what is begun and will not end was left out.
  void finish();

  std::uint64_t records() const { return records_; }  // written; as JSON each part is one
  std::uint64_t bytes() const { return bytes_; }      // of their payloads
  // Of the first and the last record written, at its first and its last part.
  std::optional<Position> first() const { return first_; }
  std::optional<Position> last() const { return last_; }
  // Records whose other parts lie outside of what was written.
  std::uint64_t incomplete() const { return incomplete_; }

 private:
  std::optional<Error> put(std::string_view payload, Position first, Position last);

  std::ostream& out_;
  Framing framing_;
  std::string parts_;  // so far
  std::optional<Position> begun_;
  bool cut_off_ = false;  // parts come whose beginning did not
  std::uint64_t records_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t incomplete_ = 0;
  std::optional<Position> first_;
  std::optional<Position> last_;
};

}  // namespace spillway::cli
