#include "broker/sinks/file_position.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <boost/endian/conversion.hpp>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/crc32c.h"

namespace spillway::broker {

namespace {

// Slots lie in different pages, so that no torn write reaches both.
constexpr std::size_t kSlotDistance = 4096;
constexpr std::size_t kSlotBytes = 56;
constexpr std::uint64_t kMagic = 0x736f706c6c697073;  // "spillpos"
constexpr std::uint32_t kFormat = 1;

using Slot = std::array<std::byte, kSlotBytes>;

class Encoder {
 public:
  explicit Encoder(Slot& slot) : slot_(slot) {}
  template <class T>
  void put(T value) {
    boost::endian::native_to_little_inplace(value);
    std::memcpy(slot_.data() + at_, &value, sizeof(value));
    at_ += sizeof(value);
  }
  std::span<const std::byte> done() const { return {slot_.data(), at_}; }

 private:
  Slot& slot_;
  std::size_t at_ = 0;
};

class Decoder {
 public:
  explicit Decoder(const std::byte* slot) : slot_(slot) {}
  template <class T>
  T get() {
    T value;
    std::memcpy(&value, slot_ + at_, sizeof(value));
    at_ += sizeof(value);
    return boost::endian::little_to_native(value);
  }
  std::span<const std::byte> done() const { return {slot_, at_}; }

 private:
  const std::byte* slot_;
  std::size_t at_ = 0;
};

Slot encode(const FilePosition& position, std::uint64_t counter) {
  Slot slot{};
  Encoder out(slot);
  out.put(kMagic);
  out.put(kFormat);
  out.put(std::uint32_t{position.framing == config::Framing::lines ? 0U : 1U});
  out.put(counter);
  out.put(position.position.epoch);
  out.put(position.position.sequence);
  out.put(position.length);
  out.put(position.tail_crc);
  out.put(crc32c(out.done()));
  return slot;
}

std::optional<std::pair<FilePosition, std::uint64_t>> decode(const std::byte* slot) {
  Decoder in(slot);
  if (in.get<std::uint64_t>() != kMagic || in.get<std::uint32_t>() != kFormat) {
    return {};
  }
  FilePosition position;
  const auto framing = in.get<std::uint32_t>();
  position.framing = framing == 0 ? config::Framing::lines : config::Framing::length_prefixed;
  const auto counter = in.get<std::uint64_t>();
  position.position.epoch = in.get<std::uint64_t>();
  position.position.sequence = in.get<std::uint64_t>();
  position.length = in.get<std::uint64_t>();
  position.tail_crc = in.get<std::uint32_t>();
  const std::uint32_t crc = crc32c(in.done());
  if (framing > 1 || in.get<std::uint32_t>() != crc) {
    return {};
  }
  return std::pair{position, counter};
}

}  // namespace

PositionFile::PositionFile(std::filesystem::path path, Disk& disk)
    : path_(std::move(path)), disk_(disk) {}

std::optional<Failure> PositionFile::open() {
  newest_.reset();
  counter_ = 0;
  file_ = FileHandle(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!file_) {
    return failure_of_errno("cannot open " + path_.string(), LossCause::connect_failed);
  }
  if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) {
      return Failure{LossCause::refused, path_.string() + " is in use by another sink or process"};
    }
    return failure_of_errno("cannot lock " + path_.string(), LossCause::connect_failed);
  }
  std::array<std::byte, 2 * kSlotDistance> bytes{};
  if (::pread(file_.get(), bytes.data(), bytes.size(), 0) < 0) {
    return failure_of_errno("cannot read " + path_.string(), LossCause::connect_failed);
  }
  for (const std::size_t at : {std::size_t{0}, kSlotDistance}) {
    const auto slot = decode(bytes.data() + at);
    if (slot && slot->second > counter_) {
      newest_ = slot->first;
      counter_ = slot->second;
    }
  }
  return {};
}

std::optional<Failure> PositionFile::store(const FilePosition& position) {
  const std::uint64_t counter = counter_ + 1;
  Slot slot = encode(position, counter);
  iovec piece{slot.data(), slot.size()};
  const auto at = static_cast<off_t>((counter % 2) * kSlotDistance);
  if (auto failure =
          write_all(disk_, file_.get(), {&piece, 1}, at, "cannot write " + path_.string())) {
    return failure;
  }
  if (disk_.fdatasync(file_.get()) != 0) {
    return failure_of_errno("cannot sync " + path_.string(), LossCause::broken);
  }
  newest_ = position;
  counter_ = counter;
  return {};
}

}  // namespace spillway::broker
