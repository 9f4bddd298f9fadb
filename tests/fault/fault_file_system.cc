#include "tests/fault/fault_file_system.h"

#include <algorithm>
#include <chrono>

namespace spillway::journal {

using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

namespace {

FileKind kind_of(const std::string& path) {
  const std::string name = path.substr(path.rfind('/') + 1);
  if (name.starts_with("OPTIONS")) return kOptions;
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
    return status.ok() ? reached : status;
  }
  IOStatus Append(const Slice& data, const IOOptions& options, const rocksdb::DataVerificationInfo&,
                  IODebugContext* context) override {
    return Append(data, options, context);
  }
  IOStatus Sync(const IOOptions& options, IODebugContext* context) override {
    IOStatus status = system_.check(path_, kSync, nullptr);
    if (status.ok()) status = target()->Sync(options, context);
    return status;
  }
  IOStatus Fsync(const IOOptions& options, IODebugContext* context) override {
    return Sync(options, context);
  }
  IOStatus Close(const IOOptions& options, IODebugContext* context) override {
    const IOStatus status = system_.check(path_, kClose, nullptr);
    const IOStatus closed = target()->Close(options, context);  // as the kernel does, error or not
    return status.ok() ? closed : status;
  }

 private:
  std::string path_;
  FaultFileSystem& system_;
};

class FaultSequentialFile final : public rocksdb::FSSequentialFileOwnerWrapper {
 public:
  FaultSequentialFile(std::unique_ptr<rocksdb::FSSequentialFile> file, std::string path,
                      FaultFileSystem& system)
      : FSSequentialFileOwnerWrapper(std::move(file)), path_(std::move(path)), system_(system) {}
  IOStatus Read(std::size_t bytes, const IOOptions& options, Slice* result, char* scratch,
                IODebugContext* context) override {
    const IOStatus status = system_.check(path_, kRead, nullptr);
    return status.ok() ? target()->Read(bytes, options, result, scratch, context) : status;
  }

 private:
  std::string path_;
  FaultFileSystem& system_;
};

class FaultRandomAccessFile final : public rocksdb::FSRandomAccessFileOwnerWrapper {
 public:
  FaultRandomAccessFile(std::unique_ptr<rocksdb::FSRandomAccessFile> file, std::string path,
                        FaultFileSystem& system)
      : FSRandomAccessFileOwnerWrapper(std::move(file)), path_(std::move(path)), system_(system) {}
  IOStatus Read(std::uint64_t offset, std::size_t bytes, const IOOptions& options, Slice* result,
                char* scratch, IODebugContext* context) const override {
    const IOStatus status = system_.check(path_, kRead, nullptr);
    return status.ok() ? target()->Read(offset, bytes, options, result, scratch, context) : status;
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
}

IOStatus FaultFileSystem::check(const std::string& path, Operation operation,
                                std::size_t* torn_bytes) {
  const std::lock_guard lock(mutex_);
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
    if (fault.error == Errno::eio) return IOStatus::IOError("injected EIO", path);
    IOStatus status = IOStatus::NoSpace("injected ENOSPC", path);
    status.SetRetryable(true);  // as the real file system says it
    return status;
  }
  return IOStatus::OK();
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

IOStatus FaultFileSystem::NewSequentialFile(const std::string& path,
                                            const rocksdb::FileOptions& options,
                                            std::unique_ptr<rocksdb::FSSequentialFile>* file,
                                            IODebugContext* context) {
  IOStatus status = check(path, kOpen, nullptr);
  if (status.ok()) status = target()->NewSequentialFile(path, options, file, context);
  if (status.ok()) *file = std::make_unique<FaultSequentialFile>(std::move(*file), path, *this);
  return status;
}

IOStatus FaultFileSystem::NewRandomAccessFile(const std::string& path,
                                              const rocksdb::FileOptions& options,
                                              std::unique_ptr<rocksdb::FSRandomAccessFile>* file,
                                              IODebugContext* context) {
  IOStatus status = check(path, kOpen, nullptr);
  if (status.ok()) status = target()->NewRandomAccessFile(path, options, file, context);
  if (status.ok()) *file = std::make_unique<FaultRandomAccessFile>(std::move(*file), path, *this);
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
  return status;
}

IOStatus FaultFileSystem::DeleteFile(const std::string& path, const IOOptions& options,
                                     IODebugContext* context) {
  IOStatus status = check(path, kDelete, nullptr);
  return status.ok() ? target()->DeleteFile(path, options, context) : status;
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
