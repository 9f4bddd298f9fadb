#include "journal/disk_bound.h"

#include <utility>

namespace spillway::journal {

namespace {

// Walking the directory for each refused group would make a full journal a busy one.
constexpr std::chrono::milliseconds kLookInterval{5};

// What a value costs until its WAL file goes: once there, once in a table, with keys, checksums,
// indexes and the last block of each file.
std::uint64_t cost(std::uint64_t bytes) { return 2 * (bytes + bytes / 64 + 4096); }

}  // namespace

DiskBound::DiskBound(Limits limits, std::function<std::optional<DiskState>()> look, Clock clock)
    : limits_(limits), look_(std::move(look)), clock_(std::move(clock)) {}

Outcome DiskBound::check(std::uint64_t bytes, std::uint64_t reserve) {
  const Outcome answer = judge(bytes, reserve);
  if (answer == Outcome::ok || clock_() - looked_at_ < kLookInterval) return answer;
  look();
  return judge(bytes, reserve);
}

void DiskBound::stages(std::uint64_t bytes) { staged_ += cost(bytes); }

void DiskBound::wrote() { written_ += std::exchange(staged_, 0); }

void DiskBound::look() {
  looked_at_ = clock_();
  const std::optional<DiskState> seen = look_();
  if (!seen) return;
  state_ = *seen;
  written_ = 0;
}

std::uint64_t DiskBound::projected() const {
  return state_.use.total + state_.unflushed + state_.unflushed / 64 + state_.rewritable +
         written_ + staged_ + limits_.headroom;
}

std::uint64_t DiskBound::left(std::uint64_t reserve) const {
  const std::uint64_t taken = projected() + reserve;
  return taken >= limits_.max_disk_bytes ? 0 : (limits_.max_disk_bytes - taken) / 2;
}

Outcome DiskBound::judge(std::uint64_t bytes, std::uint64_t reserve) const {
  if (projected() + cost(bytes) + reserve > limits_.max_disk_bytes) return Outcome::disk_bound;
  const std::uint64_t needed =
      written_ + staged_ + state_.unflushed + cost(bytes) + limits_.min_free_disk;
  return state_.free < needed ? Outcome::min_free : Outcome::ok;
}

}  // namespace spillway::journal
