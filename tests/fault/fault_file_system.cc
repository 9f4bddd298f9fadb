#include "tests/fault/fault_file_system.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

namespace spillway::journal {

using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

namespace {

constexpr std::uint64_t kPage = 4096;

FileKind kind_of(const std::string& path) {
  const std::string name = path.substr(path.rfind('/') + 1);
  if (name.ends_with(".log")) return kWal;
  if (name.ends_with(".sst")) return kTable;
  if (name.starts_with("MANIFEST")) return kManifest;
  if (name.starts_with("CURRENT") || name.ends_with(".dbtmp")) return kCurrent;
  return kOther;
}

}  // namespace

class FaultFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  FaultFile(std::unique_ptr<rocksdb::FSWritableFile> file, std::string path,
            FaultFileSystem& system)
      : FSWritableFileOwnerWrapper(std::move(file)), path_(std::move(path)), system_(system) {}

  IOStatus Append(const Slice& data, const IOOptions& options, IODebugContext* context) override {
    std::size_t torn_bytes = 0;
    IOStatus status = system_.check(path_, kAppend, &torn_bytes);
    const Slice written(data.data(), status.ok() ? data.size() : std::min(torn_bytes, data.size()));
    if (written.empty()) return status;
    IOStatus reached = target()->Append(written, options, context);
    if (reached.ok()) system_.appended(path_, written.size());
    return status.ok() ? reached : status;
  }
  IOStatus Append(const Slice& data, const IOOptions& options,
                  const rocksdb::DataVerificationInfo&, IODebugContext* context) override {
    return Append(data, options, context);
  }
  IOStatus Sync(const IOOptions& options, IODebugContext* context) override {
    IOStatus status = system_.check(path_, kSync, nullptr);
    if (status.ok()) status = target()->Sync(options, context);
    if (status.ok()) system_.synced(path_);
    return status;
  }
  IOStatus Fsync(const IOOptions& options, IODebugContext* context) override {
    return Sync(options, context);
  }

 private:
  std::string path_;
  FaultFileSystem& system_;
};

class FaultDirectory final : public rocksdb::FSDirectoryWrapper {
 public:
  FaultDirectory(std::unique_ptr<rocksdb::FSDirectory> directory, std::string path,
                 FaultFileSystem& system)
      : FSDirectoryWrapper(std::move(directory)), path_(std::move(path)), system_(system) {}
  IOStatus FsyncWithDirOptions(const IOOptions& options, IODebugContext* context,
                               const rocksdb::DirFsyncOptions& how) override {
    IOStatus status = system_.check(path_, kSyncDir, nullptr);
    return status.ok() ? FSDirectoryWrapper::FsyncWithDirOptions(options, context, how) : status;
  }

 private:
  std::string path_;
  FaultFileSystem& system_;
};

FaultFileSystem::FaultFileSystem() : FileSystemWrapper(rocksdb::FileSystem::Default()) {}

void FaultFileSystem::inject(Fault fault) {
  const std::lock_guard lock(mutex_);
  faults_.push_back(fault);
}

int FaultFileSystem::fired() const {
  const std::lock_guard lock(mutex_);
  return fired_;
}

void FaultFileSystem::set_free_space(std::optional<std::uint64_t> bytes) {
  const std::lock_guard lock(mutex_);
  free_space_ = bytes;
}

void FaultFileSystem::hold_tables_until(int wal_files) {
  const std::lock_guard lock(mutex_);
  wal_files_to_come_ = wal_files;
}

void FaultFileSystem::wait_for_tables() {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::seconds(10), [this] { return wal_files_to_come_ <= 0; });
}

void FaultFileSystem::heal() {
  const std::lock_guard lock(mutex_);
  faults_.clear();
  free_space_.reset();
  dead_ = false;
}

void FaultFileSystem::lose_unsynced(Tail tail) {
  const std::lock_guard lock(mutex_);
  for (auto& [path, written] : files_) {
    if (written.size <= written.synced) continue;
    const int fd = ::open(path.c_str(), O_RDWR);
    if (fd < 0) continue;
    const std::uint64_t unsynced = written.size - written.synced;
    const auto middle = static_cast<off_t>(written.synced + unsynced / 2);
    // Pages reach the disk whole or not at all; those not written read as zeros.
    const std::uint64_t page = (written.synced + unsynced / 2) / kPage * kPage;
    const std::uint64_t hole = std::max(written.synced, page);
    const std::string zeros(std::min(written.size, page + kPage) - hole, '\0');
    bool done = false;
    switch (tail) {
      case Tail::gone: done = ::ftruncate(fd, static_cast<off_t>(written.synced)) == 0; break;
      case Tail::torn: done = ::ftruncate(fd, middle) == 0; break;
      case Tail::hole:
        done = ::pwrite(fd, zeros.data(), zeros.size(), static_cast<off_t>(hole)) >= 0;
        break;
    }
    if (!done) ++fired_;
    ::close(fd);
  }
}

