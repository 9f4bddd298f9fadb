// Records out of a file or standard input, for `spillway publish`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace spillway::cli {

// One thread. Reads ahead by one buffer, which grows to the largest record.
class RecordSource {
 public:
  enum class Framing { lines, length_prefixed };
  // The name "-" is standard input.
  static Result<RecordSource> open(const std::string& name, Framing framing);

  RecordSource(RecordSource&& other) noexcept;
  RecordSource& operator=(RecordSource&&) = delete;
  ~RecordSource();

  // The next record; nothing at the end. A last line without its newline is a record. Records stay
  // valid until next() is called while buffered() is false. An error is final: the input cannot be
  // read, or ends inside a prefixed record.
  Result<std::optional<std::string_view>> next();
  // Whether next() has a whole record at hand and will not read.
  bool buffered() const { return find().has_value(); }
  std::uint64_t bytes_read() const { return bytes_read_; }
  std::optional<std::uint64_t> total_bytes() const { return total_bytes_; }  // of a regular file

 private:
  RecordSource(int fd, bool owned, std::string name, Framing framing);

  // A whole record at the front of the buffer: where it begins and ends, and what follows it.
  struct Found {
    std::size_t begin;
    std::size_t end;
    std::size_t next;
  };
  std::optional<Found> find() const;
  Result<bool> fill();  // false at the end of the input

  int fd_;
  bool owned_;
  std::string name_;
  Framing framing_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  mutable std::size_t searched_ = 0;  // from begin_: no newline in there
  bool ended_ = false;
  std::uint64_t records_ = 0;
  std::uint64_t bytes_read_ = 0;
  std::optional<std::uint64_t> total_bytes_;
};

}  // namespace spillway::cli
