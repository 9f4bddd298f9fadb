#include "journal/recover.h"

#include <algorithm>

#include "journal/block_reader.h"
#include "journal/format.h"

namespace spillway::journal {

void add_damage(Recovered& recovered, const std::string& text) {
  recovered.damage = recovered.damage ? *recovered.damage + "; " + text : text;
}

Recovered recover_stream(Store& store, const std::string& stream, Offset high_water,
                         rocksdb::Status& device) {
  Recovered recovered;
  recovered.stream = stream;
  recovered.high_water = high_water;
  rocksdb::Status status;
  const auto note = [&] {
    if (read_failed(store.db(), status)) device = status;
  };
  const auto check = [&](const char* what) {
    note();
    if (!status.ok()) add_damage(recovered, std::string(what) + ": " + status.ToString());
  };
  recovered.state = store.get_meta(state_key(stream), status);
  check("its state cannot be read");
  if (const auto mark = store.get_meta(watermark_key(stream), status)) {
    if (mark->size() == sizeof(Key)) recovered.watermark = offset_of(*mark);
  }
  check("its watermark cannot be read");
  recovered.next_ledger_id = 1 + store.last_number(store.meta(), ledger_prefix(stream), status);
  check("its ledger cannot be read");
  recovered.end = recovered.watermark;
  if (rocksdb::ColumnFamilyHandle* family = store.stream(stream)) {
    std::optional<std::string> damage;
    const End end = last_end(store.db(), family, damage, status);
    note();
    recovered.running_bytes = end.running_bytes;
    if (end.last >= recovered.end) {
      recovered.end = end.last;
      recovered.end_clean = end.clean;
    }
    if (damage) {
      add_damage(recovered, *damage);
      // What is intact before it can be read all the same, and what it held is not given out again.
      recovered.end = std::max(recovered.end, high_water);
      recovered.end_clean = false;
    }
  }
  if (recovered.end < high_water) {
    add_damage(recovered, std::to_string(high_water - recovered.end) +
                              " or more records that were durable are gone: offsets " +
                              std::to_string(recovered.end + 1) + " through " +
                              std::to_string(high_water) + "; see `spillway journal check`");
  }
  return recovered;
}

std::optional<Obstacle> find_obstacle(Store& store, const std::string& stream) {
  rocksdb::Status status;
  const auto obstacle = [&](const char* what) {
    return Obstacle{"stream " + stream + ": " + what + ": " + status.ToString(),
                    is_damage(store.db(), status)};
  };
  const auto state = store.get_meta(state_key(stream), status);
  if (!status.ok()) return obstacle("its state cannot be read");
  const auto watermark = store.get_meta(watermark_key(stream), status);
  if (!status.ok()) return obstacle("its watermark cannot be read");
  store.last_number(store.dead_letters(), dead_letter_prefix(stream), status);
  if (!status.ok()) return obstacle("its dead letters cannot be read");
  store.last_number(store.meta(), ledger_prefix(stream), status);
  if (read_failed(store.db(), status)) return obstacle("its ledger cannot be read");
  rocksdb::ColumnFamilyHandle* family = store.stream(stream);
  if (family == nullptr) return std::nullopt;
  std::optional<std::string> damage;
  const End end = last_end(store.db(), family, damage, status);
  if (read_failed(store.db(), status)) return obstacle("its end cannot be read");
  const bool marked = watermark && watermark->size() == sizeof(Key);
  const bool needed = damage || end.last > (marked ? offset_of(*watermark) : 0);
  if (state || !needed) return std::nullopt;
  return Obstacle{"stream " + stream + ": its state is gone, and there are blocks", true};
}

Recovered unreadable_stream(const std::string& stream, Offset high_water, const std::string& why) {
  Recovered recovered;
  recovered.stream = stream;
  recovered.high_water = high_water;
  recovered.damage = why;
  return recovered;
}

std::string encode_mark(Offset end) { return std::string(view(key_of(end))); }

Offset decode_mark(const std::string& contents) {
  return contents.size() == sizeof(Key) ? offset_of(contents) : 0;
}

}  // namespace spillway::journal
