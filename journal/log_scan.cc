#include "journal/log_scan.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <span>
#include <vector>

#include "base/crc32c.h"

namespace spillway::journal {

namespace {

// RocksDB's log format: blocks of 32 KiB, in them fragments of {crc:u32 length:u16 type:u8}, the
// checksum over type and contents, and rotated so that a checksum of checksums differs.
constexpr std::size_t kBlockBytes = std::size_t{32} << 10;
constexpr std::size_t kHeader = 7;
constexpr std::size_t kBatchHeader = 12;  // number of its first write: u64, count: u32
enum Type : std::uint8_t { kFull = 1, kFirst = 2, kMiddle = 3, kLast = 4 };

std::uint32_t masked(std::uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8u; }

struct Fragment {
  std::uint8_t type = 0;
  std::size_t length = 0;  // of its contents, as its header says
  bool intact = false;
};

Fragment fragment_at(std::span<const std::byte> block) {
  Fragment fragment;
  std::uint32_t crc = 0;
  std::uint16_t length = 0;
  std::memcpy(&crc, block.data(), sizeof crc);
  std::memcpy(&length, block.data() + 4, sizeof length);
  fragment.type = std::to_integer<std::uint8_t>(block[6]);
  fragment.length = length;
  fragment.intact = fragment.type >= kFull && fragment.type <= kLast &&
                    kHeader + length <= block.size() &&
                    masked(crc32c(block.subspan(6, 1 + fragment.length))) == crc;
  return fragment;
}

// Whether fragments follow one another from the first byte on to the end of the block, or of the
// file. Bytes of a payload may look like a fragment, but not like all that follow it. So where a
// file is damaged and cut off in one block, the rest of that block is not believed.
bool leads_to_the_end(std::span<const std::byte> bytes) {
  bool any = false;
  while (bytes.size() >= kHeader) {
    const Fragment fragment = fragment_at(bytes);
    if (!fragment.intact) break;
    any = true;
    bytes = bytes.subspan(kHeader + fragment.length);
  }
  return any && std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

// Where the first fragment at or behind `from` begins whose header can be believed; the end of the
// block when there is none.
std::size_t next_fragment(std::span<const std::byte> block, std::size_t from) {
  for (; from + kHeader <= block.size(); ++from) {
    if (leads_to_the_end(block.subspan(from))) return from;
  }
  return block.size();
}

class Scanner {
 public:
  Scanner(LogScan& scan, const VisitRecord& visit) : scan_(scan), visit_(visit) {}

  void block(std::span<const std::byte> bytes, std::uint64_t at) {
    std::size_t pos = 0;
    while (bytes.size() - pos >= kHeader) {
      const Fragment fragment = fragment_at(bytes.subspan(pos));
      if (!fragment.intact) {
        damaged(at + pos);
        pos = next_fragment(bytes, pos + 1);
        continue;
      }
      take(fragment, bytes.subspan(pos + kHeader, fragment.length), at + pos);
      pos += kHeader + fragment.length;
    }
    // A block is filled up with zeros when no header fits any more; a file may end there, too.
    for (; pos < bytes.size(); ++pos) {
      if (bytes[pos] != std::byte{0}) return damaged(at + pos);
    }
  }

  void end() {
    if (assembling_) damaged(began_at_);
  }

 private:
  void damaged(std::uint64_t at) {
    if (!scan_.damaged_at) scan_.damaged_at = assembling_ ? began_at_ : at;
    assembling_ = false;
    lost_ = true;
  }

  void take(const Fragment& fragment, std::span<const std::byte> contents, std::uint64_t at) {
    const bool begins = fragment.type == kFull || fragment.type == kFirst;
    if (begins) {
      if (assembling_) damaged(began_at_);
      assembling_ = true;
      began_at_ = at;
      record_.clear();
    } else if (!assembling_) {
      return damaged(at);
    }
    record_.append(reinterpret_cast<const char*>(contents.data()), contents.size());
    if (fragment.type != kFull && fragment.type != kLast) return;
    assembling_ = false;
    ++scan_.records;
    scan_.intact_after_damage |= lost_;
    if (visit_) visit_(record_, lost_);
    lost_ = false;
  }

  LogScan& scan_;
  const VisitRecord& visit_;
  std::string record_;
  bool assembling_ = false;
  bool lost_ = false;  // something, since the last intact record
  std::uint64_t began_at_ = 0;
};

}  // namespace

LogScan scan_log(const std::filesystem::path& path, const VisitRecord& visit) {
  LogScan scan;
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    scan.error = std::string("it cannot be opened: ") + std::strerror(errno);
    return scan;
  }
  Scanner scanner(scan, visit);
  std::vector<char> block(kBlockBytes);
  while (file) {
    file.read(block.data(), static_cast<std::streamsize>(block.size()));
    const auto n = static_cast<std::size_t>(file.gcount());
    if (n == 0) break;
    scanner.block(std::as_bytes(std::span(block).first(n)), scan.bytes);
    scan.bytes += n;
  }
  if (file.bad()) scan.error = "it cannot be read to its end";
  scanner.end();
  return scan;
}

void append_log(std::string& log, std::string_view record) {
  bool begins = true;
  do {
    std::size_t room = kBlockBytes - log.size() % kBlockBytes;
    if (room < kHeader) {
      log.append(room, '\0');
      room = kBlockBytes;
    }
    const std::size_t length = std::min(record.size(), room - kHeader);
    const bool ends = length == record.size();
    const auto type = static_cast<char>(begins ? (ends ? kFull : kFirst) : ends ? kLast : kMiddle);
    const std::size_t at = log.size();
    log.append(kHeader - 1, '\0');
    log.push_back(type);
    log.append(record.substr(0, length));
    const auto checked = std::as_bytes(std::span(log).subspan(at + kHeader - 1));
    const std::uint32_t crc = masked(crc32c(checked));
    const auto stored = static_cast<std::uint16_t>(length);
    std::memcpy(log.data() + at, &crc, sizeof crc);
    std::memcpy(log.data() + at + sizeof crc, &stored, sizeof stored);
    record.remove_prefix(length);
    begins = false;
  } while (!record.empty());
}

std::optional<std::pair<std::uint64_t, std::uint32_t>> writes_of(const std::string& record) {
  if (record.size() < kBatchHeader) return std::nullopt;
  std::uint64_t first = 0;
  std::uint32_t count = 0;
  std::memcpy(&first, record.data(), sizeof first);
  std::memcpy(&count, record.data() + sizeof first, sizeof count);
  return std::pair(first, count);
}

}  // namespace spillway::journal
