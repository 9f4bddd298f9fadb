#include "journal/table_scan.h"

#include <rocksdb/options.h>
#include <rocksdb/snapshot.h>
#include <rocksdb/table.h>

#include "base/crc32c.h"
#include "journal/format.h"
#include "journal/next_readable.h"

namespace spillway::journal {

namespace {

// Shows a table as of some write. RocksDB asks a snapshot for nothing but its number here.
class AsOf final : public rocksdb::Snapshot {
 public:
  explicit AsOf(std::uint64_t write) : write_(write) {}
  ~AsOf() override = default;
  rocksdb::SequenceNumber GetSequenceNumber() const override { return write_; }
  std::int64_t GetUnixTime() const override { return 0; }
  std::uint64_t GetTimestamp() const override { return 0; }

 private:
  std::uint64_t write_;
};

rocksdb::ReadOptions read_options(const rocksdb::Snapshot* snapshot = nullptr) {
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  options.snapshot = snapshot;
  return options;
}

bool device_failed(const rocksdb::Status& status) { return !status.ok() && !status.IsCorruption(); }

bool is_stream_key(std::string_view key) { return key.size() == sizeof(Key); }

}  // namespace

std::unique_ptr<Table> Table::open(const std::filesystem::path& path, rocksdb::Status& why,
                                   rocksdb::Env* env) {
  rocksdb::Options options;
  if (env != nullptr) options.env = env;
  options.max_open_files = 1;
  rocksdb::BlockBasedTableOptions table;
  table.no_block_cache = true;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  auto reader = std::make_unique<rocksdb::SstFileReader>(options);
  why = reader->Open(path.string());
  if (!why.ok()) return nullptr;
  const auto properties = reader->GetTableProperties();
  if (!properties) {
    why = rocksdb::Status::Corruption("it does not say what it holds");
    return nullptr;
  }
  std::unique_ptr<Table> opened(new Table(std::move(reader)));
  opened->family_ = properties->column_family_name;
  opened->family_id_ = static_cast<std::uint32_t>(properties->column_family_id);
  return opened;
}

std::unique_ptr<rocksdb::Iterator> Table::iterator() const {
  return std::unique_ptr<rocksdb::Iterator>(reader_->NewIterator(read_options()));
}

rocksdb::Status Table::for_each(const Visit& visit, std::uint64_t snapshot) const {
  const AsOf as_of(snapshot);
  const std::unique_ptr<rocksdb::Iterator> it(reader_->NewIterator(read_options(&as_of)));
  for (it->SeekToFirst(); it->Valid(); it->Next()) {
    visit(it->key().ToStringView(), it->value().ToStringView());
  }
  rocksdb::Status status = it->status();
  if (status.ok()) return status;
  // The index leads on to the parts behind it only by key: the end at least is one that is known.
  std::string first_behind;
  for (it->SeekToLast(); it->Valid(); it->Prev()) first_behind = it->key().ToString();
  if (device_failed(it->status())) status = it->status();
  if (first_behind.empty()) return status;
  for (it->Seek(first_behind); it->Valid(); it->Next()) {
    visit(it->key().ToStringView(), it->value().ToStringView());
  }
  return device_failed(it->status()) ? it->status() : status;
}

std::uint64_t Table::newest_write(rocksdb::Status& device) const {
  const auto content = [this, &device](std::uint64_t snapshot) {
    std::uint32_t sum = 0;
    const rocksdb::Status status = for_each(
        [&sum](std::string_view key, std::string_view value) {
          for (const std::string_view part : {key, value}) {
            sum = crc32c(std::as_bytes(std::span(part.data(), part.size())), sum);
          }
        },
        snapshot);
    if (device_failed(status)) device = status;
    return sum;
  };
  const std::uint32_t whole = content(kNewest);
  std::uint64_t low = 0;  // shows less than the whole
  std::uint64_t high = kNewest;
  while (high - low > 1) {
    const std::uint64_t middle = low + (high - low) / 2;
    (content(middle) == whole ? high : low) = middle;
  }
  return high;
}

TableBlocks::TableBlocks(std::unique_ptr<Table> table)
    : table_(std::move(table)), it_(table_->iterator()) {}

void TableBlocks::note() {
  if (device_failed(it_->status())) device_ = it_->status();
}

void TableBlocks::skip_damage() {
  damage_ = it_->status().ToString();
  note();
  const auto seek = [this](Offset offset) {
    const Key key = key_of(offset);
    it_->Seek({key.data(), key.size()});
    note();
    return it_->status().ok();
  };
  seek(next_readable(last_, ~Offset{0}, seek));  // beyond the last key every seek succeeds
}

BlockPtr TableBlocks::next() {
  for (;;) {
    if (!begun_) {
      begun_ = true;
      it_->SeekToFirst();
    } else if (it_->Valid()) {
      it_->Next();
    }
    if (!it_->Valid() && !it_->status().ok()) skip_damage();
    if (!it_->Valid()) return nullptr;
    if (!is_stream_key(it_->key().ToStringView())) continue;
    const Offset offset = offset_of(it_->key().ToStringView());
    BlockPtr block = decode_block(offset, it_->value().ToStringView());
    last_ = offset;
    if (block) return block;
    ++damaged_values_;
  }
}

}  // namespace spillway::journal
