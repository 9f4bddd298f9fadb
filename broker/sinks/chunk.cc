#include "broker/sinks/chunk.h"

#include <boost/endian/conversion.hpp>
#include <cstring>
#include <utility>

#include "base/invariant.h"

namespace spillway::broker {

Chunk::Chunk() : copies_(std::make_unique<std::byte[]>(kCapacity)) {}

void Chunk::copy(const void* data, std::size_t size) {
  std::byte* to = copies_.get() + used_;
  std::memcpy(to, data, size);
  used_ += size;
  bytes_ += size;
  if (!buffers_.empty()) {
    const boost::asio::const_buffer last = buffers_.back();
    if (static_cast<const std::byte*>(last.data()) + last.size() == to) {
      buffers_.back() = boost::asio::const_buffer(last.data(), last.size() + size);
      return;
    }
  }
  buffers_.emplace_back(to, size);
}

void Chunk::add(std::span<const std::byte> piece) {
  if (piece.empty()) {
    return;
  }
  if (piece.size() <= kCopyBytes && used_ + piece.size() <= kCapacity) {
    copy(piece.data(), piece.size());
    return;
  }
  buffers_.emplace_back(piece.data(), piece.size());
  bytes_ += piece.size();
}

void Chunk::add_length(std::uint32_t length) {
  INVARIANT(used_ + sizeof(length) <= kCapacity);
  boost::endian::native_to_little_inplace(length);
  copy(&length, sizeof(length));
}

void Chunk::add_newline() {
  static constexpr std::byte kNewline{'\n'};
  if (used_ < kCapacity) {
    copy(&kNewline, 1);
    return;
  }
  buffers_.emplace_back(&kNewline, 1);
  bytes_ += 1;
}

void Chunk::keep(BlockPtr block) {
  if (kept_.empty() || kept_.back() != block) {
    kept_.push_back(std::move(block));
  }
}

void Chunk::clear() {
  used_ = 0;
  bytes_ = 0;
  buffers_.clear();
  kept_.clear();
}

}  // namespace spillway::broker
