#include "journal/held_wal.h"

#include <rocksdb/file_system.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace spillway::journal {

namespace {

using rocksdb::FSSequentialFile;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;

class HeldWal final : public rocksdb::FileSystemWrapper {
 public:
  HeldWal(const std::shared_ptr<FileSystem>& base, const std::filesystem::path& store)
      : FileSystemWrapper(base), store_(store.string()) {
    hold();
  }
  const char* Name() const override { return "HeldWal"; }

  IOStatus GetChildren(const std::string& directory, const IOOptions& options,
                       std::vector<std::string>* names, IODebugContext* debug) override {
    IOStatus status = target()->GetChildren(directory, options, names, debug);
    if (!status.ok() || directory != store_) return status;
    std::erase_if(*names, [this](const std::string& name) { return files_.contains(name); });
    for (const auto& [name, file] : files_) names->push_back(name);
    return status;
  }
  IOStatus NewSequentialFile(const std::string& path, const rocksdb::FileOptions& options,
                             std::unique_ptr<FSSequentialFile>* file,
                             IODebugContext* debug) override {
    const auto held = files_.find(std::filesystem::path(path).filename().string());
    if (held == files_.end() || held->second == nullptr) {
      return target()->NewSequentialFile(path, options, file, debug);
    }
    *file = std::move(held->second);
    return IOStatus::OK();
  }

 private:
  // What goes between the list and its opening was not needed, or is in the MANIFEST by then.
  void hold() {
    std::vector<std::string> names;
    if (!target()->GetChildren(store_, {}, &names, nullptr).ok()) return;
    for (const std::string& name : names) {
      if (!name.ends_with(".log")) continue;
      std::unique_ptr<FSSequentialFile> file;
      const std::string path = store_ + "/" + name;
      if (target()->NewSequentialFile(path, {}, &file, nullptr).ok())
        files_[name] = std::move(file);
    }
  }

  std::string store_;
  std::map<std::string, std::unique_ptr<FSSequentialFile>> files_;
};

}  // namespace

std::unique_ptr<rocksdb::Env> held_wal_env(rocksdb::Env* base, const std::filesystem::path& store) {
  return rocksdb::NewCompositeEnv(std::make_shared<HeldWal>(base->GetFileSystem(), store));
}

}  // namespace spillway::journal