IOStatus FaultFileSystem::check(const std::string& path, Operation operation,
                                std::size_t* torn_bytes) {
  const std::lock_guard lock(mutex_);
  if (dead_) return IOStatus::IOError("the power is off");
  for (Fault& fault : faults_) {
    if ((fault.files & kind_of(path)) == 0 || (fault.operations & operation) == 0) continue;
    if (fault.count == 0) continue;
    if (fault.skip > 0) {
      --fault.skip;
      continue;
    }
    --fault.count;
    ++fired_;
    if (torn_bytes != nullptr) *torn_bytes = fault.torn_bytes;
    dead_ = fault.power_cut;
    if (fault.error == Errno::eio) return IOStatus::IOError("injected EIO", path);
    IOStatus status = IOStatus::NoSpace("injected ENOSPC", path);
    status.SetRetryable(true);  // as the real file system says it
    return status;
  }
  return IOStatus::OK();
}

void FaultFileSystem::appended(const std::string& path, std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  files_[path].size += bytes;
}

void FaultFileSystem::synced(const std::string& path) {
  const std::lock_guard lock(mutex_);
  files_[path].synced = files_[path].size;
}

IOStatus FaultFileSystem::NewWritableFile(const std::string& path,
                                          const rocksdb::FileOptions& options,
                                          std::unique_ptr<rocksdb::FSWritableFile>* file,
                                          IODebugContext* context) {
  IOStatus status = check(path, kCreate, nullptr);
  if (kind_of(path) == kTable) wait_for_tables();
  if (status.ok()) status = target()->NewWritableFile(path, options, file, context);
  if (!status.ok()) return status;
  {
    const std::lock_guard lock(mutex_);
    files_[path] = {};
    wal_files_to_come_ -= kind_of(path) == kWal ? 1 : 0;
  }
  changed_.notify_all();
  *file = std::make_unique<FaultFile>(std::move(*file), path, *this);
  return status;
}

IOStatus FaultFileSystem::ReopenWritableFile(const std::string& path,
                                             const rocksdb::FileOptions& options,
                                             std::unique_ptr<rocksdb::FSWritableFile>* file,
                                             IODebugContext* context) {
  IOStatus status = check(path, kCreate, nullptr);
  if (status.ok()) status = target()->ReopenWritableFile(path, options, file, context);
  if (status.ok()) *file = std::make_unique<FaultFile>(std::move(*file), path, *this);
  return status;
}

IOStatus FaultFileSystem::NewDirectory(const std::string& path, const IOOptions& options,
                                       std::unique_ptr<rocksdb::FSDirectory>* directory,
                                       IODebugContext* context) {
  IOStatus status = target()->NewDirectory(path, options, directory, context);
  if (status.ok()) {
    *directory = std::make_unique<FaultDirectory>(std::move(*directory), path, *this);
  }
  return status;
}

IOStatus FaultFileSystem::RenameFile(const std::string& from, const std::string& to,
                                     const IOOptions& options, IODebugContext* context) {
  IOStatus status = check(to, kRename, nullptr);
  if (status.ok()) status = target()->RenameFile(from, to, options, context);
  if (!status.ok()) return status;
  const std::lock_guard lock(mutex_);
  if (const auto it = files_.find(from); it != files_.end()) {
    files_[to] = it->second;
    files_.erase(it);
  }
  return status;
}

IOStatus FaultFileSystem::DeleteFile(const std::string& path, const IOOptions& options,
                                     IODebugContext* context) {
  IOStatus status = target()->DeleteFile(path, options, context);
  const std::lock_guard lock(mutex_);
  files_.erase(path);
  return status;
}

IOStatus FaultFileSystem::GetFreeSpace(const std::string& path, const IOOptions& options,
                                       std::uint64_t* bytes, IODebugContext* context) {
  {
    const std::lock_guard lock(mutex_);
    if (free_space_) {
      *bytes = *free_space_;
      return IOStatus::OK();
    }
  }
  return target()->GetFreeSpace(path, options, bytes, context);
}

}  // namespace spillway::journal
