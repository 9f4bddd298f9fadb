#include "journal/format.h"

#include <gtest/gtest.h>

#include "journal/entries.h"
#include "tests/journal/harness.h"

namespace spillway::journal {
namespace {

std::string value_of(const std::vector<BlockPtr>& blocks) {
  const Header header = header_of(blocks);
  std::string value(header.begin(), header.end());
  for (const BlockPtr& block : blocks) {
    value.append(reinterpret_cast<const char*>(block->records.data()), block->bytes());
  }
  return value;
}

std::string hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    constexpr char kDigits[] = "0123456789abcdef";
    out += kDigits[static_cast<unsigned char>(c) >> 4];
    out += kDigits[static_cast<unsigned char>(c) & 15];
  }
  return out;
}

TEST(Format, OrdersKeysAsTheirOffsets) {
  const std::vector<Offset> offsets = {0, 1, 255, 256, 65535, 1ull << 32, ~Offset{0}};
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    const Key key = key_of(offsets[i]);
    EXPECT_EQ(offset_of(view(key)), offsets[i]);
    if (i == 0) continue;
    const Key previous = key_of(offsets[i - 1]);
    EXPECT_LT(view(previous), view(key));
  }
}

// The worked example of journal/README.md.
TEST(Format, IsByteForByteWhatTheDocumentSays) {
  Block block;
  block.first = 300;
  block.position = {1700000000, 44};
  block.count = 2;
  block.received_ms = 1700000001234;
  block.running_bytes = 4096;
  block.ends_clean = false;
  auto storage = std::make_shared<std::byte[]>(3);
  for (std::size_t i = 0; i < 3; ++i) storage[i] = static_cast<std::byte>(i + 1);
  block.records = {storage.get(), 3};
  block.storage = storage;
  EXPECT_EQ(hex(view(key_of(300))), "000000000000012c");
  EXPECT_EQ(hex(value_of({std::make_shared<const Block>(block)})),
            "031f7ae8"
            "01"
            "01"
            "00"
            "00"
            "00f1536500000000"
            "2c00000000000000"
            "0200000000000000"
            "d26ce5cf8b010000"
            "0010000000000000"
            "010203");
}

TEST(Format, FindsEveryFlippedBit) {
  const BlockPtr block = make_block(7, 3, 90, {2, 5});
  const std::string value = value_of({block});
  ASSERT_NE(decode_block(7, value), nullptr);
  for (std::size_t bit = 0; bit < value.size() * 8; ++bit) {
    std::string damaged = value;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_EQ(decode_block(7, damaged), nullptr) << "bit " << bit;
  }
}

TEST(Format, FindsAValueUnderAnothersKeyAndOneCutShort) {
  const std::string value = value_of({make_block(7, 3, 90)});
  EXPECT_EQ(decode_block(8, value), nullptr);
  for (std::size_t size = 0; size < value.size(); ++size) {
    EXPECT_EQ(decode_block(7, std::string_view(value).substr(0, size)), nullptr);
  }
}

TEST(Format, CarriesLedgerEntriesAndDeadLettersUnchanged) {
  LedgerEntry entry;
  entry.id = 9;
  entry.sink = "warehouse";
  entry.first = {1, 2};
  entry.last = {3, 4};
  entry.count = 5;
  entry.reason = LossReason::outage;
  entry.time_ms = -6;
  entry.upper_bound = true;
  entry.text = "why";
  const auto decoded = decode_ledger_entry(9, encode(entry));
  ASSERT_TRUE(decoded);
  EXPECT_EQ(encode(*decoded), encode(entry));
  EXPECT_EQ(decoded->id, 9u);
  EXPECT_EQ(decoded->sink, "warehouse");
  EXPECT_EQ(decoded->last, (Position{3, 4}));
  EXPECT_TRUE(decoded->upper_bound);
  EXPECT_FALSE(decode_ledger_entry(9, encode(entry).substr(1)));

  const DeadLetter letter{"sink", make_block(3, 1, 50), "too long", 77};
  const auto read = decode_dead_letter(encode(letter));
  ASSERT_TRUE(read);
  EXPECT_TRUE(same(*read->record, *letter.record));
  EXPECT_EQ(read->reason, "too long");
  EXPECT_EQ(read->time_ms, 77);
  EXPECT_FALSE(decode_dead_letter(encode(letter).substr(0, 40)));
}

}  // namespace
}  // namespace spillway::journal
