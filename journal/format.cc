#include "journal/format.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/crc32c.h"
#include "base/invariant.h"

namespace spillway::journal {

static_assert(std::endian::native == std::endian::little, "stored numbers are little-endian");

namespace {

constexpr std::uint8_t kStartsClean = 1;
constexpr std::uint8_t kEndsClean = 2;

// Places in the header. The checksum covers the key and everything after itself.
constexpr std::size_t kCrcAt = 0;
constexpr std::size_t kVersionAt = 4;
constexpr std::size_t kFlagsAt = 5;
constexpr std::size_t kSkipAt = 6;
constexpr std::size_t kEpochAt = 8;
constexpr std::size_t kSequenceAt = 16;
constexpr std::size_t kCountAt = 24;
constexpr std::size_t kReceivedAt = 32;
constexpr std::size_t kRunningAt = 40;

template <class T>
void put(Header& header, std::size_t at, T value) {
  std::memcpy(header.data() + at, &value, sizeof value);
}

template <class T>
T get(std::string_view value, std::size_t at) {
  T result;
  std::memcpy(&result, value.data() + at, sizeof result);
  return result;
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// The key is part of what is checked: a value under another's key is damage too.
std::uint32_t header_crc(Offset first, std::string_view header) {
  const Key key = key_of(first);
  return crc32c(bytes_of(header.substr(kVersionAt, kHeaderBytes - kVersionAt)),
                crc32c(bytes_of(view(key))));
}

}  // namespace

Key key_of(Offset offset) {
  Key key;
  for (std::size_t i = 0; i < key.size(); ++i) {
    key[i] = static_cast<char>(static_cast<unsigned char>(offset >> (56 - 8 * i)));
  }
  return key;
}

Offset offset_of(std::string_view key) {
  Offset offset = 0;
  for (const char c : key.substr(0, 8)) offset = (offset << 8) | static_cast<unsigned char>(c);
  return offset;
}

Header header_of(std::span<const BlockPtr> blocks) {
  INVARIANT(!blocks.empty());
  const Block& first = *blocks.front();
  const Block& last = *blocks.back();
  std::int64_t received = first.received_ms;
  for (const BlockPtr& block : blocks) received = std::min(received, block->received_ms);
  Header header{};
  put(header, kVersionAt, kBlockVersion);
  put(header, kFlagsAt,
      static_cast<std::uint8_t>((first.starts_clean ? kStartsClean : 0) |
                                (last.ends_clean ? kEndsClean : 0)));
  put(header, kSkipAt, static_cast<std::uint8_t>(first.skip ? static_cast<int>(*first.skip) : 0));
  put(header, kEpochAt, first.position.epoch);
  put(header, kSequenceAt, first.position.sequence);
  put(header, kCountAt, last.last() - first.first + 1);
  put(header, kReceivedAt, received);
  put(header, kRunningAt, last.running_bytes);
  std::uint32_t crc = header_crc(first.first, {header.data(), header.size()});
  for (const BlockPtr& block : blocks) crc = crc32c(block->records, crc);
  put(header, kCrcAt, crc);
  return header;
}

bool joins(const Block& first, const Block& last, std::uint64_t bytes, const Block& next) {
  // A cut between two groups is only found where a value ends.
  const bool cut = (last.ends_clean || next.starts_clean) && !next.ends_clean;
  return !first.skip && !next.skip && next.position.epoch == first.position.epoch && !cut &&
         next.first == last.first + last.count && bytes + next.bytes() <= kPackBytes;
}

std::optional<Block> decode_header(Offset first, std::string_view value) {
  if (value.size() < kHeaderBytes) return std::nullopt;
  if (get<std::uint8_t>(value, kVersionAt) != kBlockVersion) return std::nullopt;
  Block block;
  block.first = first;
  block.position = {get<std::uint64_t>(value, kEpochAt), get<std::uint64_t>(value, kSequenceAt)};
  block.count = get<std::uint64_t>(value, kCountAt);
  block.received_ms = get<std::int64_t>(value, kReceivedAt);
  block.running_bytes = get<std::uint64_t>(value, kRunningAt);
  const auto flags = get<std::uint8_t>(value, kFlagsAt);
  block.starts_clean = (flags & kStartsClean) != 0;
  block.ends_clean = (flags & kEndsClean) != 0;
  if (const auto skip = get<std::uint8_t>(value, kSkipAt); skip != 0) {
    block.skip = static_cast<LossReason>(skip);
  }
  if (block.count == 0 || first + block.count < first) return std::nullopt;
  return block;
}

BlockPtr decode_block(Offset first, std::string_view value) {
  std::optional<Block> decoded = decode_header(first, value);
  if (!decoded) return nullptr;
  const std::string_view records = value.substr(kHeaderBytes);
  if (crc32c(bytes_of(records), header_crc(first, value)) != get<std::uint32_t>(value, kCrcAt)) {
    return nullptr;
  }
  if (!records.empty()) {
    auto storage = std::make_shared_for_overwrite<std::byte[]>(records.size());
    std::memcpy(storage.get(), records.data(), records.size());
    decoded->records = {storage.get(), records.size()};
    decoded->storage = std::move(storage);
  }
  return std::make_shared<const Block>(std::move(*decoded));
}

std::string state_key(std::string_view stream) { return "state/" + std::string(stream); }
std::string watermark_key(std::string_view stream) { return "watermark/" + std::string(stream); }
std::string ledger_prefix(std::string_view stream) { return "ledger/" + std::string(stream) + "/"; }
std::string dead_letter_prefix(std::string_view stream) { return std::string(stream) + "/"; }

}  // namespace spillway::journal
