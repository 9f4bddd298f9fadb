// One bit of a stored file is not what it was. What is read is what was written, and what is
// missing is named: where it can be, as the very offsets that are gone.
//
// SPILLWAY_FLIPS=N flips N bits of each kind of file instead of 40; SPILLWAY_FLIP_SEED draws
// others.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

#include "tests/fault/child.h"
#include "tests/journal/harness.h"

namespace spillway::journal {
namespace {

constexpr Offset kBlocks = 60;
constexpr std::uint64_t kBlockBytes = 100'000;  // each a data block of its own

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text != nullptr ? std::stoull(text) : otherwise;
}

Options small_options(const std::filesystem::path& dir) {
  Options options = options_in(dir);
  options.max_disk_bytes = kMinDiskBytes;
  return options;
}

// A table, then a WAL with the rest, and a mark that says how much there is.
void fill(const std::filesystem::path& dir) {
  in_child([&] {
    const auto journal = open_journal(small_options(dir));
    for (Offset i = 1; i <= kBlocks; ++i) {
      ASSERT_EQ(append(*journal, {make_block(i, 1, kBlockBytes)}), Outcome::ok);
    }
  });
}

std::vector<std::filesystem::path> files_of(const std::filesystem::path& dir,
                                            const std::string& kind) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(dir / "journal")) {
    const std::string name = entry.path().filename();
    const bool good = kind.front() == '.' ? name.ends_with(kind) : name.starts_with(kind);
    if (good && entry.file_size() > 0) files.push_back(entry.path().filename());
  }
  std::sort(files.begin(), files.end());
  return files;
}

void flip(const std::filesystem::path& path, std::uint64_t bit) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  const auto at = static_cast<std::streamoff>(bit / 8);
  file.seekg(at);
  const int byte = file.get();
  file.seekp(at);
  file.put(static_cast<char>(byte ^ (1 << bit % 8)));
  ASSERT_TRUE(file.good());
}

// What a journal gives back of the blocks that were written.
struct Found {
  bool reported = false;  // as damage, or it did not open
  bool readable = false;  // through its end
  std::vector<Offset> delivered;
  std::vector<Offset> lost;
  Offset end = 0;
  std::string text;

  // What was written and is not there, whatever is said of it.
  std::vector<Offset> missing() const {
    std::vector<Offset> offsets = lost;
    for (Offset offset = end + 1; offset <= kBlocks; ++offset) offsets.push_back(offset);
    return offsets;
  }
};

Found look(const std::filesystem::path& dir) {
  Found found;
  auto journal = Journal::open(small_options(dir), {});
  if (!journal) {
    found.reported = true;
    found.text = journal.error().message;
    EXPECT_FALSE(found.text.empty());
    return found;
  }
  const Recovered& recovered = find((*journal)->recovered(), "s");
  found.reported = recovered.damage.has_value();
  found.text = recovered.damage.value_or("");
  found.end = recovered.end;
  for (Offset next = 1; next <= recovered.end;) {
    const ReadResult result = read(**journal, next);
    if (!result.ok) {  // a store that cannot be read at all says so
      EXPECT_TRUE(found.reported) << result.error;
      return found;
    }
    for (const BlockPtr& block : result.blocks) {
      EXPECT_TRUE(same(*block, *make_block(block->first, 1, kBlockBytes))) << block->first;
      EXPECT_EQ(block->first, next);
      found.delivered.push_back(next++);
    }
    if (!result.lost) continue;
    EXPECT_EQ(result.lost->first, next);
    while (next <= result.lost->second) found.lost.push_back(next++);
  }
  found.readable = found.end != 0;
  return found;
}

std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The block that byte `at` of a WAL belongs to. What lies between two of them is one's or the
// other's: their headers, and the batches that they are in.
std::vector<Offset> blocks_at(const std::filesystem::path& wal, std::uint64_t at) {
  constexpr std::size_t kSample = 16;
  constexpr std::size_t kBetween = 256;
  const std::string bytes = bytes_of(wal);
  std::vector<Offset> found;
  for (Offset offset = 1; offset <= kBlocks; ++offset) {
    const BlockPtr block = make_block(offset, 1, kBlockBytes);
    const std::string begin(reinterpret_cast<const char*>(block->records.data()), kSample);
    const std::size_t begins = bytes.find(begin);
    if (begins == std::string::npos || begins > at + kBetween) continue;
    if (begins <= at) found.clear();
    found.push_back(offset);
  }
  return found;
}

// Flips one bit at a time and hands what is found to `check`, with the file and the byte.
template <class Check>
void for_each_flip(const std::filesystem::path& dir, const std::string& kind, const Check& check) {
  std::mt19937_64 random(number_from("SPILLWAY_FLIP_SEED", 20240601));
  const std::vector<std::filesystem::path> files = files_of(dir, kind);
  ASSERT_FALSE(files.empty()) << "there is no " << kind;
  const std::uint64_t flips = number_from("SPILLWAY_FLIPS", 40);
  for (std::uint64_t i = 0; i < flips && !testing::Test::HasFailure(); ++i) {
    const std::filesystem::path& file = files[random() % files.size()];
    const std::uint64_t bits = 8 * std::filesystem::file_size(dir / "journal" / file);
    const std::uint64_t bit = random() % bits;
    in_child([&] {
      const TempDir copy(in_memory());
      std::filesystem::copy(dir, copy.path(),
                            std::filesystem::copy_options::recursive |
                                std::filesystem::copy_options::overwrite_existing);
      flip(copy.path() / "journal" / file, bit);
      SCOPED_TRACE(file.string() + ", byte " + std::to_string(bit / 8) + " of " +
                   std::to_string(bits / 8) + ", bit " + std::to_string(bit % 8));
      const Found found = look(copy.path());
      SCOPED_TRACE(found.text);
      check(found, dir / "journal" / file, bit / 8);
    });
  }
}

