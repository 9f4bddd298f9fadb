#include "broker/sinks/file_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/endian/conversion.hpp>
#include <cerrno>
#include <utility>
#include <vector>

#include "base/crc32c.h"
#include "base/invariant.h"
#include "broker/config/check.h"

namespace spillway::broker {

namespace {

std::filesystem::path position_path(const std::filesystem::path& path) {
  return std::filesystem::path(path) += ".position";
}

Failure refusal(std::string text) { return {LossCause::refused, std::move(text)}; }

}  // namespace

FileWriter::FileWriter(const config::FileSink& options, Disk& disk)
    : path_(options.path),
      framing_(options.framing),
      disk_(disk),
      positions_(position_path(options.path), disk),
      tracker_(options.framing) {}

void FileWriter::close() {
  file_.reset();
  positions_.close();
  chunk_.clear();
}

FileWriter::Opened FileWriter::open() {
  close();
  tracker_ = PartTracker(framing_);
  refused_.reset();
  taken_through_.reset();
  record_start_.reset();
  if (auto failure = open_files()) {
    close();
    return {std::move(failure), {}};
  }
  if (taken_.position == Position{}) {
    return {};
  }
  return {{}, taken_.position};
}

std::optional<Failure> FileWriter::open_files() {
  if (const auto missing = config::missing_folder(path_)) {
    return Failure{LossCause::connect_failed, "cannot open " + path_.string() + ", " + *missing};
  }
  if (auto failure = positions_.open()) {
    return failure;
  }
  const std::optional<FilePosition> stored = positions_.newest();
  const bool must_exist = stored && stored->length > 0;
  const int create = must_exist ? 0 : O_CREAT;
  file_ = FileHandle(::open(path_.c_str(), O_RDWR | O_CLOEXEC | create, 0644));
  if (!file_) {
    if (must_exist && errno == ENOENT) {
      return refusal(path_.string() + " is missing, and its position file says that it holds " +
                     std::to_string(stored->length) +
                     " bytes: put it back, or remove the position file to begin a new one");
    }
    return failure_of_errno("cannot open " + path_.string(), LossCause::connect_failed);
  }
  taken_ = stored.value_or(FilePosition{{}, 0, 0, framing_});
  if (auto failure = check_against(taken_)) {
    return failure;
  }
  taken_.framing = framing_;
  if (auto failure = truncate(taken_.length)) {
    return failure;
  }
  // What is reported as held must be durable, whatever a failed sync left behind earlier.
  if (disk_.fdatasync(file_.get()) != 0) {
    return failure_of_errno("cannot sync " + path_.string(), LossCause::connect_failed);
  }
  synced_length_ = taken_.length;
  if (auto failure = positions_.store(taken_)) {
    return failure;
  }
  return sync_directory();
}

// Whether the file is the one that the position speaks of.
std::optional<Failure> FileWriter::check_against(const FilePosition& stored) {
  struct stat status {};
  if (::fstat(file_.get(), &status) != 0) {
    return failure_of_errno("cannot examine " + path_.string(), LossCause::connect_failed);
  }
  if (!S_ISREG(status.st_mode)) {
    return refusal(path_.string() + " is not a regular file");
  }
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (!positions_.newest() && size > 0) {
    return refusal(path_.string() + " holds data, and " + position_path(path_).string() +
                   " is missing or damaged, so that nobody knows which records they are: move the "
                   "file away to begin a new one");
  }
  if (stored.length > 0 && stored.framing != framing_) {
    return refusal(path_.string() +
                   " was begun with another framing: move it and its position file "
                   "away to begin a new one");
  }
  if (size < stored.length) {
    return refusal(path_.string() + " is " + std::to_string(size) + " bytes long, and held " +
                   std::to_string(stored.length) + ": it was cut or replaced");
  }
  if (stored.length > 0) {
    const Result<std::uint32_t> crc = tail_crc(stored.length);
    if (!crc) {
      return Failure{LossCause::connect_failed, crc.error().message};
    }
    if (*crc != stored.tail_crc) {
      return refusal(path_.string() +
                     " does not end as it was written: it was changed or replaced");
    }
  }
  return {};
}

std::optional<Failure> FileWriter::sync_directory() {
  const std::filesystem::path folder = path_.has_parent_path() ? path_.parent_path() : ".";
  const FileHandle directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory || ::fsync(directory.get()) != 0) {
    return failure_of_errno("cannot sync " + folder.string(), LossCause::connect_failed);
  }
  return {};
}

std::optional<Failure> FileWriter::truncate(std::uint64_t length) {
  if (disk_.ftruncate(file_.get(), static_cast<off_t>(length)) != 0) {
    return failure_of_errno("cannot cut " + path_.string(), LossCause::broken);
  }
  end_ = length;
  return {};
}

Result<std::uint32_t> FileWriter::tail_crc(std::uint64_t length) const {
  std::array<std::byte, kTailBytes> tail;
  const std::size_t size = static_cast<std::size_t>(std::min(length, kTailBytes));
  std::size_t have = 0;
  while (have < size) {
    const ssize_t bytes = ::pread(file_.get(), tail.data() + have, size - have,
                                  static_cast<off_t>(length - size + have));
    if (bytes <= 0) {
      if (bytes == 0) {
        errno = EIO;
      }
      return Error{failure_of_errno("cannot read " + path_.string(), LossCause::broken).text};
    }
    have += static_cast<std::size_t>(bytes);
  }
  return crc32c({tail.data(), size});
}

