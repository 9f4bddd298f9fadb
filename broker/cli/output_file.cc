#include "broker/cli/output_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace spillway::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBufferBytes = std::size_t{256} << 10;

Error exists_already(const fs::path& path) {
  return Error{path.string() + " exists already: say another name, or --force to replace it"};
}

}  // namespace

OutputFile::Buffer::Buffer(int fd) : fd_(fd), bytes_(kBufferBytes) {
  setp(bytes_.data(), bytes_.data() + bytes_.size());
}

OutputFile::Buffer::int_type OutputFile::Buffer::overflow(int_type c) {
  if (sync() != 0) return traits_type::eof();
  if (traits_type::eq_int_type(c, traits_type::eof())) return traits_type::not_eof(c);
  *pptr() = traits_type::to_char_type(c);
  pbump(1);
  return c;
}

int OutputFile::Buffer::sync() {
  const char* at = pbase();
  while (error_ == 0 && at != pptr()) {
    const ssize_t n = ::write(fd_, at, static_cast<std::size_t>(pptr() - at));
    if (n >= 0) {
      at += n;
    } else if (errno != EINTR) {
      error_ = errno;
    }
  }
  setp(bytes_.data(), bytes_.data() + bytes_.size());
  return error_ == 0 ? 0 : -1;
}

OutputFile::OutputFile(fs::path path, fs::path written, int fd, bool replace)
    : path_(std::move(path)),
      written_(std::move(written)),
      fd_(fd),
      replace_(replace),
      buffer_(fd),
      stream_(&buffer_) {}

OutputFile::~OutputFile() {
  ::close(fd_);
  if (!committed_) ::unlink(written_.c_str());
}

Error OutputFile::failure(const std::string& what, int error) const {
  return Error{path_.string() + ": cannot " + what + ": " + std::strerror(error)};
}

Result<std::unique_ptr<OutputFile>> OutputFile::create(const fs::path& path, bool replace) {
  struct stat found {};
  if (::lstat(path.c_str(), &found) == 0) {
    if (!replace) return exists_already(path);
    if (!S_ISREG(found.st_mode)) {
      return Error{path.string() + " is no regular file, and is not replaced"};
    }
  }
  fs::path written = path.string() + "." + std::to_string(::getpid()) + ".unfinished";
  const int fd = ::open(written.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) {
    return Error{written.string() + ": cannot write there: " + std::strerror(errno)};
  }
  return std::unique_ptr<OutputFile>(new OutputFile(path, std::move(written), fd, replace));
}

std::optional<Error> OutputFile::commit() {
  stream_.flush();
  if (!stream_) return failure("write it", buffer_.error());
  if (::fsync(fd_) != 0) return failure("sync it", errno);
  // Somebody else may have made it meanwhile.
  const unsigned flags = replace_ ? 0u : RENAME_NOREPLACE;
  int renamed = ::renameat2(AT_FDCWD, written_.c_str(), AT_FDCWD, path_.c_str(), flags);
  if (renamed != 0 && errno == EINVAL) {
    // A file system that cannot tell; create() has looked.
    renamed = ::rename(written_.c_str(), path_.c_str());
  }
  if (renamed != 0) return errno == EEXIST ? exists_already(path_) : failure("name it", errno);
  committed_ = true;
  const fs::path folder = path_.has_parent_path() ? path_.parent_path() : fs::path(".");
  const int folder_fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder_fd < 0) return failure("sync its folder", errno);
  const bool synced = ::fsync(folder_fd) == 0;
  const int error = errno;
  ::close(folder_fd);
  if (!synced) return failure("sync its folder", error);
  return std::nullopt;
}

}  // namespace spillway::cli
