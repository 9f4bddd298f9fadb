// PositionFile: through which record a file sink's file is complete, durably. Format in README.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "base/position.h"
#include "broker/config/config.h"
#include "broker/sinks/disk.h"

namespace spillway::broker {

struct FilePosition {
  Position position;           // of the last record taken; {0, 0}: none yet
  std::uint64_t length = 0;    // of the file through it
  std::uint32_t tail_crc = 0;  // CRC-32C of the kTailBytes before `length`
  config::Framing framing = config::Framing::lines;
  friend bool operator==(const FilePosition&, const FilePosition&) = default;
};

// How much of the file's end is compared at a connect, to notice that another one took its place.
inline constexpr std::uint64_t kTailBytes = 256;

// Two slots in one small file, written in turn and in place: a torn write leaves the other one, and
// nothing but the slot has to reach the disk. The file is locked while it is open.
// Blocking; not thread-safe.
class PositionFile {
 public:
  PositionFile(std::filesystem::path path, Disk& disk);

  // Opens or makes the file, locks it, reads the newer slot.
  std::optional<Failure> open();
  void close() { file_.reset(); }

  // The newer valid slot; nothing if there is none.
  const std::optional<FilePosition>& newest() const { return newest_; }
  // Durable when it returns without a failure.
  std::optional<Failure> store(const FilePosition& position);

 private:
  std::filesystem::path path_;
  Disk& disk_;
  FileHandle file_;
  std::optional<FilePosition> newest_;
  std::uint64_t counter_ = 0;  // of the newer slot
};

}  // namespace spillway::broker
