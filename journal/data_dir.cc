#include "journal/data_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <utility>
#include <vector>

#include "base/utf8.h"
#include "journal/format.h"

namespace spillway::journal {

bool valid_stream_name(const std::string& name) {
  return !name.empty() && name.size() <= 64 && name != "." && name != ".." &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '_' || c == '-';
         });
}

std::optional<Error> sync_directory(const std::filesystem::path& dir) {
  const int fd = ::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return Error{dir.string() + ": cannot open it: " + std::strerror(errno)};
  const bool synced = ::fsync(fd) == 0;
  const int why = errno;
  ::close(fd);
  if (!synced) return Error{dir.string() + ": cannot sync it: " + std::strerror(why)};
  return std::nullopt;
}

std::optional<Error> make_directories(const Layout& layout) {
  std::error_code error;
  const std::filesystem::path root = std::filesystem::absolute(layout.root, error);
  // The last one that exists already, and below it those that must be made.
  std::filesystem::path existing = root;
  while (!existing.empty() && existing != existing.root_path() &&
         !std::filesystem::exists(existing, error)) {
    existing = existing.parent_path();
  }
  for (const auto& dir :
       {root, layout.store(), layout.latch("").parent_path(), layout.mark("").parent_path()}) {
    std::filesystem::create_directories(dir, error);
    if (error) return Error{dir.string() + ": cannot make it: " + error.message()};
  }
  // Of a root that was there, a start that was cut short may have left the rest unsynced.
  for (std::filesystem::path dir = root;; dir = dir.parent_path()) {
    if (auto failed = sync_directory(dir)) return failed;
    if (dir == existing || dir == dir.root_path()) break;
  }
  return std::nullopt;
}

Result<std::optional<std::uint64_t>> format_number(const Layout& layout) {
  std::ifstream in(layout.format(), std::ios::binary);
  if (!in) {
    const int why = errno;
    if (why == ENOENT) return std::optional<std::uint64_t>();
    return Error{std::string("cannot be read: ") + std::strerror(why)};
  }
  char text[32] = {};
  in.read(text, sizeof text - 1);
  const std::string found(text, static_cast<std::size_t>(in.gcount()));
  std::uint64_t number = 0;
  const char* const last = found.data() + found.size();
  const auto [end, error] = std::from_chars(found.data(), last, number);
  if (error == std::errc() && std::string_view(end, last) == "\n") {
    return std::optional<std::uint64_t>(number);
  }
  return Error{"is damaged: it holds \"" + printable(found) +
               "\", and not the number of a format on a line"};
}

std::optional<Error> read_format(const Layout& layout) {
  const std::string path = layout.format().string();
  const auto number = format_number(layout);
  if (!number) {
    return Error{path + " " + number.error().message + "; run `spillway journal repair`"};
  }
  if (number->value_or(kFormatVersion) == kFormatVersion) return std::nullopt;
  return Error{path + " says format " + std::to_string(**number) +
               ", which is not known to this version, which reads format " +
               std::to_string(kFormatVersion) +
               "; use the version that wrote it, or another data_dir"};
}

std::optional<Error> check_format(const Layout& layout) {
  std::error_code ignored;
  if (std::filesystem::exists(layout.format(), ignored)) return read_format(layout);
  const std::string known = std::to_string(kFormatVersion) + "\n";
  const std::string path = layout.format().string();
  // Made beside its place and renamed: it is there whole, or not at all.
  const std::string fresh = path + ".new";
  const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  bool ok = fd >= 0;
  ok = ok && ::write(fd, known.data(), known.size()) == static_cast<ssize_t>(known.size());
  ok = ok && ::fsync(fd) == 0 && ::rename(fresh.c_str(), path.c_str()) == 0;
  const int why = errno;
  if (fd >= 0) ::close(fd);
  if (!ok) return Error{path + ": cannot make it: " + std::strerror(why)};
  return sync_directory(layout.root);
}

Result<std::unique_ptr<DirLock>> DirLock::take(const Layout& layout) {
  const int fd = ::open(layout.lock().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return Error{layout.lock().string() + ": cannot open it: " + std::strerror(errno)};
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    const int why = errno;
    char pid[32] = {};
    const ssize_t n = ::pread(fd, pid, sizeof pid - 1, 0);
    ::close(fd);
    if (why != EWOULDBLOCK) {
      return Error{layout.lock().string() + ": cannot lock it: " + std::strerror(why)};
    }
    std::string owner = n > 0 ? std::string(pid, static_cast<std::size_t>(n)) : std::string();
    owner.erase(std::find(owner.begin(), owner.end(), '\n'), owner.end());
    return Error{layout.root.string() + " is in use by another broker" +
                 (owner.empty() ? std::string() : " (process " + owner + ")") +
                 "; stop it or choose another data_dir"};
  }
  const std::string pid = std::to_string(::getpid()) + "\n";
  // The number only serves the message above: a lock without it is still a lock.
  if (::ftruncate(fd, 0) == 0 && ::pwrite(fd, pid.data(), pid.size(), 0) < 0) errno = 0;
  return std::unique_ptr<DirLock>(new DirLock(fd));
}

bool DirLock::held(const Layout& layout) {
  const int fd = ::open(layout.lock().c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool held = ::flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  ::close(fd);
  return held;
}

DirLock::~DirLock() { ::close(fd_); }

std::optional<DiskUse> measure_disk_use(const Layout& layout) {
  DiskUse use;
  const std::string kept = layout.repair().string();
  std::vector<std::filesystem::path> folders;  // still to be listed
  // What went since it was listed is not there, and what is not to be seen is none of the
  // journal's.
  const auto passed_over = [](int why) { return why == ENOENT || why == EACCES; };
  const auto add = [&](const std::filesystem::path& path) {
    struct stat info;
    if (::lstat(path.c_str(), &info) != 0) return passed_over(errno);
    if (S_ISDIR(info.st_mode)) folders.push_back(path);
    const auto bytes = static_cast<std::uint64_t>(info.st_blocks) * 512;
    use.total += bytes;
    if (path.native().starts_with(kept)) {
      use.kept += bytes;
    } else if (path.extension() == ".log") {
      use.wal += bytes;
    } else if (path.extension() == ".sst") {
      use.sst += bytes;
    }
    return true;
  };
  if (!add(layout.root) || folders.empty()) return std::nullopt;
  while (!folders.empty()) {
    const std::filesystem::path folder = std::move(folders.back());
    folders.pop_back();
    std::error_code error;
    for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
         it.increment(error)) {
      if (!add(it->path())) return std::nullopt;
    }
    if (error && (folder == layout.root || !passed_over(error.value()))) return std::nullopt;
  }
  return use;
}

bool make_ballast(const Layout& layout, std::uint64_t bytes) {
  const int fd = ::open(layout.ballast().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return false;
  const bool ok = ::posix_fallocate(fd, 0, static_cast<off_t>(bytes)) == 0 &&
                  ::ftruncate(fd, static_cast<off_t>(bytes)) == 0;
  ::close(fd);
  return ok || drop_ballast(layout);
}

bool drop_ballast(const Layout& layout) {
  return ::unlink(layout.ballast().c_str()) != 0 && errno != ENOENT;
}

}  // namespace spillway::journal
