#include "journal/manifest.h"

#include <algorithm>
#include <optional>

namespace spillway::journal {

namespace {

// Tags of RocksDB's VersionEdit (db/version_edit.h), each before its fields.
enum Tag : std::uint64_t {
  kComparator = 1,
  kLogNumber = 2,
  kNextFileNumber = 3,
  kLastSequence = 4,
  kCompactCursor = 5,
  kDeletedFile = 6,
  kPrevLogNumber = 9,
  kMinLogNumberToKeep = 10,
  kNewFile4 = 103,
  kColumnFamily = 200,
  kColumnFamilyAdd = 201,
  kColumnFamilyDrop = 202,
  kMaxColumnFamily = 203,
  kInAtomicGroup = 300,
};
constexpr std::uint64_t kIgnorable = std::uint64_t{1} << 13;  // one field, of bytes
constexpr std::uint64_t kLastFieldOfFile = 1;

class Fields {
 public:
  explicit Fields(std::string_view record) : rest_(record) {}
  bool more() const { return known_ && !rest_.empty(); }
  bool known() const { return known_; }
  void give_up() { known_ = false; }

  std::uint64_t number() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      value |= std::uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
    known_ = false;
    return 0;
  }
  void bytes() {
    const std::uint64_t length = number();
    if (length > rest_.size()) known_ = false;
    if (known_) rest_.remove_prefix(length);
  }

 private:
  std::string_view rest_;
  bool known_ = true;
};

void take_file(Fields& fields, std::set<std::uint64_t>& tables) {
  fields.number();  // level
  const std::uint64_t file = fields.number();
  fields.number();  // bytes
  fields.bytes();   // smallest key
  fields.bytes();   // largest key
  fields.number();  // smallest number of a write
  fields.number();  // largest
  while (fields.known() && fields.number() != kLastFieldOfFile) fields.bytes();
  if (fields.known()) tables.insert(file);
}

}  // namespace

void Manifest::take(std::string_view record) {
  Fields fields(record);
  std::uint64_t family = 0;
  std::optional<std::uint64_t> wal;
  bool dropped = false;
  while (fields.more()) {
    switch (const std::uint64_t tag = fields.number(); tag) {
      case kNewFile4: take_file(fields, tables_); break;
      case kLogNumber: wal = fields.number(); break;
      case kMinLogNumberToKeep: wal_kept_ = std::max(wal_kept_, fields.number()); break;
      case kColumnFamily: family = fields.number(); break;
      case kColumnFamilyDrop: dropped = true; break;
      case kNextFileNumber:
      case kLastSequence:
      case kPrevLogNumber:
      case kMaxColumnFamily:
      case kInAtomicGroup: fields.number(); break;
      case kDeletedFile:
        fields.number();
        fields.number();
        break;
      case kComparator:
      case kColumnFamilyAdd: fields.bytes(); break;
      case kCompactCursor:
        fields.number();
        fields.bytes();
        break;
      default:
        if ((tag & kIgnorable) != 0) {
          fields.bytes();
        } else {
          fields.give_up();
        }
    }
  }
  known_ &= fields.known();
  if (dropped) {
    wal_of_family_.erase(family);
  } else if (wal) {
    wal_of_family_[family] = std::max(wal_of_family_[family], *wal);
  }
}

std::uint64_t Manifest::first_wal() const {
  std::uint64_t lowest = wal_of_family_.empty() ? 0 : ~std::uint64_t{0};
  for (const auto& [family, wal] : wal_of_family_) lowest = std::min(lowest, wal);
  return std::max(lowest, wal_kept_);
}

}  // namespace spillway::journal
