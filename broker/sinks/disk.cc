#include "broker/sinks/disk.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <system_error>
#include <utility>

namespace spillway::broker {

ssize_t Disk::pwritev(int fd, const iovec* pieces, int count, off_t offset) {
  return ::pwritev(fd, pieces, count, offset);
}

int Disk::fdatasync(int fd) { return ::fdatasync(fd); }

int Disk::ftruncate(int fd, off_t length) { return ::ftruncate(fd, length); }

Disk& Disk::real() {
  static Disk disk;
  return disk;
}

Failure failure_of_errno(const std::string& what, LossCause otherwise) {
  const int error = errno;
  LossCause cause = otherwise;
  switch (error) {
    case EACCES:
    case EPERM:
    case EROFS:
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EISDIR: cause = LossCause::refused; break;
    default: break;
  }
  return {cause, what + ": " + std::generic_category().message(error)};
}

std::optional<Failure> write_all(Disk& disk, int fd, std::span<iovec> pieces, off_t offset,
                                 const std::string& what) {
  while (!pieces.empty()) {
    const int count = static_cast<int>(std::min<std::size_t>(pieces.size(), IOV_MAX));
    const ssize_t written = disk.pwritev(fd, pieces.data(), count, offset);
    if (written < 0 && errno == EINTR) {
      continue;
    }
    if (written <= 0) {
      if (written == 0) {
        errno = EIO;
      }
      return failure_of_errno(what, LossCause::broken);
    }
    offset += written;
    auto rest = static_cast<std::size_t>(written);
    while (!pieces.empty() && rest >= pieces.front().iov_len) {
      rest -= pieces.front().iov_len;
      pieces = pieces.subspan(1);
    }
    if (rest > 0) {
      iovec& piece = pieces.front();
      piece.iov_base = static_cast<char*>(piece.iov_base) + rest;
      piece.iov_len -= rest;
    }
  }
  return {};
}

FileHandle::FileHandle(FileHandle&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

FileHandle& FileHandle::operator=(FileHandle&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

void FileHandle::reset() {
  if (fd_ >= 0) {
    ::close(std::exchange(fd_, -1));
  }
}

}  // namespace spillway::broker
