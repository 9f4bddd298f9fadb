// Chunk: what goes out in one write, gathered from many records.
#pragma once

#include <boost/asio/buffer.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/block.h"

namespace spillway::broker {

// Small pieces are copied side by side into one buffer made once, because a gathering write costs
// more per piece than a copy of a few hundred bytes; large ones are referenced. Not thread-safe.
class Chunk {
 public:
  static constexpr std::size_t kBytes = std::size_t{256} << 10;    // full() from here on
  static constexpr std::size_t kCopyBytes = std::size_t{8} << 10;  // larger pieces are referenced
  static constexpr std::size_t kPieces = 60;  // full() from here on; a system call takes some more

  Chunk();

  // `piece` must live until clear() if it is longer than kCopyBytes or the buffer is full: keep()
  // its block.
  void add(std::span<const std::byte> piece);
  // Four bytes, little-endian, before the first piece of a record. Requires !full().
  void add_length(std::uint32_t length);
  void add_newline();
  void keep(BlockPtr block);

  bool full() const { return bytes_ >= kBytes || buffers_.size() >= kPieces; }
  std::size_t bytes() const { return bytes_; }
  const std::vector<boost::asio::const_buffer>& buffers() const { return buffers_; }
  void clear();

 private:
  // Enough for one more small record after full() was still false.
  static constexpr std::size_t kCapacity = kBytes + kCopyBytes + 16;

  void copy(const void* data, std::size_t size);

  std::unique_ptr<std::byte[]> copies_;
  std::size_t used_ = 0;
  std::size_t bytes_ = 0;
  std::vector<boost::asio::const_buffer> buffers_;
  std::vector<BlockPtr> kept_;
};

}  // namespace spillway::broker