// Whatever is missing is named, as the very offsets; and what is not named was read, as look() saw.
void expect_nothing_silent(const Found& found) {
  if (!found.readable) {
    EXPECT_TRUE(found.reported) << "nothing can be read, and nothing says so";
    return;
  }
  EXPECT_EQ(found.delivered.size() + found.missing().size(), kBlocks);
  if (found.end == kBlocks) return;
  EXPECT_TRUE(found.reported) << "records are gone, and nothing says so";
  const std::string named =
      "offsets " + std::to_string(found.end + 1) + " through " + std::to_string(kBlocks);
  EXPECT_NE(found.text.find(named), std::string::npos) << "they are not " << named;
}

TEST(FlippedBit, InATableCostsTheBlockThatItIsInAndIsNamed) {
  const TempDir dir(in_memory());
  fill(dir.path());
  // Behind the blocks of a table is its index, and what says where that is: a bit there costs all.
  constexpr std::uint64_t kIndex = 4096;
  for_each_flip(dir.path(), ".sst", [](const Found& found, const auto& table, std::uint64_t at) {
    expect_nothing_silent(found);
    if (found.readable && at + kIndex < std::filesystem::file_size(table)) {
      EXPECT_LE(found.missing().size(), 1u) << testing::PrintToString(found.missing());
    }
  });
}

TEST(FlippedBit, InTheWalIsReportedWithWhatTheMarkSaysIsGone) {
  const TempDir dir(in_memory());
  fill(dir.path());
  for_each_flip(dir.path(), ".log", [](const Found& found, const auto& wal, std::uint64_t at) {
    expect_nothing_silent(found);
    EXPECT_TRUE(found.readable);
    const std::vector<Offset> missing = found.missing();
    EXPECT_TRUE(found.reported || missing.empty());
    if (missing.empty()) return;
    EXPECT_EQ(missing.size(), 1u) << testing::PrintToString(missing);
    const std::vector<Offset> here = blocks_at(wal, at);
    EXPECT_NE(std::find(here.begin(), here.end(), missing[0]), here.end()) << missing[0];
  });
}

TEST(FlippedBit, InTheManifestIsReportedAtTheStartOrByEachReadThatMissesSomething) {
  const TempDir dir(in_memory());
  fill(dir.path());
  for_each_flip(dir.path(), "MANIFEST",
                [](const Found& found, const auto&...) { expect_nothing_silent(found); });
}

// A store whose MANIFEST `damage` changes, one record of it at a time, may lose no table to a
// start.
template <class Damage>
void expect_tables_stay(const Damage& damage) {
  const TempDir dir(in_memory());
  fill(dir.path());
  in_child([&] { open_journal(small_options(dir.path())); });  // writes out what is in the WAL
  std::vector<std::filesystem::path> tables;
  for (const auto& table : files_of(dir.path(), ".sst")) {
    if (std::filesystem::file_size(dir.path() / "journal" / table) > (1 << 20)) {
      tables.push_back(table);
    }
  }
  ASSERT_FALSE(tables.empty());
  const auto manifest = files_of(dir.path(), "MANIFEST").back();
  const std::string bytes = bytes_of(dir.path() / "journal" / manifest);
  constexpr std::size_t kHeader = 7;  // crc, length, type
  ASSERT_LT(bytes.size(), std::size_t{32} << 10) << "more than a block of the file";
  int records = 0;
  for (std::size_t at = 0; at + kHeader <= bytes.size() && !testing::Test::HasFailure();) {
    for (int variant = 0; variant < 4; ++variant) {
      in_child([&] {
        const TempDir copy(in_memory());
        std::filesystem::copy(dir.path(), copy.path(),
                              std::filesystem::copy_options::recursive |
                                  std::filesystem::copy_options::overwrite_existing);
        damage(copy.path() / "journal" / manifest, at, variant);
        SCOPED_TRACE("record at " + std::to_string(at) + ", variant " + std::to_string(variant));
        const Found found = look(copy.path());
        expect_nothing_silent(found);
        for (const auto& table : tables) {
          EXPECT_TRUE(std::filesystem::exists(copy.path() / "journal" / table)) << found.text;
        }
      });
    }
    ++records;
    at += kHeader + (static_cast<unsigned char>(bytes[at + 4]) |
                     std::size_t{static_cast<unsigned char>(bytes[at + 5])} << 8);
  }
  EXPECT_GT(records, 5);
}

// With a length that leads beyond its end, all that follows looks as if it had never been written:
// then RocksDB does not know tables any more, and deletes what it does not know.
TEST(FlippedBit, InALengthInTheManifestLetsNoStartDeleteATable) {
  expect_tables_stay([](const auto& manifest, std::size_t record, int variant) {
    constexpr int kBits[] = {0, 7, 8, 12};
    flip(manifest, 8 * (record + 4) + static_cast<std::uint64_t>(kBits[variant]));
  });
}

TEST(CutShort, AManifestLetsNoStartDeleteATable) {
  expect_tables_stay([](const auto& manifest, std::size_t record, int variant) {
    constexpr std::size_t kBytes[] = {1, 6, 8, 12};
    std::filesystem::resize_file(manifest, record + kBytes[variant]);
  });
}

TEST(FlippedBit, InCurrentIsReported) {
  const TempDir dir(in_memory());
  fill(dir.path());
  for_each_flip(dir.path(), "CURRENT", [](const Found& found, const auto&...) {
    expect_nothing_silent(found);
    EXPECT_TRUE(found.reported);
  });
}

}  // namespace
}  // namespace spillway::journal
