// The layout of data_dir, the lock on it, what it uses of the disk, and the ballast.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"

namespace spillway::journal {

inline constexpr std::size_t kLatchSlotBytes = std::size_t{16} << 10;
inline constexpr std::size_t kMarkSlotBytes = std::size_t{8} << 10;

struct Layout {
  explicit Layout(std::filesystem::path dir) : root(std::move(dir)) {}
  std::filesystem::path root;
  std::filesystem::path lock() const { return root / "LOCK"; }
  std::filesystem::path store() const { return root / "journal"; }
  std::filesystem::path latch(const std::string& stream) const { return root / "latch" / stream; }
  std::filesystem::path mark(const std::string& stream) const { return root / "marks" / stream; }
  std::filesystem::path format() const { return root / "format"; }
  std::filesystem::path ballast() const { return root / "ballast"; }
  std::filesystem::path repair() const { return root / "repair"; }
};

// True for a name that may be a stream: it also names files.
bool valid_stream_name(const std::string& name);

// Makes what was made or renamed in `dir` durable.
std::optional<Error> sync_directory(const std::filesystem::path& dir);
// Makes them durably, with what leads to them: a file that is synced is lost all the same when the
// name of its folder is.
std::optional<Error> make_directories(const Layout& layout);

// The number in the format file; nothing when there is no such file, and an Error that says what is
// in it instead of a number.
Result<std::optional<std::uint64_t>> format_number(const Layout& layout);
// Whether this version may open the store: said by a file of its own, because RocksDB changes what
// it opens before it can be asked. Where there is none, read_format() says nothing.
std::optional<Error> read_format(const Layout& layout);
// The same, and makes the file where there is none.
std::optional<Error> check_format(const Layout& layout);

// An exclusive lock for as long as it lives: released by the kernel however the process ends.
class DirLock {
 public:
  static Result<std::unique_ptr<DirLock>> take(const Layout& layout);
  // Whether another process holds it now.
  static bool held(const Layout& layout);
  ~DirLock();
  DirLock(const DirLock&) = delete;
  DirLock& operator=(const DirLock&) = delete;

 private:
  explicit DirLock(int fd) : fd_(fd) {}
  int fd_;
};

// Bytes of disk as `du` counts them: blocks, not lengths, directories included.
struct DiskUse {
  std::uint64_t total = 0;
  std::uint64_t wal = 0;   // of the store
  std::uint64_t sst = 0;   // of the store
  std::uint64_t kept = 0;  // what repairs replaced, and nobody has deleted
};
// Nothing where a folder or a file cannot be looked at: what can be is no more than a part of it.
// (A folder below data_dir that this user must not open does not count.)
std::optional<DiskUse> measure_disk_use(const Layout& layout);

// Space held back, to be given up when the disk is full, so that state can still be written. Both
// return whether the ballast is there afterwards.
bool make_ballast(const Layout& layout, std::uint64_t bytes);
bool drop_ballast(const Layout& layout);

}  // namespace spillway::journal
