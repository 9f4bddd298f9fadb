#include "journal/replace.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

#include "journal/data_dir.h"
#include "journal/recover.h"
#include "journal/slots.h"

namespace spillway::journal {

namespace {

namespace fs = std::filesystem;

Error failure(const fs::path& path, const std::string& what) {
  return Error{path.string() + ": cannot " + what + ": " + std::strerror(errno)};
}

std::optional<Error> sync_folder(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return failure(path, "open it");
  const bool synced = ::fsync(fd) == 0;
  ::close(fd);
  if (!synced) return failure(path, "sync it");
  return std::nullopt;
}

class FolderReplacement final : public Replacement {
 public:
  FolderReplacement(const fs::path& data_dir, std::unique_ptr<DirLock> lock, const fs::path& kept)
      : layout_(data_dir),
        lock_(std::move(lock)),
        kept_(kept),
        staging_(kept.string() + ".unfinished") {}
  ~FolderReplacement() override {
    std::error_code ignored;
    if (!put_) fs::remove_all(staging_, ignored);
    if (!put_) fs::remove(staging_.parent_path(), ignored);  // if it is empty
  }

  const fs::path& staging() const override { return staging_; }
  std::optional<Error> make();
  std::optional<Error> put_store() override;
  std::optional<Error> put_mark(const std::string& stream, Offset end) override {
    return put_slots(layout_.mark(stream), Layout(staging_).mark(stream), kMarkSlotBytes,
                     encode_mark(end));
  }
  std::optional<Error> put_latch(const std::string& stream, const std::string& contents) override {
    return put_slots(layout_.latch(stream), Layout(staging_).latch(stream), kLatchSlotBytes,
                     contents);
  }
  std::optional<Error> take_slots(const std::string& stream) override {
    const Layout kept(staging_);
    if (auto error = take(layout_.mark(stream), kept.mark(stream))) return error;
    return take(layout_.latch(stream), kept.latch(stream));
  }
  Result<fs::path> finish() override;

 private:
  std::optional<Error> take(const fs::path& path, const fs::path& keep);
  std::optional<Error> put_slots(const fs::path& path, const fs::path& keep, std::size_t slot_bytes,
                                 const std::string& contents);

  Layout layout_;
  std::unique_ptr<DirLock> lock_;
  fs::path kept_;
  fs::path staging_;
  bool put_ = false;
};

std::optional<Error> FolderReplacement::make() {
  std::error_code error;
  fs::create_directories(staging_, error);
  if (error) return Error{staging_.string() + ": cannot make it: " + error.message()};
  return std::nullopt;
}

std::optional<Error> FolderReplacement::put_store() {
  const Layout fresh(staging_);
  // What the new store made for itself beside its folder.
  std::error_code ignored;
  fs::remove_all(fresh.mark("").parent_path(), ignored);
  fs::remove_all(fresh.latch("").parent_path(), ignored);
  fs::remove(fresh.lock(), ignored);
  fs::remove(fresh.ballast(), ignored);
  const bool format_damaged = !format_number(layout_);
  if (!format_damaged) fs::remove(fresh.format(), ignored);
  for (const fs::path& folder : {fresh.store(), staging_, staging_.parent_path(), layout_.root}) {
    if (auto error = sync_folder(folder)) return error;
  }
  // One step: there is never a moment without a store, which a start would take for a new one.
  const bool exists = fs::exists(layout_.store(), ignored);
  if (::renameat2(AT_FDCWD, fresh.store().c_str(), AT_FDCWD, layout_.store().c_str(),
                  exists ? RENAME_EXCHANGE : 0u) != 0) {
    if (errno != EINVAL) return failure(layout_.store(), "put the new store in its place");
    return Error{layout_.root.string() +
                 ": its file system cannot exchange two folders at once; copy data_dir to one that "
                 "can, such as ext4 or XFS, and repair it there"};
  }
  put_ = true;
  if (format_damaged) {
    // In between there is none, and a start makes one.
    const fs::path kept = staging_ / "format.damaged";
    if (::rename(layout_.format().c_str(), kept.c_str()) != 0) {
      return failure(layout_.format(), "move it to " + kept.string());
    }
    if (::rename(fresh.format().c_str(), layout_.format().c_str()) != 0) {
      return failure(layout_.format(), "put the new one in its place");
    }
  }
  if (auto error = sync_folder(layout_.root)) return error;
  return sync_folder(staging_);
}

std::optional<Error> FolderReplacement::put_slots(const fs::path& path, const fs::path& keep,
                                                  std::size_t slot_bytes,
                                                  const std::string& contents) {
  std::error_code error;
  fs::create_directories(keep.parent_path(), error);
  fs::create_directories(path.parent_path(), error);
  if (fs::exists(path, error)) {
    fs::copy_file(path, keep, fs::copy_options::overwrite_existing, error);
    if (error) return Error{keep.string() + ": cannot keep a copy there: " + error.message()};
  }
  put_ = true;
  const auto found = Slots::peek(path, slot_bytes);
  if (found && found->damaged) {
    // Its slots may be torn or short. Gone for a moment, it counts as never written.
    if (::unlink(path.c_str()) != 0) return failure(path, "remove it");
  }
  auto slots = Slots::open(path, slot_bytes);
  if (!slots) return slots.error();
  if (!slots->write(contents)) return failure(path, "write it");
  return std::nullopt;
}

std::optional<Error> FolderReplacement::take(const fs::path& path, const fs::path& keep) {
  std::error_code error;
  if (!fs::exists(path, error)) return std::nullopt;
  fs::create_directories(keep.parent_path(), error);
  put_ = true;
  if (::rename(path.c_str(), keep.c_str()) != 0)
    return failure(path, "move it to " + keep.string());
  if (auto failed = sync_folder(keep.parent_path())) return failed;
  return sync_folder(path.parent_path());
}

Result<fs::path> FolderReplacement::finish() {
  if (::rename(staging_.c_str(), kept_.c_str()) != 0) return failure(kept_, "give it this name");
  if (auto error = sync_folder(kept_.parent_path())) return *error;
  return {boost::system::in_place_value, kept_};
}

// Of its own: no earlier repair may be overwritten.
fs::path new_folder(const fs::path& repairs) {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y%m%dT%H%M%SZ", &parts);
  fs::path folder = repairs / text;
  std::error_code ignored;
  for (int i = 2;
       fs::exists(folder, ignored) || fs::exists(folder.string() + ".unfinished", ignored); ++i) {
    folder = repairs / (std::string(text) + "-" + std::to_string(i));
  }
  return folder;
}

}  // namespace

Result<std::unique_ptr<Replacement>> Replacement::begin(const fs::path& data_dir) {
  auto lock = DirLock::take(Layout(data_dir));
  if (!lock) return lock.error();
  auto replacement = std::make_unique<FolderReplacement>(data_dir, std::move(*lock),
                                                         new_folder(Layout(data_dir).repair()));
  if (auto error = replacement->make()) return *error;
  return std::unique_ptr<Replacement>(std::move(replacement));
}

}  // namespace spillway::journal
