#include <algorithm>
#include <string_view>

#include "base/invariant.h"
#include "journal/entries.h"
#include "journal/format.h"
#include "tests/fuzz/targets.h"

namespace spillway::fuzz {

namespace {

using namespace spillway::journal;  // NOLINT: what is under test

// Without its checksum a value is any header; with one made for it, it must come back as it is.
void block(std::string_view value) {
  if (value.size() < 8) return;
  const Offset first = offset_of(value);
  INVARIANT(view(key_of(first)) == value.substr(0, 8));
  value.remove_prefix(8);
  const std::optional<Block> header = decode_header(first, value);
  const BlockPtr decoded = decode_block(first, value);
  if (decoded) INVARIANT(header && decoded->bytes() == value.size() - kHeaderBytes);
  if (!header) return;
  Block made = *header;
  const std::string_view records = value.substr(kHeaderBytes);
  made.records = std::as_bytes(std::span(records.data(), records.size()));
  const BlockPtr sealed = std::make_shared<const Block>(made);
  const Header again = header_of(std::span(&sealed, 1));
  std::string stored(again.data(), again.size());
  stored += records;
  const BlockPtr back = decode_block(first, stored);
  INVARIANT(back && back->count == made.count && back->position == made.position &&
            back->skip == made.skip && back->running_bytes == made.running_bytes &&
            std::ranges::equal(back->records, made.records));
  stored.back() = static_cast<char>(stored.back() ^ 1);
  INVARIANT(!decode_block(first, stored));
}

}  // namespace

void journal(Bytes input) {
  if (input.empty()) return;
  const std::string_view value(reinterpret_cast<const char*>(input.data()) + 1, input.size() - 1);
  switch (input[0] % 3) {
    case 0: block(value); break;
    case 1:
      if (const auto entry = decode_ledger_entry(1, value)) {
        const auto again = decode_ledger_entry(1, encode(*entry));
        INVARIANT(again && encode(*again) == encode(*entry));
      }
      break;
    default:
      if (const auto letter = decode_dead_letter(value)) {
        const auto again = decode_dead_letter(encode(*letter));
        INVARIANT(again && again->sink == letter->sink && again->reason == letter->reason);
      }
  }
}

}  // namespace spillway::fuzz
