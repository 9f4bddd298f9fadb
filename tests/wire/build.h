// Bytes for the tests of this folder.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "wire/batch.h"

namespace spillway::wire {

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}
inline std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Records in wire form, counting up from `first`.
std::string records_of(const std::vector<RecordFields>& fields, Position first);
// `count` whole records with payloads "0", "1", ...
std::string plain_records(std::uint64_t count, Position first);
// A Batch message from its parts.
std::string batch_bytes(Position first, std::uint64_t count, const std::string& records,
                        std::optional<LossReason> skip = std::nullopt,
                        std::optional<Position> previous = std::nullopt);
RecordFields record_of(std::string_view payload, Group group = Group::none);
RecordFields part_of(std::string_view payload, std::uint64_t part, bool last,
                     Group group = Group::none);

// A scanned batch that owns its bytes.
struct Scanned {
  std::string records;
  BatchView view;
  std::vector<RecordShape> shapes;
  std::optional<NewestMark> mark;
  std::optional<Refusal> refusal;
};
// In place: `view` points into `records`, so the result must not be moved.
void scan_into(Scanned& scanned, std::string records, Position first, std::uint64_t count);

}  // namespace spillway::wire
