// Preloaded into a program, writes down every change that it makes to files below one folder, and
// every sync, in the order in which they take effect; disk_model.cc makes of that what a power cut
// would have left. tests/power/README.md has the model.
//
//   SPILLWAY_POWER_ROOT     the folder that is watched, absolute
//   SPILLWAY_POWER_TRACE    where to write; trace.h has the format
//   SPILLWAY_POWER_CONTROL  a folder with files hold.<kind>: a sync of that kind waits for as long
//   as
//                           somebody has its file locked, and says so by making held.<kind>
//   SPILLWAY_POWER_DIE_AT   the process ends by SIGKILL when it calls for this sync, counted from 1
//
// Nothing is synced in earnest: the trace knows what would have been, and the machine stays on.
// A way to write that this file does not see must not pass for a program that writes nothing: what
// could be one ends the process with a message.
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "tests/power/trace.h"

namespace spillway::power {
namespace {

struct OpenFile {
  std::uint32_t id = 0;
  std::string path;  // when it was opened
  dev_t device = 0;
  ino_t inode = 0;
  bool appends = false;
  bool directory = false;
};

// Made at the first call, which may come before this library's constructors; never destroyed, since
// calls may come after its destructors.
struct Shim {
  std::string root;
  std::string control;
  int trace = -1;
  unsigned long die_at = 0;
  unsigned long syncs = 0;
  std::uint32_t last_id = 0;
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  std::map<int, OpenFile> files;
};

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

Shim* make_shim() {
  auto* shim = new Shim;
  shim->root = variable("SPILLWAY_POWER_ROOT");
  shim->control = variable("SPILLWAY_POWER_CONTROL");
  const std::string trace = variable("SPILLWAY_POWER_TRACE");
  if (!shim->root.empty() && !trace.empty()) {
    shim->trace = static_cast<int>(::syscall(SYS_openat, AT_FDCWD, trace.c_str(),
                                             O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  }
  if (const std::string at = variable("SPILLWAY_POWER_DIE_AT"); !at.empty()) {
    shim->die_at = std::stoul(at);
  }
  return shim;
}

Shim& shim() {
  static Shim* const kShim = make_shim();
  return *kShim;
}

class Lock {
 public:
  Lock() { ::pthread_mutex_lock(&shim().mutex); }
  ~Lock() { ::pthread_mutex_unlock(&shim().mutex); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
};

[[noreturn]] void refuse(const char* what, std::string_view path) {
  std::fprintf(stderr, "power shim: %s of %.*s is not seen by it\n", what,
               static_cast<int>(path.size()), path.data());
  std::abort();
}

// Relative to the root, "" for the root itself; nothing when it is elsewhere.
std::optional<std::string> watched(int folder, const char* path) {
  if (shim().trace < 0) return std::nullopt;
  std::string full = path;
  if (full.empty() || full.front() != '/') {
    char place[PATH_MAX] = {};
    const std::string link =
        folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/" + std::to_string(folder);
    if (::syscall(SYS_readlink, link.c_str(), place, sizeof place - 1) < 0) return std::nullopt;
    full = std::string(place) + "/" + full;
  }
  std::string clean;
  for (const char c : full) {
    if (c != '/' || clean.empty() || clean.back() != '/') clean.push_back(c);
  }
  while (clean.size() > 1 && clean.back() == '/') clean.pop_back();
  const std::string& root = shim().root;
  if (clean.rfind(root, 0) != 0) return std::nullopt;
  if (clean.size() == root.size()) return "";
  if (clean[root.size()] != '/') return std::nullopt;
  return clean.substr(root.size() + 1);
}

void write_down(EntryHeader header, std::string_view path, const void* data, std::size_t bytes) {
  header.path_bytes = static_cast<std::uint32_t>(path.size());
  header.data_bytes = static_cast<std::uint32_t>(bytes);
  const iovec parts[] = {{&header, sizeof header},
                         {const_cast<char*>(path.data()), path.size()},
                         {const_cast<void*>(data), bytes}};
  const auto wanted = static_cast<long>(sizeof header + path.size() + bytes);
  if (::syscall(SYS_writev, shim().trace, parts, 3) != wanted) refuse("a full trace", path);
}

void write_down(Call call, std::string_view path, std::string_view second = {}) {
  EntryHeader header;
  header.call = call;
  write_down(header, path, second.data(), second.size());
}

OpenFile* find(int fd) {
  const auto it = shim().files.find(fd);
  if (it == shim().files.end()) return nullptr;
  struct stat info;
  // The C library closes what it reads folders with by itself: the number may be another's by now.
  if (::fstat(fd, &info) == 0 && info.st_dev == it->second.device &&
      info.st_ino == it->second.inode) {
    return &it->second;
  }
  shim().files.erase(it);
  return nullptr;
}

// --- opening and closing ---

int open_file(int folder, const char* path, int flags, mode_t mode) {
  const std::optional<std::string> place = watched(folder, path);
  if (!place) return static_cast<int>(::syscall(SYS_openat, folder, path, flags, mode));
  const Lock lock;
  struct stat before;
  const bool existed = ::fstatat(folder, path, &before, 0) == 0;
  const int fd = static_cast<int>(::syscall(SYS_openat, folder, path, flags, mode));
  if (fd < 0) return fd;
  struct stat info;
  ::fstat(fd, &info);
  OpenFile file{++shim().last_id,     *place, info.st_dev, info.st_ino, (flags & O_APPEND) != 0,
                S_ISDIR(info.st_mode)};
  if (!file.directory) {
    EntryHeader header;
    header.call = existed ? Call::open : Call::create;
    header.id = file.id;
    write_down(header, *place, nullptr, 0);
    if (existed && (flags & O_TRUNC) != 0) {
      header.call = Call::truncate;
      write_down(header, {}, nullptr, 0);
    }
  }
  shim().files[fd] = std::move(file);
  return fd;
}

int close_file(int fd) {
  if (shim().trace < 0) return static_cast<int>(::syscall(SYS_close, fd));
  const Lock lock;
  shim().files.erase(fd);
  return static_cast<int>(::syscall(SYS_close, fd));
}

int copied(int from, int to) {
  if (to < 0 || shim().trace < 0) return to;
  const Lock lock;
  shim().files.erase(to);
  if (const OpenFile* file = find(from)) shim().files[to] = *file;
  return to;
}

// --- contents ---

template <class Real>
ssize_t write_file(int fd, const iovec* parts, int count, off_t offset, const Real& real) {
  if (shim().trace < 0) return real();
  const Lock lock;
  const OpenFile* file = find(fd);
  if (file == nullptr) return real();
  if (file->appends) {
    struct stat info;
    ::fstat(fd, &info);
    offset = info.st_size;
  } else if (offset < 0) {
    offset = ::lseek(fd, 0, SEEK_CUR);
  }
  const ssize_t done = real();
  if (done <= 0) return done;
  std::string data;
  for (int i = 0; i < count && data.size() < static_cast<std::size_t>(done); ++i) {
    data.append(static_cast<const char*>(parts[i].iov_base), parts[i].iov_len);
  }
  data.resize(static_cast<std::size_t>(done));
  EntryHeader header;
  header.call = Call::write;
  header.id = file->id;
  header.offset = static_cast<std::uint64_t>(offset);
  write_down(header, {}, data.data(), data.size());
  return done;
}

template <class Real>
int resize_file(int fd, Call call, off_t offset, off_t length, const Real& real) {
  if (shim().trace < 0) return real();
  const Lock lock;
  const OpenFile* file = find(fd);
  const int result = real();
  if (file == nullptr || result != 0) return result;
  EntryHeader header;
  header.call = call;
  header.id = file->id;
  header.offset = static_cast<std::uint64_t>(offset);
  header.length = static_cast<std::uint64_t>(length);
  write_down(header, {}, nullptr, 0);
  return result;
}

// --- syncs ---

const char* kind_of(const OpenFile& file) {
  const std::string name = file.path.substr(file.path.rfind('/') + 1);
  if (file.directory) return "directory";
  if (file.path.find("/latch/") != std::string::npos) return "latch";
  if (file.path.find("/marks/") != std::string::npos) return "mark";
  if (name.size() > 4 && name.substr(name.size() - 4) == ".log") return "wal";
  if (name.size() > 4 && name.substr(name.size() - 4) == ".sst") return "table";
  if (name.rfind("MANIFEST", 0) == 0) {
    // RocksDB's own threads write it after a flush; that of the journal when it deletes files.
    char thread[16] = {};
    ::pthread_getname_np(::pthread_self(), thread, sizeof thread);
    return std::string_view(thread).rfind("rocksdb", 0) == 0 ? "manifest" : "trim";
  }
  return "other";
}

// Without the lock: the rest of the program goes on, as it would beside a slow disk.
void hold(const OpenFile& file) {
  if (shim().control.empty()) return;
  const std::string kind = kind_of(file);
  const std::string gate = shim().control + "/hold." + kind;
  const auto fd =
      static_cast<int>(::syscall(SYS_openat, AT_FDCWD, gate.c_str(), O_RDONLY | O_CLOEXEC, 0));
  if (fd < 0) return;
  if (::flock(fd, LOCK_SH | LOCK_NB) != 0) {
    const std::string sign = shim().control + "/held." + kind;
    ::syscall(SYS_close, ::syscall(SYS_openat, AT_FDCWD, sign.c_str(), O_WRONLY | O_CREAT, 0600));
    while (::flock(fd, LOCK_SH) != 0 && errno == EINTR) continue;
    ::syscall(SYS_unlinkat, AT_FDCWD, sign.c_str(), 0);
  }
  ::syscall(SYS_close, fd);
}

template <class Real>
int sync_file(int fd, const Real& real) {
  if (shim().trace < 0) return real();
  OpenFile file;
  {
    const Lock lock;
    const OpenFile* found = find(fd);
    if (found == nullptr) return real();
    file = *found;
  }
  hold(file);
  const Lock lock;
  if (++shim().syncs == shim().die_at) ::kill(::getpid(), SIGKILL);
  EntryHeader header;
  header.call = file.directory ? Call::sync_dir : Call::sync;
  header.id = file.id;
  write_down(header, file.directory ? file.path : std::string(), nullptr, 0);
  return 0;
}

// --- names ---

template <class Real>
int change_name(Call call, int folder, const char* path, const Real& real) {
  const std::optional<std::string> place = watched(folder, path);
  if (!place) return real();
  const Lock lock;
  const int result = real();
  if (result == 0) write_down(call, *place);
  return result;
}

template <class Real>
int change_names(Call call, int from_folder, const char* from, int to_folder, const char* to,
                 const Real& real) {
  const std::optional<std::string> source = watched(from_folder, from);
  const std::optional<std::string> target = watched(to_folder, to);
  if (!source && !target) return real();
  if (!source || !target) refuse("a name that leaves the folder", source ? from : to);
  const Lock lock;
  const int result = real();
  if (result == 0) write_down(call, *source, *target);
  return result;
}

template <class Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

mode_t mode_in(int flags, va_list arguments) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
}

}  // namespace
}  // namespace spillway::power

using namespace spillway::power;  // the C library's names must be at the top

extern "C" {

void spillway_power_note(const char* text) {
  if (shim().trace < 0) return;
  const Lock lock;
  write_down(Call::note, {}, text);
}

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_in(flags, arguments);
  va_end(arguments);
  return open_file(AT_FDCWD, path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_in(flags, arguments);
  va_end(arguments);
  return open_file(AT_FDCWD, path, flags, mode);
}
int openat(int folder, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_in(flags, arguments);
  va_end(arguments);
  return open_file(folder, path, flags, mode);
}
int openat64(int folder, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_in(flags, arguments);
  va_end(arguments);
  return open_file(folder, path, flags, mode);
}
int creat(const char* path, mode_t mode) {
  return open_file(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}
int close(int fd) { return close_file(fd); }
int dup(int fd) { return copied(fd, static_cast<int>(::syscall(SYS_dup, fd))); }
int dup2(int fd, int to) { return copied(fd, static_cast<int>(::syscall(SYS_dup2, fd, to))); }
int dup3(int fd, int to, int flags) {
  return copied(fd, static_cast<int>(::syscall(SYS_dup3, fd, to, flags)));
}
int fcntl(int fd, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  void* const argument = va_arg(arguments, void*);
  va_end(arguments);
  const auto result = static_cast<int>(::syscall(SYS_fcntl, fd, command, argument));
  return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? copied(fd, result) : result;
}
int fcntl64(int fd, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  void* const argument = va_arg(arguments, void*);
  va_end(arguments);
  return fcntl(fd, command, argument);
}

ssize_t write(int fd, const void* data, size_t bytes) {
  const iovec part{const_cast<void*>(data), bytes};
  return write_file(fd, &part, 1, -1, [&] { return ::syscall(SYS_write, fd, data, bytes); });
}
ssize_t pwrite(int fd, const void* data, size_t bytes, off_t offset) {
  const iovec part{const_cast<void*>(data), bytes};
  return write_file(fd, &part, 1, offset,
                    [&] { return ::syscall(SYS_pwrite64, fd, data, bytes, offset); });
}
ssize_t pwrite64(int fd, const void* data, size_t bytes, off64_t offset) {
  return pwrite(fd, data, bytes, offset);
}
ssize_t writev(int fd, const iovec* parts, int count) {
  return write_file(fd, parts, count, -1, [&] { return ::syscall(SYS_writev, fd, parts, count); });
}
ssize_t pwritev(int fd, const iovec* parts, int count, off_t offset) {
  return write_file(fd, parts, count, offset,
                    [&] { return ::syscall(SYS_pwritev, fd, parts, count, offset, 0); });
}
ssize_t pwritev64(int fd, const iovec* parts, int count, off64_t offset) {
  return pwritev(fd, parts, count, offset);
}

int ftruncate(int fd, off_t size) noexcept {
  return resize_file(fd, Call::truncate, size, 0,
                     [&] { return static_cast<int>(::syscall(SYS_ftruncate, fd, size)); });
}
int ftruncate64(int fd, off64_t size) noexcept { return ftruncate(fd, size); }
int fallocate(int fd, int mode, off_t offset, off_t length) {
  const auto real = [&] {
    return static_cast<int>(::syscall(SYS_fallocate, fd, mode, offset, length));
  };
  if (mode != 0) return real();  // does not change what is read
  return resize_file(fd, Call::allocate, offset, length, real);
}
int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
  return fallocate(fd, mode, offset, length);
}
int posix_fallocate(int fd, off_t offset, off_t length) {
  return fallocate(fd, 0, offset, length) == 0 ? 0 : errno;
}
int posix_fallocate64(int fd, off64_t offset, off64_t length) {
  return posix_fallocate(fd, offset, length);
}

int fsync(int fd) {
  return sync_file(fd, [&] { return static_cast<int>(::syscall(SYS_fsync, fd)); });
}
int fdatasync(int fd) {
  return sync_file(fd, [&] { return static_cast<int>(::syscall(SYS_fdatasync, fd)); });
}

int rename(const char* from, const char* to) noexcept {
  return change_names(Call::rename, AT_FDCWD, from, AT_FDCWD, to, [&] {
    return static_cast<int>(::syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to));
  });
}
int renameat(int from_folder, const char* from, int to_folder, const char* to) noexcept {
  return change_names(Call::rename, from_folder, from, to_folder, to, [&] {
    return static_cast<int>(::syscall(SYS_renameat, from_folder, from, to_folder, to));
  });
}
int link(const char* from, const char* to) noexcept {
  return change_names(Call::link, AT_FDCWD, from, AT_FDCWD, to, [&] {
    return static_cast<int>(::syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0));
  });
}
int unlink(const char* path) noexcept {
  return change_name(Call::remove, AT_FDCWD, path,
                     [&] { return static_cast<int>(::syscall(SYS_unlinkat, AT_FDCWD, path, 0)); });
}
int unlinkat(int folder, const char* path, int flags) noexcept {
  return change_name(Call::remove, folder, path, [&] {
    return static_cast<int>(::syscall(SYS_unlinkat, folder, path, flags));
  });
}
int rmdir(const char* path) noexcept {
  return change_name(Call::remove, AT_FDCWD, path, [&] {
    return static_cast<int>(::syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR));
  });
}
int remove(const char* path) noexcept {
  const int result = unlink(path);
  return result != 0 && errno == EISDIR ? rmdir(path) : result;
}
int mkdir(const char* path, mode_t mode) noexcept {
  return change_name(Call::make_dir, AT_FDCWD, path, [&] {
    return static_cast<int>(::syscall(SYS_mkdirat, AT_FDCWD, path, mode));
  });
}

