#include <algorithm>
#include <string>
#include <vector>

#include "base/invariant.h"
#include "tests/fuzz/targets.h"
#include "wire/batch.h"
#include "wire/frame.h"

namespace spillway::fuzz {

namespace {

constexpr std::uint64_t kMaxFrame = 4096;

struct Read {
  std::vector<std::string> frames;
  bool failed = false;
  bool operator==(const Read&) const = default;
};

// In pieces of `step` bytes at most.
Read read(Bytes input, std::size_t step) {
  wire::FrameReader reader(kMaxFrame);
  Read result;
  while (!input.empty() && !result.failed) {
    const std::span<std::byte> room = reader.prepare();
    const std::size_t size = std::min({step, room.size(), input.size()});
    std::ranges::copy(std::as_bytes(input.first(size)), room.begin());
    reader.commit(size);
    input = input.subspan(size);
    for (;;) {
      const auto frame = reader.next();
      result.failed = frame.has_error();
      if (result.failed || !*frame) break;
      INVARIANT((*frame)->size() <= kMaxFrame);
      result.frames.emplace_back(reinterpret_cast<const char*>((*frame)->data()), (*frame)->size());
    }
  }
  return result;
}

}  // namespace

// The first byte says how the rest comes in.
void frame(Bytes input) {
  if (input.empty()) return;
  const std::size_t step = 1 + input[0] % 64;
  const Read whole = read(input.subspan(1), input.size());
  INVARIANT(read(input.subspan(1), step) == whole);
  for (const std::string& text : whole.frames) {
    const auto bytes = std::as_bytes(std::span(text));
    const bool is_batch = wire::is_batch(bytes);
    if (const auto body = wire::batch_of(bytes)) INVARIANT(is_batch && body->size() <= text.size());
    if (is_batch) continue;
    if (const auto message = wire::decode(bytes)) {
      const std::string again = wire::encode(*message);
      const auto same = wire::decode(std::as_bytes(std::span(again)).subspan(wire::kLengthBytes));
      INVARIANT(same && same->SerializeAsString() == message->SerializeAsString());
    }
  }
}

}  // namespace spillway::fuzz