FileWriter::Committed FileWriter::commit(std::span<const BlockPtr> blocks) {
  INVARIANT(is_open());
  Committed result;
  for (const BlockPtr& block : blocks) {
    if (refused_) {
      break;
    }
    if (auto failure = write_block(*block)) {
      result.failure = std::move(failure);
      return result;
    }
  }
  if (auto failure = flush()) {
    result.failure = std::move(failure);
    return result;
  }
  if (taken_through_) {
    if (auto failure = make_durable()) {
      result.failure = std::move(failure);
      return result;
    }
    result.acked = std::exchange(taken_through_, std::nullopt);
  }
  if (refused_) {
    result.refused = std::move(refused_);
    refused_.reset();
    // A reader of the file must not see the beginning of a record that will not come. If this fails
    // the next open() does it.
    static_cast<void>(truncate(taken_.length));
  }
  return result;
}

std::optional<Failure> FileWriter::write_block(const Block& block) {
  if (block.skip) {
    if (tracker_.skip()) {
      take(block.last(), block.last_position());
    } else {
      refused_ = tracker_.refused();
    }
    return {};
  }
  wire::RecordReader reader(block.records, block.position);
  Offset offset = block.first;
  for (wire::RecordView record; !refused_ && reader.next(record); ++offset) {
    if (auto failure = write_record(offset, record)) {
      return failure;
    }
  }
  INVARIANT(reader.error() == nullptr);
  return {};
}

std::optional<Failure> FileWriter::write_record(Offset offset, const wire::RecordView& record) {
  const bool lines = framing_ == config::Framing::lines;
  const PartTracker::Step step = tracker_.record(offset, record);
  if (tracker_.abandoned()) {
    if (auto failure = cut_parts()) {
      return failure;
    }
  }
  switch (step) {
    case PartTracker::Step::hold: return {};
    case PartTracker::Step::refuse: refused_ = tracker_.refused(); return {};
    case PartTracker::Step::whole:
      if (!lines) {
        chunk_.add_length(static_cast<std::uint32_t>(record.payload.size()));
      }
      break;
    case PartTracker::Step::begins:
      record_start_ = place();
      if (!lines) {
        chunk_.add_length(0);  // finish_parts() writes the right one
      }
      break;
    case PartTracker::Step::continues:
    case PartTracker::Step::completes: break;
  }
  chunk_.add(record.payload);
  if (step == PartTracker::Step::whole || step == PartTracker::Step::completes) {
    if (lines) {
      chunk_.add_newline();
    } else if (step == PartTracker::Step::completes) {
      if (auto failure = finish_parts()) {
        return failure;
      }
    }
    record_start_.reset();
    take(offset, record.position);
  }
  return chunk_.full() ? flush() : std::nullopt;
}

// Takes back what was written of a record that will not be completed.
std::optional<Failure> FileWriter::cut_parts() {
  if (auto failure = flush()) {
    return failure;
  }
  if (const auto start = std::exchange(record_start_, std::nullopt)) {
    return truncate(*start);
  }
  return {};
}

// The length of a record in parts is known with its last one.
std::optional<Failure> FileWriter::finish_parts() {
  if (auto failure = flush()) {
    return failure;
  }
  auto length = static_cast<std::uint32_t>(tracker_.payload_bytes());
  boost::endian::native_to_little_inplace(length);
  iovec piece{&length, sizeof(length)};
  return write_all(disk_, file_.get(), {&piece, 1}, static_cast<off_t>(*record_start_),
                   "cannot write " + path_.string());
}

void FileWriter::take(Offset offset, Position position) {
  taken_.position = position;
  taken_.length = place();
  taken_through_ = offset;
}

std::optional<Failure> FileWriter::flush() {
  if (chunk_.bytes() == 0) {
    return {};
  }
  std::vector<iovec> pieces;
  pieces.reserve(chunk_.buffers().size());
  for (const boost::asio::const_buffer& buffer : chunk_.buffers()) {
    pieces.push_back({const_cast<void*>(buffer.data()), buffer.size()});
  }
  const auto failure = write_all(disk_, file_.get(), pieces, static_cast<off_t>(end_),
                                 "cannot write " + path_.string());
  end_ += chunk_.bytes();
  chunk_.clear();
  return failure;
}

// First the data, then the position that speaks of it.
std::optional<Failure> FileWriter::make_durable() {
  if (taken_.length != synced_length_) {
    if (disk_.fdatasync(file_.get()) != 0) {
      return failure_of_errno("cannot sync " + path_.string(), LossCause::broken);
    }
    synced_length_ = taken_.length;
    const Result<std::uint32_t> crc = tail_crc(taken_.length);
    if (!crc) {
      return Failure{LossCause::broken, crc.error().message};
    }
    taken_.tail_crc = *crc;
  }
  if (auto failure = check_same_file()) {
    return failure;
  }
  return positions_.store(taken_);
}

// Records written to a file that somebody removed or renamed would be acknowledged, and gone.
std::optional<Failure> FileWriter::check_same_file() const {
  struct stat ours {};
  struct stat named {};
  if (::fstat(file_.get(), &ours) != 0) {
    return failure_of_errno("cannot examine " + path_.string(), LossCause::broken);
  }
  if (::stat(path_.c_str(), &named) != 0 || ours.st_ino != named.st_ino ||
      ours.st_dev != named.st_dev) {
    return refusal(path_.string() + " was removed or replaced while it was open");
  }
  return {};
}

}  // namespace spillway::broker