// --- ways to write that are not followed ---

int truncate(const char* path, off_t size) noexcept {
  if (watched(AT_FDCWD, path)) refuse("truncate()", path);
  return static_cast<int>(::syscall(SYS_truncate, path, size));
}
int truncate64(const char* path, off64_t size) noexcept { return truncate(path, size); }

// RocksDB's own log is all that may be written so; nothing reads it.
FILE* fdopen(int fd, const char* mode) noexcept {
  if (mode[0] != 'r' && shim().trace >= 0) {
    const Lock lock;
    const OpenFile* file = find(fd);
    if (file != nullptr && file->path.find("/LOG") == std::string::npos) {
      refuse("fdopen()", file->path);
    }
    shim().files.erase(fd);  // fclose() will not say that it is closed
  }
  return next<FILE*(int, const char*)>("fdopen")(fd, mode);
}
FILE* fopen(const char* path, const char* mode) {
  if (mode[0] != 'r' && watched(AT_FDCWD, path)) refuse("fopen()", path);
  return next<FILE*(const char*, const char*)>("fopen")(path, mode);
}
FILE* fopen64(const char* path, const char* mode) { return fopen(path, mode); }

ssize_t sendfile(int to, int from, off_t* offset, size_t bytes) noexcept {
  if (shim().trace >= 0) {
    const Lock lock;
    if (const OpenFile* file = find(to)) refuse("sendfile()", file->path);
  }
  return ::syscall(SYS_sendfile, to, from, offset, bytes);
}
ssize_t copy_file_range(int from, off64_t* from_offset, int to, off64_t* to_offset, size_t bytes,
                        unsigned flags) {
  if (shim().trace >= 0) {
    const Lock lock;
    if (const OpenFile* file = find(to)) refuse("copy_file_range()", file->path);
  }
  return ::syscall(SYS_copy_file_range, from, from_offset, to, to_offset, bytes, flags);
}

void* mmap(void* address, size_t bytes, int protection, int flags, int fd, off_t offset) noexcept {
  if (fd >= 0 && (protection & PROT_WRITE) != 0 && (flags & MAP_SHARED) != 0 && shim().trace >= 0) {
    const Lock lock;
    if (const OpenFile* file = find(fd)) refuse("mmap()", file->path);
  }
  return reinterpret_cast<void*>(
      ::syscall(SYS_mmap, address, bytes, protection, flags, fd, offset));
}
void* mmap64(void* address, size_t bytes, int protection, int flags, int fd,
             off64_t offset) noexcept {
  return mmap(address, bytes, protection, flags, fd, offset);
}

}  // extern "C"
