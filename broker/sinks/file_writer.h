// FileWriter: the blocking half of the file sink. README.md has the order of its writes and why it
// holds.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include "base/block.h"
#include "base/position.h"
#include "broker/config/config.h"
#include "broker/sinks/chunk.h"
#include "broker/sinks/disk.h"
#include "broker/sinks/file_position.h"
#include "broker/sinks/part_tracker.h"
#include "wire/record.h"

namespace spillway::broker {

// Operation: open(), then commit() one group after the other; after a failure or a refusal, open()
// again.
// Concurrency: not thread-safe; every call may block for as long as the disk likes.
class FileWriter {
 public:
  struct Opened {
    std::optional<Failure> failure;
    std::optional<Position> held;  // nothing: no record was ever taken
  };
  struct Committed {
    std::optional<Offset> acked;  // through here everything is durable, and so is the position
    std::optional<Refused> refused;
    std::optional<Failure> failure;
  };

  FileWriter(const config::FileSink& options, Disk& disk);

  // Opens both files, cuts off what lies beyond the position, makes what it reports durable.
  Opened open();
  bool is_open() const { return static_cast<bool>(file_); }
  void close();
  // Writes the blocks, syncs, stores the position. A record in parts is written as its parts come,
  // and taken with its last one.
  Committed commit(std::span<const BlockPtr> blocks);

 private:
  std::optional<Failure> open_files();
  std::optional<Failure> check_against(const FilePosition& stored);
  std::optional<Failure> sync_directory();
  std::optional<Failure> write_block(const Block& block);
  std::optional<Failure> write_record(Offset offset, const wire::RecordView& record);
  std::optional<Failure> cut_parts();
  std::optional<Failure> finish_parts();
  std::optional<Failure> flush();
  std::optional<Failure> make_durable();
  std::optional<Failure> truncate(std::uint64_t length);
  std::optional<Failure> check_same_file() const;
  Result<std::uint32_t> tail_crc(std::uint64_t length) const;
  void take(Offset offset, Position position);
  std::uint64_t place() const { return end_ + chunk_.bytes(); }

  std::filesystem::path path_;
  config::Framing framing_;
  Disk& disk_;
  PositionFile positions_;
  FileHandle file_;
  PartTracker tracker_;
  Chunk chunk_;
  std::uint64_t end_ = 0;                      // of what was written; the chunk goes here
  std::optional<std::uint64_t> record_start_;  // of the record in parts that is being written
  std::uint64_t synced_length_ = 0;            // of the data that is durable
  FilePosition taken_;                         // through the last whole record or skip
  std::optional<Offset> taken_through_;        // set when taken_ is ahead of the position file
  std::optional<Refused> refused_;
};

}  // namespace spillway::broker
