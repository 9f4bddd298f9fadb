#include "journal/slots.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/crc32c.h"
#include "journal/data_dir.h"

namespace spillway::journal {

namespace {

// A slot: this header, then `length` bytes. The checksum covers all after itself.
struct SlotHeader {
  std::uint32_t crc = 0;
  std::uint32_t length = 0;
  std::uint64_t counter = 0;
};
static_assert(sizeof(SlotHeader) == 16);

bool write_all(int fd, const std::string& bytes, off_t at) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n =
        ::pwrite(fd, bytes.data() + done, bytes.size() - done, at + static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    done += static_cast<std::size_t>(n);
  }
  return true;
}

std::uint32_t crc_of(const std::string& slot, std::size_t length) {
  return crc32c(std::as_bytes(std::span(slot)).subspan(4, sizeof(SlotHeader) - 4 + length));
}

std::string encode(std::uint64_t counter, std::string_view contents) {
  SlotHeader header;
  header.counter = counter;
  header.length = static_cast<std::uint32_t>(contents.size());
  std::string slot(sizeof header, '\0');
  std::memcpy(slot.data(), &header, sizeof header);
  slot.append(contents);
  header.crc = crc_of(slot, contents.size());
  std::memcpy(slot.data(), &header, sizeof header);
  return slot;
}

struct Newest {
  std::uint64_t counter = 0;
  Slots::Contents contents;
};

// Nothing where the device fails a read: that slot may be the newest.
std::optional<Newest> read_newest(int fd, std::size_t slot_bytes) {
  Newest newest;
  for (std::size_t i = 0; i < 2; ++i) {
    std::string slot(slot_bytes, '\0');
    const ssize_t n = ::pread(fd, slot.data(), slot.size(), static_cast<off_t>(i * slot_bytes));
    if (n < 0) return std::nullopt;
    if (n != static_cast<ssize_t>(slot_bytes)) continue;
    SlotHeader header;
    std::memcpy(&header, slot.data(), sizeof header);
    if (header.counter == 0 || header.length > slot_bytes - sizeof header ||
        header.crc != crc_of(slot, header.length) || header.counter <= newest.counter) {
      continue;
    }
    newest.counter = header.counter;
    newest.contents.contents.reset();
    if (header.length != 0) newest.contents.contents = slot.substr(sizeof header, header.length);
  }
  newest.contents.damaged = newest.counter == 0;
  return newest;
}

Error failure(const std::filesystem::path& path, const char* what) {
  return Error{path.string() + ": cannot " + what + ": " + std::strerror(errno)};
}

// Made beside its place and renamed, so that a crash leaves no half-written file.
std::optional<Error> make(const std::filesystem::path& path, std::size_t slot_bytes,
                          Slots::Made made) {
  const std::filesystem::path fresh = path.string() + ".new";
  const int fd = ::open(fresh.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return failure(fresh, "make it");
  std::string slots;
  if (made == Slots::Made::unwritten) {
    slots = encode(2, {});
    slots.resize(slot_bytes);
    slots += encode(1, {});
  }
  slots.resize(2 * slot_bytes);
  const bool ok = write_all(fd, slots, 0) && ::fsync(fd) == 0;
  ::close(fd);
  if (!ok || ::rename(fresh.c_str(), path.c_str()) != 0) {
    Error error = failure(fresh, "write it");
    ::unlink(fresh.c_str());
    return error;
  }
  return sync_directory(path.parent_path());
}

}  // namespace

Result<Slots> Slots::open(const std::filesystem::path& path, std::size_t slot_bytes, Made made) {
  int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) {
    if (auto error = make(path, slot_bytes, made)) return *error;
    fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  }
  if (fd < 0) return failure(path, "open it");
  Slots slots(fd, slot_bytes);
  std::optional<Newest> newest = read_newest(fd, slot_bytes);
  if (!newest) return failure(path, "read it");
  slots.counter_ = newest->counter;
  slots.contents_ = std::move(newest->contents);
  return slots;
}

std::optional<Slots::Contents> Slots::peek(const std::filesystem::path& path,
                                           std::size_t slot_bytes) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::nullopt;
  std::optional<Newest> newest = read_newest(fd, slot_bytes);
  ::close(fd);
  if (!newest) return Contents{std::nullopt, true};
  return std::move(newest->contents);
}

Slots::Slots(int fd, std::size_t slot_bytes) : fd_(fd), slot_bytes_(slot_bytes) {}

Slots::Slots(Slots&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      slot_bytes_(other.slot_bytes_),
      counter_(other.counter_),
      contents_(std::move(other.contents_)) {}

Slots& Slots::operator=(Slots&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(slot_bytes_, other.slot_bytes_);
  std::swap(counter_, other.counter_);
  std::swap(contents_, other.contents_);
  return *this;
}

Slots::~Slots() {
  if (fd_ >= 0) ::close(fd_);
}

std::size_t Slots::capacity() const { return slot_bytes_ - sizeof(SlotHeader); }

bool Slots::write(std::string_view contents) {
  if (contents.empty() || contents.size() > capacity()) return false;
  // The first time into both: one that is damaged later must not look like one never written.
  const bool first = !contents_.contents;
  std::uint64_t counter = counter_ + 1;
  // On failure the other slot is untouched, and the next try goes to this one again.
  if (!write_slot(counter, contents)) return false;
  if (first && !write_slot(++counter, contents)) return false;
  counter_ = counter;
  contents_ = {std::string(contents), false};
  return true;
}

bool Slots::write_slot(std::uint64_t counter, std::string_view contents) {
  return write_all(fd_, encode(counter, contents),
                   static_cast<off_t>((counter % 2) * slot_bytes_)) &&
         ::fdatasync(fd_) == 0;
}

}  // namespace spillway::journal
