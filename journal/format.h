// The stored format of blocks and of meta keys: journal/README.md has its grammar and an example.
// Everything stored is little-endian but for keys, whose byte order must be the order of the
// numbers.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/block.h"

namespace spillway::journal {

inline constexpr std::uint32_t kFormatVersion = 1;  // of the store as a whole
inline constexpr std::uint8_t kBlockVersion = 1;    // of one value
inline constexpr std::size_t kHeaderBytes = 48;
// Small blocks of one commit are joined up to this: one value per handful of records would cost
// more in skip-list inserts than in bytes.
inline constexpr std::uint64_t kPackBytes = std::uint64_t{64} << 10;

using Key = std::array<char, 8>;
using Header = std::array<char, kHeaderBytes>;

Key key_of(Offset offset);
Offset offset_of(std::string_view key);  // 8 bytes
inline std::string_view view(const Key& key) { return {key.data(), key.size()}; }

// The header of a value made of `blocks`, joined: they follow one another in one epoch, and none
// but a single one is a skip block.
Header header_of(std::span<const BlockPtr> blocks);
// Whether `next` may be joined to a value that begins with `first` and holds `bytes` so far.
bool joins(const Block& first, const Block& last, std::uint64_t bytes, const Block& next);

// A value read back without its records; nothing when it is too short or of an unknown version.
std::optional<Block> decode_header(Offset first, std::string_view value);
// With its records, copied; nothing when damaged.
BlockPtr decode_block(Offset first, std::string_view value);

inline constexpr std::string_view kStreamFamily = "stream.";  // followed by the stream's name

// Keys of the meta column family.
inline constexpr std::string_view kFormatKey = "format";
std::string state_key(std::string_view stream);
std::string watermark_key(std::string_view stream);
std::string ledger_prefix(std::string_view stream);  // followed by the id, as a Key
// Of the dead-letter column family; followed by a rising number, as a Key.
std::string dead_letter_prefix(std::string_view stream);

}  // namespace spillway::journal
