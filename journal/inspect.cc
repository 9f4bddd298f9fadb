#include "journal/inspect.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "journal/block_reader.h"
#include "journal/dead_letters.h"
#include "journal/format.h"
#include "journal/ledger.h"
#include "journal/recover.h"
#include "journal/slots.h"

namespace spillway::journal {

namespace {

// Beside a running broker a file can go between the moment it is listed and the moment it is
// opened.
constexpr int kOpenAttempts = 5;

class StoreInspector final : public Inspector {
 public:
  explicit StoreInspector(const Options& options) : context_(options) {}

  std::optional<Error> open();
  bool broker_running() const override { return broker_running_; }
  const std::vector<Recovered>& streams() const override { return streams_; }
  std::optional<Error> for_each_block(const std::string& stream, Offset from,
                                      const std::function<bool(const BlockInfo&)>& visit) override;
  Result<std::vector<LedgerEntry>> ledger(const std::string& stream, std::size_t max) override {
    return read_ledger(*store_, stream, max);
  }
  std::optional<Error> dead_letters(const std::string& stream,
                                    const std::function<bool(const DeadLetter&)>& visit) override {
    return visit_dead_letters(*store_, stream, visit);
  }
  std::vector<Finding> check() override;

 private:
  std::set<std::string> marked() const;  // the streams that have a mark
  void check_blocks(const Recovered& stream, std::vector<Finding>& findings);

  StoreContext context_;
  std::unique_ptr<Store> store_;
  std::vector<Recovered> streams_;
  bool broker_running_ = false;
};

std::optional<Error> StoreInspector::open() {
  if (auto error = read_format(context_.layout)) return error;
  std::error_code ignored;
  if (!std::filesystem::exists(context_.layout.store() / "CURRENT", ignored)) {
    return Error{context_.layout.root.string() + " holds no journal"};
  }
  broker_running_ = DirLock::held(context_.layout);
  // Before the store: a broker that runs goes on, and a mark from later would speak of records that
  // the store was not yet seen to hold.
  std::map<std::string, Offset> marks;
  for (const std::string& name : marked()) {
    const auto mark = Slots::peek(context_.layout.mark(name), kMarkSlotBytes);
    if (mark && mark->contents) marks[name] = decode_mark(*mark->contents);
  }
  Store::Failure failure;
  std::string damage;
  for (int i = 0; !store_ && i < kOpenAttempts; ++i) {
    store_ = Store::open(context_, Store::Mode::read, failure);
  }
  if (!store_) {
    damage = failure.text;
    store_ = Store::open(context_, Store::Mode::salvage, failure);
  }
  if (!store_) return Error{failure.text};
  // A stream has a mark file from its first start on, and blocks only if it ever was journaled.
  std::set<std::string> names = marked();
  for (const std::string& name : store_->streams()) names.insert(name);
  for (const std::string& name : names) {
    const auto latch = Slots::peek(context_.layout.latch(name), kLatchSlotBytes);
    rocksdb::Status device;  // to a tool, what cannot be read is damaged
    Recovered recovered = recover_stream(*store_, name, marks[name], device);
    if (!damage.empty()) recovered.damage = damage;
    if (latch) recovered.latch = latch->contents;
    streams_.push_back(std::move(recovered));
  }
  return std::nullopt;
}

std::set<std::string> StoreInspector::marked() const {
  std::set<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator it(context_.layout.mark("").parent_path(), error), end;
       !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (it->path().extension() != ".new") names.insert(name);
  }
  return names;
}

std::optional<Error> StoreInspector::for_each_block(
    const std::string& stream, Offset from, const std::function<bool(const BlockInfo&)>& visit) {
  rocksdb::ColumnFamilyHandle* family = store_->stream(stream);
  if (family == nullptr) return std::nullopt;
  if (from == 0) {
    const auto it = std::find_if(streams_.begin(), streams_.end(),
                                 [&](const Recovered& known) { return known.stream == stream; });
    from = it == streams_.end() ? 1 : it->watermark + 1;
  }
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  options.readahead_size = std::size_t{2} << 20;
  const std::unique_ptr<rocksdb::Iterator> it(store_->db().NewIterator(options, family));
  const Key key = key_of(first_key_needed(store_->db(), family, from).value_or(from));
  for (it->Seek({key.data(), key.size()}); it->Valid(); it->Next()) {
    BlockInfo info;
    info.first = offset_of(it->key().ToStringView());
    info.stored_bytes = it->value().size();
    info.block = decode_block(info.first, it->value().ToStringView());
    info.intact = info.block != nullptr;
    if (!visit(info)) break;
  }
  if (!it->status().ok()) return Error{it->status().ToString()};
  return std::nullopt;
}

std::vector<Finding> StoreInspector::check() {
  std::vector<Finding> findings;
  for (const Recovered& stream : streams_) {
    if (stream.damage) {
      const Offset last = std::max(stream.end + 1, stream.high_water);
      findings.push_back({stream.stream, stream.end + 1, last, *stream.damage});
    }
    check_blocks(stream, findings);
  }
  return findings;
}

void StoreInspector::check_blocks(const Recovered& stream, std::vector<Finding>& findings) {
  rocksdb::ColumnFamilyHandle* family = store_->stream(stream.stream);
  if (family == nullptr) {
    if (stream.end > stream.watermark) {
      findings.push_back({stream.stream, stream.watermark + 1, stream.end, "no blocks at all"});
    }
    return;
  }
  BlockPtr previous;
  for (Offset next = stream.watermark + 1; next <= stream.end;) {
    const ReadResult result =
        read_blocks(store_->db(), family, next, stream.end, std::uint64_t{4} << 20, stream.end);
    if (!result.ok) {
      findings.push_back({stream.stream, next, stream.end, result.error});
      return;
    }
    for (const BlockPtr& block : result.blocks) {
      if (previous && block->position.epoch < previous->position.epoch) {
        findings.push_back({stream.stream, block->first, block->last(), "an older epoch follows"});
      } else if (previous && block->position.epoch == previous->position.epoch &&
                 block->position.sequence != previous->position.sequence + previous->count) {
        findings.push_back({stream.stream, block->first, block->last(),
                            "its sequence does not follow the one before"});
      }
      if (previous && block->running_bytes < previous->running_bytes + block->bytes()) {
        findings.push_back(
            {stream.stream, block->first, block->last(), "its running byte count does not add up"});
      }
      previous = block;
      next = block->last() + 1;
    }
    if (result.lost) {
      findings.push_back(
          {stream.stream, result.lost->first, result.lost->second, "missing or damaged"});
      next = result.lost->second + 1;
      previous = nullptr;
    }
  }
}

}  // namespace

bool data_dir_in_use(const std::filesystem::path& data_dir) {
  return DirLock::held(Layout(data_dir));
}

Result<std::unique_ptr<Inspector>> Inspector::open(const std::filesystem::path& data_dir) {
  Options options;
  options.data_dir = data_dir;
  auto inspector = std::make_unique<StoreInspector>(options);
  if (auto error = inspector->open()) return *error;
  return std::unique_ptr<Inspector>(std::move(inspector));
}

}  // namespace spillway::journal
