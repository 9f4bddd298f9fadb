#include "journal/dead_letters.h"

#include "journal/entries.h"
#include "journal/format.h"

namespace spillway::journal {

std::optional<Error> visit_dead_letters(Store& store, const std::string& stream,
                                        const std::function<bool(const DeadLetter&)>& visit) {
  const std::string prefix = dead_letter_prefix(stream);
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  const std::unique_ptr<rocksdb::Iterator> it(
      store.db().NewIterator(options, store.dead_letters()));
  for (it->Seek(prefix); it->Valid() && it->key().starts_with(prefix); it->Next()) {
    const std::string_view number = it->key().ToStringView().substr(prefix.size());
    if (number.size() != sizeof(Key)) continue;
    auto letter = decode_dead_letter(it->value().ToStringView());
    if (!letter) letter.emplace();
    letter->number = offset_of(number);
    if (!visit(*letter)) return std::nullopt;
  }
  if (!it->status().ok()) return Error{it->status().ToString()};
  return std::nullopt;
}

}  // namespace spillway::journal
