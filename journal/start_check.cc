#include "journal/start_check.h"

#include <rocksdb/metadata.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "journal/block_reader.h"
#include "journal/format.h"
#include "journal/log_scan.h"
#include "journal/manifest.h"
#include "journal/table_scan.h"
#include "journal/wal_contents.h"

namespace spillway::journal {

namespace {

namespace fs = std::filesystem;

const std::string kManifestPrefix = "MANIFEST-";

std::vector<fs::path> files_of(const Layout& layout, const std::string& extension) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator it(layout.store(), error), end; !error && it != end;
       it.increment(error)) {
    if (it->path().extension() == extension) found.push_back(it->path());
  }
  return found;
}

// Numbers of writes, from the first to before the second.
using Writes = std::pair<std::uint64_t, std::uint64_t>;

struct WalScan {
  fs::path path;
  LogScan scan;
  Writes writes{0, 0};
};

std::string damage_text(const fs::path& path, const LogScan& scan) {
  return path.string() + " is damaged at byte " + std::to_string(*scan.damaged_at) + " of " +
         std::to_string(scan.bytes);
}

std::vector<WalScan> scan_wal(const Layout& layout) {
  std::vector<fs::path> paths = files_of(layout, ".log");
  std::ranges::sort(paths, {}, file_number);
  std::vector<WalScan> files;
  for (fs::path& path : paths) {
    WalScan& file = files.emplace_back();
    file.path = std::move(path);
    file.scan = scan_log(file.path, [&](const std::string& record, bool) {
      const auto found = writes_of(record);
      if (!found) return;
      if (file.writes.second == 0) file.writes.first = found->first;
      file.writes.second = found->first + found->second;
    });
  }
  return files;
}

// Behind a file that has no proper end RocksDB goes on only with the write that follows its last
// one: as the first of the file that a recovery began. Anything else it would delete.
std::optional<std::string> cut_short(const std::vector<WalScan>& wal, std::uint64_t first_needed) {
  const WalScan* torn = nullptr;
  std::uint64_t next = 0;
  for (const WalScan& file : wal) {
    if (file_number(file.path).value_or(0) < first_needed) continue;
    if (file.writes.second != 0) {
      if (torn != nullptr && file.writes.first != next) {
        return damage_text(torn->path, torn->scan) + ", and " + file.path.filename().string() +
               " behind it is not";
      }
      torn = nullptr;
      next = file.writes.second;
    }
    if (file.scan.damaged_at) torn = &file;
  }
  return std::nullopt;
}

// Nothing for a table that is not intact, which nobody misses, or that the device does not read.
std::unique_ptr<Table> open_table(const fs::path& path, rocksdb::Env* env,
                                  rocksdb::Status& device) {
  rocksdb::Status status;
  auto table = Table::open(path, status, env);
  if (!status.ok() && !status.IsCorruption()) device = status;
  return table;
}

// Tables that the MANIFEST does not list. A crash leaves some: flushed or compacted, and not yet
// listed. Then what they hold is in the WAL or in tables that are listed.
class Orphans {
 public:
  Orphans(Store& store, const std::vector<WalScan>& wal, rocksdb::Env* env)
      : store_(store), wal_(wal), env_(env) {
    std::vector<rocksdb::LiveFileMetaData> files;
    store_.db().GetLiveFilesMetaData(&files);
    for (const rocksdb::LiveFileMetaData& file : files) {
      listed_.insert(file.name.substr(file.name.find_last_of('/') + 1));
      Newest& newest = newest_[file.column_family_name];
      newest.write = std::max(newest.write, file.largest_seqno);
      newest.file = std::max(newest.file, file_number(file.name).value_or(0));
    }
  }

  // Whether `path` is intact and holds what nothing else does. Where the device failed, `device`
  // says so, and the answer is worth nothing.
  bool is_needed(const fs::path& path, rocksdb::Status& device) {
    if (listed_.contains(path.filename().string())) return false;
    auto table = open_table(path, env_, device);
    if (!table) return false;
    const std::string family = table->family();
    if (family.starts_with(kStreamFamily)) {
      return has_own_blocks(std::move(table), family.substr(kStreamFamily.size()), device);
    }
    // Files are numbered as they are begun. What a compaction read has a lower number than what it
    // wrote, and numbers of writes do not tell the two apart: those that all see become 0.
    const Newest& newest = newest_[family];
    if (file_number(path).value_or(0) < newest.file) return false;
    const std::uint64_t write = table->newest_write(device);
    const bool in_wal = std::ranges::any_of(wal_, [write](const WalScan& file) {
      return file.writes.first <= write && write < file.writes.second;
    });
    return !in_wal && write > newest.write;
  }

