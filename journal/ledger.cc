#include "journal/ledger.h"

#include <rocksdb/write_batch.h>

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "journal/entries.h"
#include "journal/format.h"

namespace spillway::journal {

namespace {

template <class Visit>
rocksdb::Status for_each_key(Store& store, const std::string& stream, const Visit& visit) {
  const std::string prefix = ledger_prefix(stream);
  const std::unique_ptr<rocksdb::Iterator> it(
      store.db().NewIterator(rocksdb::ReadOptions(), store.meta()));
  for (it->Seek(prefix); it->Valid() && it->key().starts_with(prefix); it->Next()) {
    const std::uint64_t id = offset_of(it->key().ToStringView().substr(prefix.size()));
    if (!visit(id, it->value().ToStringView())) break;
  }
  return it->status();
}

void absorb(LedgerEntry& into, const LedgerEntry& next) {
  into.first = std::min(into.first, next.first);
  into.last = std::max(into.last, next.last);
  into.count += next.count;
  into.upper_bound |= next.upper_bound;
  into.text = "several entries, merged";
}

}  // namespace

Result<std::vector<LedgerEntry>> read_ledger(Store& store, const std::string& stream,
                                             std::size_t max) {
  const std::string prefix = ledger_prefix(stream);
  std::vector<LedgerEntry> entries;
  const std::unique_ptr<rocksdb::Iterator> it(
      store.db().NewIterator(rocksdb::ReadOptions(), store.meta()));
  for (it->SeekForPrev(prefix + std::string(view(key_of(~Offset{0}))));
       entries.size() < max && it->Valid() && it->key().starts_with(prefix); it->Prev()) {
    const std::uint64_t id = offset_of(it->key().ToStringView().substr(prefix.size()));
    if (auto entry = decode_ledger_entry(id, it->value().ToStringView())) {
      entries.push_back(std::move(*entry));
    }
  }
  if (!it->status().ok()) return Error{"the ledger cannot be read: " + it->status().ToString()};
  return entries;
}

std::uint64_t count_ledger(Store& store, const std::string& stream, rocksdb::Status& status) {
  std::uint64_t count = 0;
  status = for_each_key(store, stream, [&](std::uint64_t, std::string_view) {
    ++count;
    return true;
  });
  return count;
}

std::uint64_t merge_ledger(Store& store, const std::string& stream, std::uint64_t count,
                           rocksdb::WriteBatch& batch) {
  const std::string prefix = ledger_prefix(stream);
  const auto key = [&](std::uint64_t id) { return prefix + std::string(view(key_of(id))); };
  std::map<std::pair<std::string, LossReason>, LedgerEntry> merged;
  const rocksdb::Status status =
      for_each_key(store, stream, [&](std::uint64_t id, std::string_view value) {
        if (count <= kMaxLedgerEntries - kMaxLedgerEntries / 10) return false;
        const std::optional<LedgerEntry> entry = decode_ledger_entry(id, value);
        if (!entry || entry->last == Position{}) return true;
        const auto [at, first] = merged.try_emplace({entry->sink, entry->reason}, *entry);
        if (first) return true;
        absorb(at->second, *entry);
        batch.Delete(store.meta(), key(id)).PermitUncheckedError();
        --count;
        return true;
      });
  if (!status.ok()) {
    batch.Clear();
    return count;
  }
  for (const auto& [who, entry] : merged) {
    batch.Put(store.meta(), key(entry.id), encode(entry)).PermitUncheckedError();
  }
  return count;
}

}  // namespace spillway::journal
