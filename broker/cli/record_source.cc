#include "broker/cli/record_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace spillway::cli {
namespace {

constexpr std::size_t kBuffer = std::size_t{1} << 20;
constexpr std::size_t kPrefix = 4;

std::uint32_t little_endian(const char* bytes) {
  std::uint32_t value = 0;
  for (std::size_t i = kPrefix; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

}  // namespace

Result<RecordSource> RecordSource::open(const std::string& name, Framing framing) {
  if (name == "-") return RecordSource(STDIN_FILENO, false, "standard input", framing);
  const int fd = ::open(name.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Error{"cannot read " + name + ": " + std::strerror(errno)};
  return RecordSource(fd, true, name, framing);
}

RecordSource::RecordSource(int fd, bool owned, std::string name, Framing framing)
    : fd_(fd), owned_(owned), name_(std::move(name)), framing_(framing), buffer_(kBuffer) {
  struct stat info {};
  if (::fstat(fd_, &info) == 0 && S_ISREG(info.st_mode)) {
    total_bytes_ = static_cast<std::uint64_t>(info.st_size);
  }
}

RecordSource::RecordSource(RecordSource&& other) noexcept
    : fd_(other.fd_),
      owned_(std::exchange(other.owned_, false)),
      name_(std::move(other.name_)),
      framing_(other.framing_),
      buffer_(std::move(other.buffer_)),
      begin_(other.begin_),
      end_(other.end_),
      searched_(other.searched_),
      ended_(other.ended_),
      records_(other.records_),
      bytes_read_(other.bytes_read_),
      total_bytes_(other.total_bytes_) {}

RecordSource::~RecordSource() {
  if (owned_) ::close(fd_);
}

std::optional<RecordSource::Found> RecordSource::find() const {
  const char* data = buffer_.data();
  if (framing_ == Framing::length_prefixed) {
    if (end_ - begin_ < kPrefix) return std::nullopt;
    const std::size_t size = little_endian(data + begin_);
    if (end_ - begin_ - kPrefix < size) return std::nullopt;
    return Found{begin_ + kPrefix, begin_ + kPrefix + size, begin_ + kPrefix + size};
  }
  const auto* from = data + begin_ + searched_;
  const auto* newline =
      static_cast<const char*>(std::memchr(from, '\n', end_ - begin_ - searched_));
  if (newline == nullptr) {
    searched_ = end_ - begin_;
    return std::nullopt;
  }
  const auto at = static_cast<std::size_t>(newline - data);
  return Found{begin_, at, at + 1};
}

Result<bool> RecordSource::fill() {
  if (begin_ != 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= std::exchange(begin_, 0);
  }
  // Doubling also for a prefix that announces gigabytes: only what arrives is given memory.
  if (end_ == buffer_.size()) buffer_.resize(buffer_.size() * 2);
  ssize_t got = 0;
  do {
    got = ::read(fd_, buffer_.data() + end_, buffer_.size() - end_);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return Error{"cannot read " + name_ + ": " + std::strerror(errno)};
  end_ += static_cast<std::size_t>(got);
  bytes_read_ += static_cast<std::uint64_t>(got);
  return got > 0;
}

Result<std::optional<std::string_view>> RecordSource::next() {
  auto found = find();
  while (!found && !ended_) {
    const auto more = fill();
    if (!more) return more.error();
    ended_ = !*more;
    if (!ended_) found = find();
  }
  if (!found) {
    if (begin_ == end_) return std::optional<std::string_view>();
    if (framing_ == Framing::length_prefixed) {
      return Error{name_ + " ends inside record " + std::to_string(records_ + 1)};
    }
    found = Found{begin_, end_, end_};
  }
  begin_ = found->next;
  searched_ = 0;
  ++records_;
  return std::optional(std::string_view(buffer_.data() + found->begin, found->end - found->begin));
}

}  // namespace spillway::cli
