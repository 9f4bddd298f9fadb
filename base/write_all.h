// WriteAll: a completion condition for asio::async_write.
#pragma once

#include <cstddef>

namespace spillway {

// Writes all, and gives the kernel as much at a time as a read takes from it. Asio's own
// transfer_all gives 64 KiB, a quarter of that: whoever passes on what piles up would read it four
// times as fast as it writes, and the first of it would wait until the last was read.
struct WriteAll {
  static constexpr std::size_t kBytes = std::size_t{256} << 10;

  template <class ErrorCode>
  std::size_t operator()(const ErrorCode& error, std::size_t) const {
    return error ? 0 : kBytes;
  }
};

}  // namespace spillway
