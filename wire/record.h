// Records: reading them in place, and encoding them with their CRC.
//
// A record on the wire is {tag, varint length, Record}: field 15 of Batch. Its bytes never change
// after its producer made them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/position.h"
#include "base/result.h"

namespace spillway::wire {

inline constexpr std::byte kRecordTag{0x7a};  // field 15 of Batch, length-delimited
inline constexpr std::size_t kMaxMarkBytes = 4096;
inline constexpr std::size_t kMaxTypeBytes = 256;
inline constexpr std::size_t kMaxKeyBytes = 4096;
inline constexpr std::size_t kMaxHeaders = 64;
inline constexpr std::size_t kMaxHeadersBytes = std::size_t{16} << 10;  // encoded, all together

// Consecutive records that belong together, such as what one block of a chain changed. A record
// that is a group of its own has `none`.
enum class Group : std::uint8_t { none = 0, begins = 1, continues = 2, ends = 3 };

struct HeaderView {
  std::string_view key;
  std::span<const std::byte> value;
};

// One record in place: all spans point into the bytes it was read from.
struct RecordView {
  Position position;
  std::span<const std::byte> record;  // the Record message, crc32c included
  std::span<const std::byte> payload;
  std::span<const std::byte> key;
  std::string_view type;
  std::span<const std::byte> headers_bytes;  // for headers()
  std::optional<std::int64_t> timestamp_ms;
  Group group = Group::none;
  std::optional<std::uint64_t> part;  // nothing: the record is whole
  bool last_part = false;
  std::span<const std::byte> mark;
  std::uint32_t crc32c = 0;

  bool continues() const {
    return group == Group::continues || group == Group::ends || part.value_or(0) > 0;
  }
  bool open() const {
    return group == Group::begins || group == Group::continues || (part && !last_part);
  }
  // Whether it is the whole record, or the last of its parts.
  bool completes() const { return !part || last_part; }
  std::vector<HeaderView> headers() const;
};

// Walks over records one after the other:
//   RecordReader reader(block.records, block.position);
//   for (RecordView record; reader.next(record);) ...
class RecordReader {
 public:
  RecordReader(std::span<const std::byte> records, Position first)
      : rest_(records), next_(first) {}

  // False at the end, and when the bytes are not records: then error() says why. Does not check
  // CRCs.
  bool next(RecordView& record);
  const char* error() const { return error_; }  // nullptr: all is well
  // What has not been read yet.
  std::span<const std::byte> rest() const { return rest_; }

 private:
  std::span<const std::byte> rest_;
  Position next_;
  const char* error_ = nullptr;
};

// The check of a record at `position`: CRC-32C over epoch and sequence (16 bytes, little-endian),
// then the record's bytes before the tag of its crc32c.
std::uint32_t record_crc(Position position, std::span<const std::byte> before_crc);
bool crc_matches(const RecordView& record);

// What a producer says of a record. Nothing is copied until it is encoded.
struct RecordFields {
  std::span<const std::byte> payload;
  std::span<const std::byte> key;
  std::string_view type;
  std::span<const HeaderView> headers;
  std::optional<std::int64_t> timestamp_ms;
  Group group = Group::none;
  std::optional<std::uint64_t> part;
  bool last_part = false;
  std::span<const std::byte> mark;
};

// What is over its limit in words; nothing when all is well.
std::optional<std::string> check_limits(const RecordFields& fields);
// Bytes of the Record message, which max_record_bytes bounds (of all parts of a record together).
std::size_t record_bytes(const RecordFields& fields);
// Bytes that encode_record() writes.
std::size_t encoded_bytes(const RecordFields& fields);
// Writes {tag, length, record with its CRC} to `out`, which has encoded_bytes(); returns the end.
std::byte* encode_record(const RecordFields& fields, Position position, std::byte* out);
void append_record(std::string& out, const RecordFields& fields, Position position);
// Gives records that were encoded here other positions, counting up from `first`, by making their
// CRCs anew in place.
void renumber_records(std::span<std::byte> records, Position first);

}  // namespace spillway::wire
