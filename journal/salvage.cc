#include "journal/salvage.h"

#include <rocksdb/metadata.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <utility>

#include "base/utf8.h"
#include "journal/entries.h"
#include "journal/format.h"
#include "journal/recover.h"
#include "journal/slots.h"
#include "journal/start_check.h"
#include "journal/table_scan.h"
#include "journal/wal_contents.h"

namespace spillway::journal {

namespace {

namespace fs = std::filesystem;

std::string store_file(const fs::path& path) { return "journal/" + path.filename().string(); }

std::string range_text(std::string_view low, std::string_view high) {
  if (low.size() < sizeof(Key) || high.size() < sizeof(Key)) return "";
  return "; it held blocks that begin at offsets " + std::to_string(offset_of(low)) + " through " +
         std::to_string(offset_of(high));
}

class FileSalvage final : public Salvage {
 public:
  explicit FileSalvage(const fs::path& data_dir) : layout_(data_dir) {}

  std::optional<Error> open();
  const std::optional<std::string>& unknown_format() const override { return unknown_format_; }
  const std::vector<FileDamage>& damage() const override { return damage_; }
  const std::vector<FileDamage>& notes() const override { return notes_; }
  const std::vector<SalvagedStream>& streams() const override { return streams_; }
  std::uint64_t bytes() const override { return bytes_; }
  void for_each_block(const std::string& stream,
                      const std::function<bool(const BlockPtr&)>& visit) override;

 private:
  struct TableFile {
    fs::path path;
    Offset first = 0;  // of its first intact block
  };
  struct MetaValue {
    std::uint64_t write = 0;
    std::string value;
  };

  // A damaged CURRENT may name anything.
  void damaged(const std::string& file, const std::string& text) {
    damage_.push_back({printable(file), printable(text)});
  }
  void note(const std::string& file, const std::string& text) {
    notes_.push_back({printable(file), printable(text)});
  }

  void look_at_manifest();
  void open_store();
  void read_tables();
  void read_table(const fs::path& path);
  void read_wal();
  void take_meta_of_wal();
  void ask_the_start();
  void gather_streams();
  void add_meta(std::map<std::string, SalvagedStream>& streams);
  void add_dead_letters(std::map<std::string, SalvagedStream>& streams);
  void add_slots(std::map<std::string, SalvagedStream>& streams);

  Layout layout_;
  std::optional<std::string> unknown_format_;
  std::vector<FileDamage> damage_;
  std::vector<FileDamage> notes_;
  std::vector<SalvagedStream> streams_;
  std::uint64_t bytes_ = 0;

