#include "journal/clean_wal.h"

#include <rocksdb/file_system.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "journal/log_scan.h"

namespace spillway::journal {

namespace {

using rocksdb::FSSequentialFile;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;

class MemoryFile final : public FSSequentialFile {
 public:
  explicit MemoryFile(std::string bytes) : bytes_(std::move(bytes)) {}

  IOStatus Read(std::size_t n, const IOOptions&, rocksdb::Slice* result, char* scratch,
                IODebugContext*) override {
    n = std::min(n, bytes_.size() - at_);
    std::memcpy(scratch, bytes_.data() + at_, n);
    *result = rocksdb::Slice(scratch, n);
    at_ += n;
    return IOStatus::OK();
  }
  IOStatus Skip(std::uint64_t n) override {
    at_ += std::min<std::uint64_t>(n, bytes_.size() - at_);
    return IOStatus::OK();
  }

 private:
  std::string bytes_;
  std::size_t at_ = 0;
};

class CleanWal final : public rocksdb::FileSystemWrapper {
 public:
  using FileSystemWrapper::FileSystemWrapper;
  const char* Name() const override { return "CleanWal"; }

  IOStatus NewSequentialFile(const std::string& path, const rocksdb::FileOptions& options,
                             std::unique_ptr<FSSequentialFile>* file,
                             IODebugContext* debug) override {
    if (!path.ends_with(".log")) return target()->NewSequentialFile(path, options, file, debug);
    std::string bytes;
    const LogScan scan =
        scan_log(path, [&bytes](const std::string& record, bool) { append_log(bytes, record); });
    if (!scan.error.empty()) return IOStatus::IOError(path + ": " + scan.error);
    *file = std::make_unique<MemoryFile>(std::move(bytes));
    return IOStatus::OK();
  }
};

}  // namespace

std::unique_ptr<rocksdb::Env> clean_wal_env(rocksdb::Env* base) {
  return rocksdb::NewCompositeEnv(std::make_shared<CleanWal>(base->GetFileSystem()));
}

}  // namespace spillway::journal
