// Bytes from a hostile or broken peer: whatever is changed, cut or added, the readers answer with a
// value or an error, and never touch what is not theirs (run under AddressSanitizer to see).
#include <gtest/gtest.h>

#include <memory>
#include <random>

#include "tests/wire/build.h"
#include "tests/wire/make_block.h"
#include "wire/frame.h"

namespace spillway::wire {
namespace {

std::string sample() {
  const HeaderView header{"h", bytes_of("v")};
  RecordFields rich = record_of("payload", Group::begins);
  rich.key = bytes_of("key");
  rich.type = "type";
  rich.headers = std::span(&header, 1);
  rich.timestamp_ms = 1'700'000'000'000;
  rich.mark = bytes_of("mark");
  const std::string records = records_of(
      {rich, record_of("x", Group::ends), part_of("a", 0, false), part_of("b", 1, true)}, {9, 1});
  return batch_frame_header({9, 1}, 4, records.size(), std::nullopt, Position{8, 3}) + records;
}

// Reads a frame in every way there is; true if all of it was accepted.
bool read_all(const std::string& text) {
  // An exact copy on the heap, so that one byte too far is noticed.
  const auto copy = std::make_unique<std::byte[]>(text.size());
  std::ranges::copy(bytes_of(text), copy.get());
  const std::span<const std::byte> frame(copy.get(), text.size());
  (void)decode(frame);
  const auto body = batch_of(frame);
  if (!body) return false;
  const auto batch = parse_batch(*body);
  if (!batch) return false;
  if (batch->skip) return true;
  RecordReader reader(batch->records, batch->first());
  for (RecordView record; reader.next(record);) (void)record.headers();
  PartState parts;
  std::vector<RecordShape> shapes;
  std::optional<NewestMark> mark;
  if (scan_records(*batch, 1 << 20, parts, shapes, mark)) return false;
  const BlockPtr block = make_block(1, *batch, shapes, 0, 0);
  for (Offset offset = block->first; offset <= block->last(); ++offset) {
    (void)slice(block, offset, block->last());
  }
  return true;
}

TEST(Mutation, NothingThatIsChangedPassesForTheOriginal) {
  const std::string original = sample().substr(kLengthBytes);
  ASSERT_TRUE(read_all(original));
  for (std::size_t at = 0; at < original.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = original;
      changed[at] = static_cast<char>(changed[at] ^ (1 << bit));
      // previous is not covered by a CRC: it is compared with the position held.
      const bool accepted = read_all(changed);
      const auto body = accepted ? batch_of(bytes_of(changed)) : batch_of(bytes_of(original));
      const BatchView view = parse_batch(*body).value();
      if (accepted) {
        EXPECT_NE(view.previous, (Position{8, 3})) << at << " bit " << bit;
      }
    }
  }
}

TEST(Mutation, EveryCutIsRefused) {
  const std::string original = sample().substr(kLengthBytes);
  for (std::size_t size = 0; size < original.size(); ++size) {
    EXPECT_FALSE(read_all(original.substr(0, size))) << size;
  }
}

TEST(Mutation, RandomDamageNeverReachesBeyondTheBytes) {
  std::mt19937_64 random(20240601);
  const std::string original = sample();
  for (int round = 0; round < 50'000; ++round) {
    std::string frame = original.substr(kLengthBytes);
    for (std::uint64_t edits = 1 + random() % 4; edits > 0; --edits) {
      const std::size_t at = random() % frame.size();
      switch (random() % 4) {
        case 0: frame[at] = static_cast<char>(random()); break;
        case 1: frame.erase(at, 1 + random() % 5); break;
        case 2: frame.insert(at, 1 + random() % 5, static_cast<char>(random())); break;
        default: frame.insert(at, frame.substr(random() % frame.size(), random() % 20)); break;
      }
      if (frame.empty()) frame = "x";
    }
    read_all(frame);
  }
}

TEST(Mutation, ARandomStreamEndsInAnErrorOrWaitsForMore) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 2'000; ++round) {
    FrameReader reader(1 << 16);
    bool failed = false;
    for (int piece = 0; piece < 20 && !failed; ++piece) {
      const auto room = reader.prepare();
      const std::size_t size = 1 + random() % 200;
      for (std::size_t i = 0; i < size; ++i) {
        room[i] = static_cast<std::byte>(random() % 8 == 0 ? random() : 0);
      }
      if (piece % 3 == 0) room[0] = static_cast<std::byte>(1 + random() % 50);
      reader.commit(size);
      for (;;) {
        const auto frame = reader.next();
        failed = frame.has_error();
        if (failed || !*frame) break;
        read_all(text_of(**frame));
      }
    }
    EXPECT_LE(reader.buffered(), std::size_t{1} << 16);
  }
}

}  // namespace
}  // namespace spillway::wire
