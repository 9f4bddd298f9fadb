// A rocksdb::FileSystem that fails on request. Power cuts are tests/power's.
#pragma once

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace spillway::journal {

enum FileKind : unsigned {
  kWal = 1,
  kTable = 2,
  kManifest = 4,
  kCurrent = 8,
  kOther = 16,
  kOptions = 32,
  kAny = 63
};
enum Operation : unsigned {
  kCreate = 1,
  kAppend = 2,
  kSync = 4,
  kSyncDir = 8,
  kRename = 16,
  kDelete = 32,
  kClose = 64,
  kOpen = 128,  // to read
  kRead = 256
};
enum class Errno { eio, enospc };

// Fails `count` operations after letting `skip` of them pass.
struct Fault {
  unsigned files = kAny;
  unsigned operations = kAppend;
  Errno error = Errno::eio;
  int skip = 0;
  int count = 1;
  std::size_t torn_bytes = 0;  // of a failed append, reach the file all the same
};

class FaultFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  FaultFileSystem();
  static const char* kClassName() { return "FaultFileSystem"; }
  const char* Name() const override { return kClassName(); }

  void inject(Fault fault);
  int fired() const;
  void set_free_space(std::optional<std::uint64_t> bytes);
  // Tables cannot be written until so many more WAL files were begun, or ten seconds have passed.
  void hold_tables_until(int wal_files);
  void heal();  // no faults, free space as it is

  rocksdb::IOStatus NewWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* file,
                                    rocksdb::IODebugContext* context) override;
  rocksdb::IOStatus ReopenWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                                       std::unique_ptr<rocksdb::FSWritableFile>* file,
                                       rocksdb::IODebugContext* context) override;
  rocksdb::IOStatus NewSequentialFile(const std::string& path, const rocksdb::FileOptions& options,
                                      std::unique_ptr<rocksdb::FSSequentialFile>* file,
                                      rocksdb::IODebugContext* context) override;
  rocksdb::IOStatus NewRandomAccessFile(const std::string& path,
                                        const rocksdb::FileOptions& options,
                                        std::unique_ptr<rocksdb::FSRandomAccessFile>* file,
                                        rocksdb::IODebugContext* context) override;
  rocksdb::IOStatus NewDirectory(const std::string& path, const rocksdb::IOOptions& options,
                                 std::unique_ptr<rocksdb::FSDirectory>* directory,
                                 rocksdb::IODebugContext* context) override;
  rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* context) override;
  rocksdb::IOStatus DeleteFile(const std::string& path, const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* context) override;
  rocksdb::IOStatus GetFreeSpace(const std::string& path, const rocksdb::IOOptions& options,
                                 std::uint64_t* bytes, rocksdb::IODebugContext* context) override;

 private:
  friend class FaultFile;
  friend class FaultSequentialFile;
  friend class FaultRandomAccessFile;
  friend class FaultDirectory;
  rocksdb::IOStatus check(const std::string& path, Operation operation, std::size_t* torn_bytes);
  void wait_for_tables();

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  int wal_files_to_come_ = 0;
  std::vector<Fault> faults_;
  std::optional<std::uint64_t> free_space_;
  int fired_ = 0;
};

}  // namespace spillway::journal