 private:
  struct Newest {  // of the tables that are listed
    std::uint64_t write = 0;
    std::uint64_t file = 0;
  };
  bool has_own_blocks(std::unique_ptr<Table> table, const std::string& stream,
                      rocksdb::Status& device) {
    const auto failed = [&](const rocksdb::Status& status) {
      if (status.IsNotFound() || !read_failed(store_.db(), status)) return false;
      device = status;
      return true;
    };
    rocksdb::Status status;
    const auto stored = store_.get_meta(watermark_key(stream), status);
    if (failed(status)) return false;
    const Offset watermark = stored && stored->size() == sizeof(Key) ? offset_of(*stored) : 0;
    rocksdb::ColumnFamilyHandle* const family = store_.stream(stream);
    rocksdb::ReadOptions options;
    options.fill_cache = false;
    TableBlocks blocks(std::move(table));
    while (const BlockPtr block = blocks.next()) {
      if (block->last() <= watermark) continue;
      const Key key = key_of(block->first);
      rocksdb::PinnableSlice value;
      if (family == nullptr) return true;
      status = store_.db().Get(options, family, {key.data(), key.size()}, &value);
      if (failed(status)) return false;
      if (!status.ok()) return true;
    }
    failed(blocks.device());
    return false;
  }

  Store& store_;
  const std::vector<WalScan>& wal_;
  rocksdb::Env* env_;
  std::set<std::string> listed_;
  std::map<std::string, Newest> newest_;  // by column family
};

// A MANIFEST that ends in the middle of a record was cut off by a crash, or the record was whole;
// one that ends behind a record may have had more.
StartCheck check_tables(StoreContext& context, const std::vector<WalScan>& wal,
                        const fs::path& manifest, const LogScan& scan) {
  Store::Failure failure;
  const auto store = Store::open(context, Store::Mode::read, failure);
  // Opening it for writing may succeed all the same, a moment later.
  if (!store && !failure.damaged) return {Error{failure.text}, std::nullopt};
  // A store that is being made has no tables before it can be read. Of a MANIFEST without damage,
  // opening it for writing says why it cannot be read, and deletes nothing either.
  if (!store && !scan.damaged_at) return {};
  std::optional<Orphans> orphans;
  if (store) orphans.emplace(*store, wal, context.env);
  for (const fs::path& path : files_of(context.layout, ".sst")) {
    rocksdb::Status device;
    const bool needed = orphans ? orphans->is_needed(path, device)
                                : open_table(path, context.env, device) != nullptr;
    if (!device.ok()) return {Error{path.string() + ": " + device.ToString()}, std::nullopt};
    if (!needed) continue;
    return {std::nullopt,
            (scan.damaged_at ? damage_text(manifest, scan) + ", so it" : manifest.string()) +
                " does not list " + path.filename().string() +
                ", which holds what nothing else does"};
  }
  return {};
}

}  // namespace

std::optional<fs::path> current_manifest(const Layout& layout) {
  std::ifstream file(layout.store() / "CURRENT", std::ios::binary);
  const std::string current{std::istreambuf_iterator<char>(file), {}};
  if (!current.ends_with('\n') || !current.starts_with(kManifestPrefix)) return std::nullopt;
  return layout.store() / current.substr(0, current.size() - 1);
}

StartCheck check_before_start(StoreContext& context) {
  const auto failed = [](const fs::path& path, const LogScan& scan) {
    return StartCheck{Error{path.string() + ": " + scan.error}, std::nullopt};
  };
  const std::vector<WalScan> wal = scan_wal(context.layout);
  for (const WalScan& file : wal) {
    if (!file.scan.error.empty()) return failed(file.path, file.scan);
    if (file.scan.intact_after_damage) {
      return {std::nullopt, damage_text(file.path, file.scan) + ", and intact behind it"};
    }
  }
  const auto path = current_manifest(context.layout);
  std::error_code ignored;
  // What does not lead to a MANIFEST does not open.
  if (!path || !fs::exists(*path, ignored)) return {};
  Manifest manifest;
  const LogScan scan =
      scan_log(*path, [&](const std::string& record, bool) { manifest.take(record); });
  if (!scan.error.empty()) return failed(*path, scan);
  if (scan.damaged_at && (scan.intact_after_damage || scan.records == 0)) {
    return {std::nullopt, damage_text(*path, scan)};
  }
  if (auto cut = cut_short(wal, manifest.first_wal())) return {std::nullopt, std::move(cut)};
  const auto is_named = [&manifest](const fs::path& table) {
    const auto number = file_number(table);
    return number && manifest.tables().contains(*number);
  };
  if (!scan.damaged_at && manifest.known() &&
      std::ranges::all_of(files_of(context.layout, ".sst"), is_named)) {
    return {};
  }
  return check_tables(context, wal, *path, scan);
}

}  // namespace spillway::journal
