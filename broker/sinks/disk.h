// Disk: the system calls of the file sink that a test makes fail, hang, or die in the middle of.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <optional>
#include <span>
#include <string>

#include "broker/sinks/sink.h"

namespace spillway::broker {

// Results and errno as the calls of the same names. The default is the real thing and has no state.
class Disk {
 public:
  virtual ~Disk() = default;
  virtual ssize_t pwritev(int fd, const iovec* pieces, int count, off_t offset);
  virtual int fdatasync(int fd);
  virtual int ftruncate(int fd, off_t length);

  static Disk& real();
};

// Why a file could not be used, as an attempt's end.
struct Failure {
  LossCause cause = LossCause::broken;
  std::string text;
};

// Of the call that just set errno: `refused` for what somebody must change (no space, no
// permission, ...), `otherwise` for the rest.
Failure failure_of_errno(const std::string& what, LossCause otherwise);

// Writes all of `pieces` at `offset`; changes them.
std::optional<Failure> write_all(Disk& disk, int fd, std::span<iovec> pieces, off_t offset,
                                 const std::string& what);

// An open file descriptor.
class FileHandle {
 public:
  FileHandle() = default;
  explicit FileHandle(int fd) : fd_(fd) {}
  FileHandle(FileHandle&& other) noexcept;
  FileHandle& operator=(FileHandle&& other) noexcept;
  ~FileHandle() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  void reset();

 private:
  int fd_ = -1;
};

}  // namespace spillway::broker
