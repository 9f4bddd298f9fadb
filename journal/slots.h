// A small file that can be rewritten on a full disk: two slots written once when it is made, then
// overwritten in turn, so that a torn write leaves the older contents and no write needs new space.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace spillway::journal {

// Not thread-safe. Holds the file open for as long as it lives.
class Slots {
 public:
  // The newest intact contents of an existing file: nothing when it was never written. `damaged`
  // says that neither slot is intact, which they are from the beginning.
  struct Contents {
    std::optional<std::string> contents;
    bool damaged = false;
  };

  // What a file that is not there is made as: both slots intact, and nothing in them; or neither,
  // where there was one before: that it was lost stays known until it is written.
  enum class Made { unwritten, damaged };
  // Opens, or makes durably, a file of two slots of `slot_bytes` each (a multiple of 4096). A
  // device that fails a read is an error: older contents must not pass for the newest.
  static Result<Slots> open(const std::filesystem::path& path, std::size_t slot_bytes,
                            Made made = Made::unwritten);
  // For tools: does not make, lock or change anything; nothing when there is no such file. One that
  // the device does not read is damaged to them.
  static std::optional<Contents> peek(const std::filesystem::path& path, std::size_t slot_bytes);

  Slots(Slots&& other) noexcept;
  Slots& operator=(Slots&& other) noexcept;
  ~Slots();

  const Contents& contents() const { return contents_; }  // as read or last written
  std::size_t capacity() const;                           // bytes that fit
  // Durable when it returns true; false when empty, too long, or the device refused it.
  bool write(std::string_view contents);

 private:
  Slots(int fd, std::size_t slot_bytes);
  bool write_slot(std::uint64_t counter, std::string_view contents);

  int fd_;
  std::size_t slot_bytes_;
  std::uint64_t counter_ = 0;  // of the newest intact slot; it lies in slot counter_ % 2
  Contents contents_;
};

}  // namespace spillway::journal
