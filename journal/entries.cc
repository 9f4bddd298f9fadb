#include "journal/entries.h"

#include <cstring>

#include "base/invariant.h"
#include "journal/format.h"

namespace spillway::journal {

namespace {

constexpr std::uint8_t kEntryVersion = 1;

class Encoder {
 public:
  template <class T>
    requires std::is_integral_v<T>
  void number(T value) {
    out_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void text(std::string_view value) {
    number(static_cast<std::uint32_t>(value.size()));
    out_.append(value);
  }
  std::string take() { return std::move(out_); }

 private:
  std::string out_;
};

class Decoder {
 public:
  explicit Decoder(std::string_view in) : in_(in) {}
  template <class T>
    requires std::is_integral_v<T>
  T number() {
    T value{};
    if (in_.size() < sizeof value) {
      complete_ = false;
      return value;
    }
    std::memcpy(&value, in_.data(), sizeof value);
    in_.remove_prefix(sizeof value);
    return value;
  }
  std::string_view text() {
    const auto size = number<std::uint32_t>();
    if (in_.size() < size) {
      complete_ = false;
      return {};
    }
    const std::string_view value = in_.substr(0, size);
    in_.remove_prefix(size);
    return value;
  }
  bool complete() const { return complete_; }

 private:
  std::string_view in_;
  bool complete_ = true;
};

}  // namespace

std::string encode(const LedgerEntry& entry) {
  Encoder out;
  out.number(kEntryVersion);
  out.number(static_cast<std::uint8_t>(entry.reason));
  out.number(static_cast<std::uint8_t>(entry.upper_bound));
  for (const Position position : {entry.first, entry.last}) {
    out.number(position.epoch);
    out.number(position.sequence);
  }
  out.number(entry.count);
  out.number(entry.time_ms);
  out.text(entry.sink);
  out.text(entry.text);
  return out.take();
}

std::optional<LedgerEntry> decode_ledger_entry(std::uint64_t id, std::string_view value) {
  Decoder in(value);
  if (in.number<std::uint8_t>() != kEntryVersion) return std::nullopt;
  LedgerEntry entry;
  entry.id = id;
  entry.reason = static_cast<LossReason>(in.number<std::uint8_t>());
  entry.upper_bound = in.number<std::uint8_t>() != 0;
  for (Position* position : {&entry.first, &entry.last}) {
    position->epoch = in.number<std::uint64_t>();
    position->sequence = in.number<std::uint64_t>();
  }
  entry.count = in.number<std::uint64_t>();
  entry.time_ms = in.number<std::int64_t>();
  entry.sink = in.text();
  entry.text = in.text();
  if (!in.complete()) return std::nullopt;
  return entry;
}

std::string encode(const DeadLetter& letter) {
  INVARIANT(letter.record != nullptr);
  const Header header = header_of({&letter.record, 1});
  Encoder out;
  out.number(kEntryVersion);
  out.number(letter.time_ms);
  out.number(letter.record->first);
  out.text(letter.sink);
  out.text(letter.reason);
  std::string value(header.data(), header.size());
  value.append(reinterpret_cast<const char*>(letter.record->records.data()),
               letter.record->records.size());
  out.text(value);
  return out.take();
}

std::optional<DeadLetter> decode_dead_letter(std::string_view value) {
  Decoder in(value);
  if (in.number<std::uint8_t>() != kEntryVersion) return std::nullopt;
  DeadLetter letter;
  letter.time_ms = in.number<std::int64_t>();
  const auto first = in.number<Offset>();
  letter.sink = in.text();
  letter.reason = in.text();
  letter.record = decode_block(first, in.text());
  if (!in.complete() || letter.record == nullptr) return std::nullopt;
  return letter;
}

}  // namespace spillway::journal
