// A rocksdb::FileSystem that fails on request and remembers what was synced, so that a power cut
// can be played afterwards.
// Limitation: a file whose directory was not synced is not lost, only bytes are.
#pragma once

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <condition_variable>
#include <cstdint>
#include <map>
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
  kAny = 31
};
enum Operation : unsigned { kCreate = 1, kAppend = 2, kSync = 4, kSyncDir = 8, kRename = 16 };
enum class Errno { eio, enospc };

// Fails `count` operations after letting `skip` of them pass.
struct Fault {
  unsigned files = kAny;
  unsigned operations = kAppend;
  Errno error = Errno::eio;
  int skip = 0;
  int count = 1;
  std::size_t torn_bytes = 0;  // of a failed append, reach the file all the same
  bool power_cut = false;      // everything after it fails too
};

// What a power cut leaves of bytes that were not synced.
enum class Tail { gone, torn, hole };

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
  void heal();  // no faults, power on, free space as it is
  // After everything is closed: rewrites what was not synced.
  void lose_unsynced(Tail tail);

  rocksdb::IOStatus NewWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* file,
                                    rocksdb::IODebugContext* context) override;
  rocksdb::IOStatus ReopenWritableFile(const std::string& path,
                                       const rocksdb::FileOptions& options,
                                       std::unique_ptr<rocksdb::FSWritableFile>* file,
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
  friend class FaultDirectory;
  struct Written {
    std::uint64_t size = 0;
    std::uint64_t synced = 0;
  };
  rocksdb::IOStatus check(const std::string& path, Operation operation, std::size_t* torn_bytes);
  void appended(const std::string& path, std::uint64_t bytes);
  void synced(const std::string& path);

  void wait_for_tables();

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  int wal_files_to_come_ = 0;
  std::vector<Fault> faults_;
  std::map<std::string, Written> files_;
  std::optional<std::uint64_t> free_space_;
  int fired_ = 0;
  bool dead_ = false;
};

}  // namespace spillway::journal
