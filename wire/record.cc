#include "wire/record.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/crc32c.h"
#include "base/invariant.h"
#include "base/utf8.h"
#include "wire/varint.h"

namespace spillway::wire {
namespace {

using Bytes = std::span<const std::byte>;

// Fields of Record.
constexpr unsigned kPayload = 1;
constexpr unsigned kKey = 2;
constexpr unsigned kType = 3;
constexpr unsigned kHeaders = 4;
constexpr unsigned kTimestamp = 5;
constexpr unsigned kGroup = 6;
constexpr unsigned kPart = 7;
constexpr unsigned kLastPart = 8;
constexpr unsigned kMark = 9;
constexpr unsigned kCrc = 15;
// {tag, fixed32} of crc32c.
constexpr std::size_t kCrcFieldBytes = 5;

std::string_view as_text(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Bytes as_bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

std::uint32_t load_u32(const std::byte* bytes) {
  return std::to_integer<std::uint32_t>(bytes[0]) | std::to_integer<std::uint32_t>(bytes[1]) << 8 |
         std::to_integer<std::uint32_t>(bytes[2]) << 16 |
         std::to_integer<std::uint32_t>(bytes[3]) << 24;
}

void store_u32(std::uint32_t value, std::byte* out) {
  for (int i = 0; i < 4; ++i) out[i] = static_cast<std::byte>(value >> (8 * i));
}

// Passes over the value of a field that this version does not know.
bool skip_value(unsigned type, Bytes& rest) {
  std::uint64_t number = 0;
  Bytes value;
  switch (static_cast<WireType>(type)) {
    case WireType::varint: return read_varint(rest, number);
    case WireType::bytes: return read_bytes(rest, value);
    case WireType::fixed64:
    case WireType::fixed32: {
      const std::size_t size = static_cast<WireType>(type) == WireType::fixed64 ? 8 : 4;
      if (rest.size() < size) return false;
      rest = rest.subspan(size);
      return true;
    }
  }
  return false;
}

bool check_header(Bytes header) {
  Bytes key;
  Bytes ignored;
  if (!header.empty() && header[0] == tag_of(1, WireType::bytes)) {
    header = header.subspan(1);
    if (!read_bytes(header, key) || !is_utf8(as_text(key))) return false;
  }
  if (!header.empty() && header[0] == tag_of(2, WireType::bytes)) {
    header = header.subspan(1);
    if (!read_bytes(header, ignored)) return false;
  }
  return header.empty();
}

// One field whose tag has been read. `bytes` starts with its value.
bool read_field(std::byte tag, Bytes& bytes, RecordView& out, std::size_t& headers) {
  const auto number = [&](std::uint64_t& value) { return read_varint(bytes, value); };
  std::uint64_t value = 0;
  Bytes text;
  switch (tag) {
    case tag_of(kPayload, WireType::bytes): return read_bytes(bytes, out.payload);
    case tag_of(kKey, WireType::bytes):
      return read_bytes(bytes, out.key) && out.key.size() <= kMaxKeyBytes;
    case tag_of(kType, WireType::bytes):
      if (!read_bytes(bytes, text) || text.size() > kMaxTypeBytes) return false;
      out.type = as_text(text);
      return is_utf8(out.type);
    case tag_of(kHeaders, WireType::bytes): {
      const std::byte* start = bytes.data() - 1;
      if (!read_bytes(bytes, text) || !check_header(text) || ++headers > kMaxHeaders) return false;
      if (headers == 1) out.headers_bytes = Bytes(start, 0);
      out.headers_bytes = Bytes(out.headers_bytes.data(), bytes.data());
      return out.headers_bytes.size() <= kMaxHeadersBytes;
    }
    case tag_of(kTimestamp, WireType::varint):
      if (!number(value)) return false;
      out.timestamp_ms = static_cast<std::int64_t>(value);
      return true;
    case tag_of(kGroup, WireType::varint):
      if (!number(value) || value > 3) return false;
      out.group = static_cast<Group>(value);
      return true;
    case tag_of(kPart, WireType::varint):
      if (!number(value)) return false;
      out.part = value;
      return true;
    case tag_of(kLastPart, WireType::varint):
      if (!number(value) || value > 1) return false;
      out.last_part = value == 1;
      return true;
    case tag_of(kMark, WireType::bytes):
      return read_bytes(bytes, out.mark) && out.mark.size() <= kMaxMarkBytes;
    default: {
      const unsigned field = std::to_integer<unsigned>(tag) >> 3;
      return field > kMark && field < kCrc && skip_value(std::to_integer<unsigned>(tag) & 7, bytes);
    }
  }
}

// nullptr when `record` is well formed, else what is wrong with it.
const char* parse_record(Bytes record, RecordView& out) {
  out = RecordView{};
  out.record = record;
  if (record.size() < kCrcFieldBytes) return "a record without crc32c";
  Bytes rest = record;
  unsigned newest = 0;
  std::size_t headers = 0;
  while (rest.size() > kCrcFieldBytes) {
    const std::byte tag = rest[0];
    const unsigned field = std::to_integer<unsigned>(tag) >> 3;
    if (tag >= std::byte{0x80} || field < newest || (field == newest && field != kHeaders)) {
      return "record fields that are not in ascending order";
    }
    newest = field;
    rest = rest.subspan(1);
    if (!read_field(tag, rest, out, headers)) return "a malformed or too large record field";
  }
  if (rest.size() != kCrcFieldBytes || rest[0] != tag_of(kCrc, WireType::fixed32)) {
    return "a record whose last field is not crc32c";
  }
  if (out.last_part && !out.part) return "a record with last_part, but without part";
  out.crc32c = load_u32(rest.data() + 1);
  return nullptr;
}

std::size_t bytes_field(std::size_t size) { return size == 0 ? 0 : 1 + varint_bytes(size) + size; }

std::byte* write_bytes(unsigned field, Bytes value, std::byte* out) {
  if (value.empty()) return out;
  *out++ = tag_of(field, WireType::bytes);
  out = write_varint(value.size(), out);
  return std::copy(value.begin(), value.end(), out);
}

std::byte* write_number(unsigned field, std::uint64_t value, std::byte* out) {
  *out++ = tag_of(field, WireType::varint);
  return write_varint(value, out);
}

std::size_t header_bytes(const HeaderView& header) {
  return bytes_field(header.key.size()) + bytes_field(header.value.size());
}

}  // namespace

std::vector<HeaderView> RecordView::headers() const {
  std::vector<HeaderView> result;
  Bytes rest = headers_bytes;
  while (!rest.empty()) {
    rest = rest.subspan(1);  // the tag
    Bytes message;
    if (!read_bytes(rest, message)) break;
    HeaderView& header = result.emplace_back();
    Bytes text;
    if (!message.empty() && message[0] == tag_of(1, WireType::bytes)) {
      message = message.subspan(1);
      if (!read_bytes(message, text)) break;
      header.key = as_text(text);
    }
    if (!message.empty()) {
      message = message.subspan(1);
      if (!read_bytes(message, header.value)) break;
    }
  }
  return result;
}

bool RecordReader::next(RecordView& record) {
  if (rest_.empty() || error_ != nullptr) return false;
  Bytes rest = rest_.subspan(1);
  Bytes message;
  if (rest_[0] != kRecordTag) {
    error_ = "something else than a record among the records";
  } else if (!read_bytes(rest, message)) {
    error_ = "a record that is cut off";
  } else {
    error_ = parse_record(message, record);
  }
  if (error_ != nullptr) return false;
  record.position = next_;
  ++next_.sequence;
  rest_ = rest;
  return true;
}

std::uint32_t record_crc(Position position, Bytes before_crc) {
  // For each record twice or more on its way: stored as they are, not byte by byte.
  static_assert(std::endian::native == std::endian::little);
  const std::array<std::uint64_t, 2> seed{position.epoch, position.sequence};
  return crc32c(before_crc, crc32c(std::as_bytes(std::span(seed))));
}

bool crc_matches(const RecordView& record) {
  const Bytes before = record.record.first(record.record.size() - kCrcFieldBytes);
  return record_crc(record.position, before) == record.crc32c;
}

std::optional<std::string> check_limits(const RecordFields& fields) {
  const auto over = [](std::string what, std::size_t is, std::size_t limit) {
    return what + " of " + std::to_string(is) + "; at most " + std::to_string(limit);
  };
  if (fields.key.size() > kMaxKeyBytes) {
    return over("a key in bytes", fields.key.size(), kMaxKeyBytes);
  }
  if (fields.type.size() > kMaxTypeBytes) {
    return over("a type in bytes", fields.type.size(), kMaxTypeBytes);
  }
  if (!is_utf8(fields.type)) return "a type that is not UTF-8";
  if (fields.mark.size() > kMaxMarkBytes) {
    return over("a mark in bytes", fields.mark.size(), kMaxMarkBytes);
  }
  if (fields.headers.size() > kMaxHeaders) {
    return over("a number of headers", fields.headers.size(), kMaxHeaders);
  }
  std::size_t bytes = 0;
  for (const HeaderView& header : fields.headers) {
    if (!is_utf8(header.key)) return "a header key that is not UTF-8";
    const std::size_t size = header_bytes(header);
    bytes += 1 + varint_bytes(size) + size;
  }
  if (bytes > kMaxHeadersBytes) return over("headers in bytes", bytes, kMaxHeadersBytes);
  if (fields.last_part && !fields.part) return "last_part without part";
  return std::nullopt;
}

std::size_t record_bytes(const RecordFields& fields) {
  std::size_t bytes = bytes_field(fields.payload.size()) + bytes_field(fields.key.size()) +
                      bytes_field(fields.type.size()) + bytes_field(fields.mark.size()) +
                      kCrcFieldBytes;
  for (const HeaderView& header : fields.headers) {
    const std::size_t size = header_bytes(header);
    bytes += 1 + varint_bytes(size) + size;
  }
  if (fields.timestamp_ms) {
    bytes += 1 + varint_bytes(static_cast<std::uint64_t>(*fields.timestamp_ms));
  }
  if (fields.group != Group::none) bytes += 2;
  if (fields.part) bytes += 1 + varint_bytes(*fields.part);
  if (fields.last_part) bytes += 2;
  return bytes;
}

std::size_t encoded_bytes(const RecordFields& fields) {
  const std::size_t message = record_bytes(fields);
  return 1 + varint_bytes(message) + message;
}

std::byte* encode_record(const RecordFields& fields, Position position, std::byte* out) {
  *out++ = kRecordTag;
  out = write_varint(record_bytes(fields), out);
  std::byte* const start = out;
  out = write_bytes(kPayload, fields.payload, out);
  out = write_bytes(kKey, fields.key, out);
  out = write_bytes(kType, as_bytes(fields.type), out);
  for (const HeaderView& header : fields.headers) {
    *out++ = tag_of(kHeaders, WireType::bytes);
    out = write_varint(header_bytes(header), out);
    out = write_bytes(1, as_bytes(header.key), out);
    out = write_bytes(2, header.value, out);
  }
  if (fields.timestamp_ms) {
    out = write_number(kTimestamp, static_cast<std::uint64_t>(*fields.timestamp_ms), out);
  }
  if (fields.group != Group::none) {
    out = write_number(kGroup, static_cast<std::uint64_t>(fields.group), out);
  }
  if (fields.part) out = write_number(kPart, *fields.part, out);
  if (fields.last_part) out = write_number(kLastPart, 1, out);
  out = write_bytes(kMark, fields.mark, out);
  const std::uint32_t crc = record_crc(position, Bytes(start, out));
  *out++ = tag_of(kCrc, WireType::fixed32);
  store_u32(crc, out);
  return out + 4;
}

void append_record(std::string& out, const RecordFields& fields, Position position) {
  const std::size_t start = out.size();
  out.resize(start + encoded_bytes(fields));
  encode_record(fields, position, reinterpret_cast<std::byte*>(out.data() + start));
}

void renumber_records(std::span<std::byte> records, Position first) {
  Position position = first;
  std::byte* const base = records.data();
  Bytes rest = records;
  while (!rest.empty()) {
    rest = rest.subspan(1);
    Bytes message;
    const bool whole = read_bytes(rest, message) && message.size() >= kCrcFieldBytes;
    INVARIANT(whole);
    const Bytes before = message.first(message.size() - kCrcFieldBytes);
    const auto end = static_cast<std::size_t>(message.data() + message.size() - base);
    store_u32(record_crc(position, before), base + end - 4);
    ++position.sequence;
  }
}

}  // namespace spillway::wire
