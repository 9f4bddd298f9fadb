#include "journal/wal_contents.h"

#include <algorithm>
#include <charconv>

#include "journal/format.h"

namespace spillway::journal {

namespace {

constexpr std::string_view kStatePrefix = "state/";

// What open() gives them in a new store, before any stream.
constexpr std::uint32_t kMeta = 1;
constexpr std::uint32_t kDeadLetters = 2;

}  // namespace

// Takes the entries of one batch.
class WalContents::Handler final : public rocksdb::WriteBatch::Handler {
 public:
  Handler(WalContents& wal, std::uint64_t write) : wal_(wal), write_(write) {}

  rocksdb::Status PutCF(std::uint32_t family, const rocksdb::Slice& key,
                        const rocksdb::Slice& value) override {
    const std::uint64_t write = write_++;
    if (family == kMeta) {
      // A commit puts its state right behind its blocks: that names their column family.
      const std::string_view text = key.ToStringView();
      if (blocks_of_ && text.starts_with(kStatePrefix)) {
        wal_.families_.try_emplace(*blocks_of_, std::string(kStreamFamily) +
                                                    std::string(text.substr(kStatePrefix.size())));
      }
      blocks_of_.reset();
      set(key, write, value.ToString());
    } else if (family == kDeadLetters) {
      wal_.dead_letters_[key.ToString()] = value.ToString();
    } else if (key.size() == sizeof(Key)) {
      blocks_of_ = family;
      const Offset offset = offset_of(key.ToStringView());
      if (BlockPtr block = decode_block(offset, value.ToStringView())) {
        wal_.by_number_[family][offset] = std::move(block);
      } else {
        ++wal_.damaged_values_;
      }
    }
    return rocksdb::Status::OK();
  }
  rocksdb::Status DeleteCF(std::uint32_t family, const rocksdb::Slice& key) override {
    const std::uint64_t write = write_++;
    if (family == kMeta) set(key, write, std::nullopt);
    if (family == kDeadLetters) wal_.dead_letters_[key.ToString()] = std::nullopt;
    return rocksdb::Status::OK();
  }
  void LogData(const rocksdb::Slice&) override {}
  rocksdb::Status MarkNoop(bool) override { return rocksdb::Status::OK(); }

 private:
  void set(const rocksdb::Slice& key, std::uint64_t write, std::optional<std::string> value) {
    Value& at = wal_.meta_[key.ToString()];
    if (at.write <= write) at = {write, std::move(value)};
  }

  WalContents& wal_;
  std::uint64_t write_;
  std::optional<std::uint32_t> blocks_of_;
};

WalContents WalContents::read(const std::filesystem::path& store, Families families) {
  WalContents wal;
  wal.families_ = std::move(families);
  std::error_code error;
  for (std::filesystem::directory_iterator it(store, error), end; !error && it != end;
       it.increment(error)) {
    const auto number = file_number(it->path());
    if (!number || it->path().extension() != ".log") continue;
    WalFile file;
    file.path = it->path();
    file.number = *number;
    wal.files_.push_back(std::move(file));
  }
  std::ranges::sort(wal.files_, {}, &WalFile::number);
  for (WalFile& file : wal.files_) {
    file.scan =
        scan_log(file.path, [&](const std::string& record, bool) { wal.add(record, file); });
  }
  wal.name_families();
  return wal;
}

void WalContents::add(const std::string& record, WalFile& file) {
  const auto writes = writes_of(record);
  if (!writes) return;
  const auto [first, count] = *writes;
  if (!file.first_write) file.first_write = first;
  file.next_write = first + count;
  const rocksdb::WriteBatch batch(record);
  Handler handler(*this, first);
  if (!batch.Iterate(&handler).ok()) ++damaged_values_;
}

void WalContents::name_families() {
  for (auto& [number, blocks] : by_number_) {
    const auto known = families_.find(number);
    if (known == families_.end() || !known->second.starts_with(kStreamFamily)) {
      unclaimed_ += blocks.size();
      continue;
    }
    blocks_[known->second.substr(kStreamFamily.size())] = std::move(blocks);
  }
  by_number_.clear();
}

std::optional<std::uint64_t> file_number(const std::filesystem::path& path) {
  const std::string name = path.stem().string();
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc() || end != name.data() + name.size()) return std::nullopt;
  return number;
}

}  // namespace spillway::journal