  std::optional<std::set<std::string>> live_;  // tables that the store lists, if it can be asked
  std::map<std::string, std::vector<TableFile>> tables_;  // by stream
  WalContents::Families families_;
  WalContents wal_;
  std::map<std::string, MetaValue> meta_;
  std::uint64_t newest_meta_ = 0;  // every write of meta up to here is in a table
  bool meta_damaged_ = false;      // but for those of a damaged one
  std::map<std::string, std::string> letters_;
  std::set<std::string> reported_;  // files whose damage shows while they are read
};

std::optional<Error> FileSalvage::open() {
  std::error_code ignored;
  if (!fs::exists(layout_.store(), ignored) && !fs::exists(layout_.mark(""), ignored)) {
    return Error{layout_.root.string() + " holds no journal; say the data_dir of a broker"};
  }
  const auto number = format_number(layout_);
  if (number && number->value_or(kFormatVersion) != kFormatVersion) {
    unknown_format_ = std::to_string(**number);
    return std::nullopt;
  }
  // The store names its format as well.
  if (!number) damaged("format", number.error().message + ", so that a start refuses it");
  look_at_manifest();
  open_store();
  read_tables();
  read_wal();
  take_meta_of_wal();
  const auto format = meta_.find(std::string(kFormatKey));
  if (format != meta_.end() && format->second.value != std::to_string(kFormatVersion)) {
    unknown_format_ = printable(format->second.value);
    return std::nullopt;
  }
  gather_streams();
  ask_the_start();
  return std::nullopt;
}

// What a start would not open for writing is damage, also where each file by itself looks as after
// a crash: or there would be a halt that no repair ends.
void FileSalvage::ask_the_start() {
  if (!damage_.empty()) return;
  Options options;
  options.data_dir = layout_.root;
  StoreContext context(options);
  const StartCheck found = check_before_start(context);
  if (found.error) damaged("journal", "cannot be opened by a start: " + found.error->message);
  if (found.damage) damaged("journal", "would only be read by a start: " + *found.damage);
}

void FileSalvage::look_at_manifest() {
  std::ifstream file(layout_.store() / "CURRENT", std::ios::binary);
  if (!file) {
    return damaged("journal/CURRENT",
                   "is missing or cannot be opened, so RocksDB takes the store "
                   "for an empty one");
  }
  const auto found = current_manifest(layout_);
  if (!found) return damaged("journal/CURRENT", "does not name a MANIFEST file");
  const fs::path& manifest = *found;
  std::error_code ignored;
  if (!fs::exists(manifest, ignored)) {
    return damaged(store_file(manifest), "is missing, and CURRENT names it");
  }
  const LogScan scan = scan_log(manifest, {});
  if (!scan.error.empty()) return damaged(store_file(manifest), scan.error);
  if (scan.damaged_at && (scan.intact_after_damage || scan.records == 0)) {
    damaged(store_file(manifest), "is damaged at byte " + std::to_string(*scan.damaged_at) +
                                      " of " + std::to_string(scan.bytes));
  } else if (scan.records == 0) {
    damaged(store_file(manifest), "is empty");
  }
}

// The store's own view: which tables it lists, and why it does not open.
void FileSalvage::open_store() {
  Options options;
  options.data_dir = layout_.root;
  StoreContext context(options);
  Store::Failure failure;
  std::unique_ptr<Store> store = Store::open(context, Store::Mode::read, failure);
  if (!store) {
    if (failure.status.IsNotSupported()) return;
    damaged("journal", "does not open: " + failure.text);
    store = Store::open(context, Store::Mode::salvage, failure);
  }
  if (!store) return;
  live_.emplace();
  std::vector<rocksdb::LiveFileMetaData> files;
  store->db().GetLiveFilesMetaData(&files);
  for (const rocksdb::LiveFileMetaData& file : files) {
    const std::string name = file.name.substr(file.name.find_last_of('/') + 1);
    live_->insert(name);
    std::error_code ignored;
    if (fs::exists(layout_.store() / name, ignored)) continue;
    const bool stream = file.column_family_name.starts_with(kStreamFamily);
    damaged("journal/" + name,
            "is missing" +
                (stream ? " from stream " + file.column_family_name.substr(kStreamFamily.size()) +
                              range_text(file.smallestkey, file.largestkey)
                        : " from " + file.column_family_name));
    if (file.column_family_name == "meta") meta_damaged_ = true;
  }
  for (const std::string& name : store->streams()) {
    tables_[name];
    families_[store->stream(name)->GetID()] = std::string(kStreamFamily) + name;
  }
}

void FileSalvage::read_tables() {
  std::vector<fs::path> paths;
  std::error_code error;
  for (fs::directory_iterator it(layout_.store(), error), end; !error && it != end;
       it.increment(error)) {
    if (!it->is_regular_file()) continue;
    if (it->path().extension() == ".sst") paths.push_back(it->path());
    if (it->path().extension() == ".log" || it->path().extension() == ".sst") {
      bytes_ += it->file_size(error);
    }
  }
  if (error) damaged("journal", "cannot be listed: " + error.message());
  std::ranges::sort(paths);
  for (const fs::path& path : paths) read_table(path);
  for (auto& [stream, files] : tables_) std::ranges::sort(files, {}, &TableFile::first);
}

void FileSalvage::read_table(const fs::path& path) {
  const std::string name = store_file(path);
  rocksdb::Status why;
  std::unique_ptr<Table> table = Table::open(path, why);
  if (!table) {
    if (live_ && !live_->contains(path.filename().string())) {
      return note(name, "cannot be read, and is not needed: " + why.ToString());
    }
    meta_damaged_ = true;  // it may have been one of those
    return damaged(name, "cannot be read at all: " + why.ToString());
  }
  families_[table->family_id()] = table->family();
  if (table->family().starts_with(kStreamFamily)) {
    const std::string stream = table->family().substr(kStreamFamily.size());
    TableBlocks blocks(std::move(table));
    const BlockPtr first = blocks.next();
    if (first) tables_[stream].push_back({path, first->first});
    if (!first) damaged(name, "holds no block that can be read: " + blocks.damage());
    return;
  }
  if (table->family() == "meta") {
    const std::uint64_t write = table->newest_write(why);
    why = table->for_each([&](std::string_view key, std::string_view value) {
      MetaValue& at = meta_[std::string(key)];
      if (at.write <= write) at = {write, std::string(value)};
    });
    if (why.ok()) newest_meta_ = std::max(newest_meta_, write);
    meta_damaged_ |= !why.ok();
  } else if (table->family() == "dead-letters") {
    why = table->for_each(
        [&](std::string_view key, std::string_view value) { letters_[std::string(key)] = value; });
  }
  if (!why.ok()) damaged(name, "is damaged: " + why.ToString());
}

void FileSalvage::read_wal() {
  wal_ = WalContents::read(layout_.store(), families_);
  const WalFile* before = nullptr;
  for (const WalFile& file : wal_.files()) {
    const std::string name = store_file(file.path);
    const LogScan& scan = file.scan;
    if (!scan.error.empty()) damaged(name, scan.error);
    if (scan.damaged_at) {
      const std::string where =
          " at byte " + std::to_string(*scan.damaged_at) + " of " + std::to_string(scan.bytes);
      if (scan.intact_after_damage) {
        damaged(name, "is damaged" + where + ", and intact behind it: a start would end there");
      } else {
        note(name, "ends unfinished" + where + ", as a crash may leave it");
      }
    }
    if (!file.first_write) continue;
    if (before != nullptr && *file.first_write > before->next_write) {
      note(name, "does not follow " + store_file(before->path) +
                     ": writes between them are not "
                     "in the WAL");
    }
    before = &file;
  }
  std::error_code ignored;
  if (wal_.files().empty() && fs::exists(layout_.store() / "CURRENT", ignored)) {
    damaged("journal", "has no WAL file, and there always is one");
  }
  if (wal_.unclaimed() > 0) {
    damaged("journal", std::to_string(wal_.unclaimed()) +
                           " blocks in the WAL are of a stream whose name is lost");
  }
}

void FileSalvage::take_meta_of_wal() {
  for (const auto& [key, value] : wal_.meta()) {
    const auto known = meta_.find(key);
    const std::uint64_t stored = known == meta_.end() ? 0 : known->second.write;
    if (value.write <= stored || (value.write <= newest_meta_ && !meta_damaged_)) continue;
    if (value.value) {
      meta_[key] = {value.write, *value.value};
    } else if (known != meta_.end()) {
      meta_.erase(known);
    }
  }
  for (const auto& [key, letter] : wal_.dead_letters()) {
    if (letter) {
      letters_[key] = *letter;
    } else {
      letters_.erase(key);
    }
  }
}

void FileSalvage::gather_streams() {
  std::map<std::string, SalvagedStream> streams;
  for (const auto& [name, files] : tables_) streams[name].in_store = true;
  for (const auto& [name, blocks] : wal_.blocks()) streams[name].in_store = true;
  add_meta(streams);
  add_dead_letters(streams);
  add_slots(streams);
  for (auto& [name, stream] : streams) {
    stream.name = name;
    streams_.push_back(std::move(stream));
  }
}

void FileSalvage::add_meta(std::map<std::string, SalvagedStream>& streams) {
  for (const auto& [key, at] : meta_) {
    const auto slash = key.find('/');
    if (slash == std::string::npos) continue;
    const std::string kind = key.substr(0, slash);
    std::string name = key.substr(slash + 1);
    if (kind == "ledger") name = name.substr(0, name.find('/'));
    if (!valid_stream_name(name)) continue;
    SalvagedStream& stream = streams[name];
    stream.in_store = true;
    if (kind == "state") stream.state = at.value;
    if (kind == "watermark" && at.value.size() == sizeof(Key)) {
      stream.watermark = offset_of(at.value);
    }
    if (kind != "ledger" || key.size() < ledger_prefix(name).size() + sizeof(Key)) continue;
    const std::uint64_t id = offset_of(std::string_view(key).substr(ledger_prefix(name).size()));
    if (auto entry = decode_ledger_entry(id, at.value)) {
      stream.ledger.push_back(std::move(*entry));
    } else {
      damaged("journal",
              "ledger entry " + std::to_string(id) + " of stream " + name + " is not intact");
    }
  }
}

void FileSalvage::add_dead_letters(std::map<std::string, SalvagedStream>& streams) {
  for (const auto& [key, value] : letters_) {
    const std::string name = key.substr(0, key.find('/'));
    if (!valid_stream_name(name)) continue;
    SalvagedStream& stream = streams[name];
    if (auto letter = decode_dead_letter(value)) {
      stream.dead_letter_bytes += letter->record->bytes();
      stream.dead_letters.push_back(std::move(*letter));
    } else {
      damaged("journal", "a dead letter of stream " + name + " is not intact");
    }
  }
}

void FileSalvage::add_slots(std::map<std::string, SalvagedStream>& streams) {
  for (const fs::path& folder : {layout_.mark("").parent_path(), layout_.latch("").parent_path()}) {
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
      if (it->path().extension() == ".new") continue;
      const std::string name = it->path().filename().string();
      if (valid_stream_name(name)) streams[name];
    }
  }
  for (auto& [name, stream] : streams) {
    const auto mark = Slots::peek(layout_.mark(name), kMarkSlotBytes);
    const auto latch = Slots::peek(layout_.latch(name), kLatchSlotBytes);
    stream.mark_damaged = mark && mark->damaged;
    if (mark && !mark->damaged) stream.high_water = decode_mark(mark->contents.value_or(""));
    stream.latch_damaged = latch && latch->damaged;
    stream.latch_missing = !latch && stream.in_store;
    if (latch) stream.latch = latch->contents;
  }
}

void FileSalvage::for_each_block(const std::string& stream,
                                 const std::function<bool(const BlockPtr&)>& visit) {
  struct Source {
    std::string file;
    std::unique_ptr<TableBlocks> table;
    std::map<Offset, BlockPtr>::const_iterator at{};  // of the WAL
    std::map<Offset, BlockPtr>::const_iterator end{};
    BlockPtr head;
    void advance() {
      if (table) {
        head = table->next();
      } else {
        head = at == end ? nullptr : (at++)->second;
      }
    }
  };
  std::vector<Source> sources;  // whose next block may be the next of all
  if (const auto blocks = wal_.blocks().find(stream); blocks != wal_.blocks().end()) {
    Source source;
    source.at = blocks->second.begin();
    source.end = blocks->second.end();
    source.advance();
    sources.push_back(std::move(source));
  }
  const auto known = tables_.find(stream);
  const std::vector<TableFile> files =
      known == tables_.end() ? std::vector<TableFile>() : known->second;
  std::size_t opened = 0;
  const auto before = [](const Source& a, const Source& b) {
    return std::pair(a.head->first, ~a.head->last()) < std::pair(b.head->first, ~b.head->last());
  };
  Offset end = 0;
  for (;;) {
    auto next = std::ranges::min_element(sources, before);
    if (opened < files.size() &&
        (next == sources.end() || files[opened].first <= next->head->first)) {
      const fs::path& path = files[opened++].path;
      rocksdb::Status why;
      Source source;
      source.file = store_file(path);
      if (auto table = Table::open(path, why)) {
        source.table = std::make_unique<TableBlocks>(std::move(table));
        source.advance();
        if (source.head) sources.push_back(std::move(source));
      }
      continue;
    }
    if (next == sources.end()) return;
    if (next->head->first > end) {
      end = next->head->last();
      if (!visit(next->head)) return;
    }
    next->advance();
    if (next->head) continue;
    if (next->table && (!next->table->damage().empty() || next->table->damaged_values() > 0) &&
        reported_.insert(next->file).second) {
      damaged(next->file,
              next->table->damage().empty()
                  ? std::to_string(next->table->damaged_values()) + " blocks in it are damaged"
                  : "is damaged: " + next->table->damage());
    }
    sources.erase(next);
  }
}

}  // namespace

Result<std::unique_ptr<Salvage>> Salvage::open(const std::filesystem::path& data_dir) {
  auto salvage = std::make_unique<FileSalvage>(data_dir);
  if (auto error = salvage->open()) return *error;
  return std::unique_ptr<Salvage>(std::move(salvage));
}

}  // namespace spillway::journal
