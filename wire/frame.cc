#include "wire/frame.h"

#include <google/protobuf/stubs/logging.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/invariant.h"

namespace spillway::wire {
namespace {

constexpr std::byte kBatchTag{0x1a};  // field 3 of Frame, length-delimited

std::uint32_t load_length(const std::byte* bytes) {
  return std::to_integer<std::uint32_t>(bytes[0]) | std::to_integer<std::uint32_t>(bytes[1]) << 8 |
         std::to_integer<std::uint32_t>(bytes[2]) << 16 |
         std::to_integer<std::uint32_t>(bytes[3]) << 24;
}

}  // namespace

FrameReader::FrameReader(std::uint64_t max_frame_bytes, std::size_t read_bytes)
    : max_frame_bytes_(max_frame_bytes),
      read_bytes_(read_bytes),
      buffer_(std::make_unique_for_overwrite<std::byte[]>(read_bytes)),
      capacity_(read_bytes) {}

std::span<std::byte> FrameReader::prepare() {
  make_room();
  std::size_t room = capacity_ - end_;
  if (const std::size_t wanted = large_wanted(); wanted != 0) {
    room = std::min(room, wanted - buffered());
  }
  return {buffer_.get() + end_, room};
}

std::size_t FrameReader::large_wanted() const {
  if (buffered() < kLengthBytes) return 0;
  const std::uint64_t length = load_length(buffer_.get() + begin_);
  const bool whole = buffered() - kLengthBytes >= length;  // the caller has not asked for it yet
  if (whole || length <= read_bytes_ || length > max_frame_bytes_) return 0;
  return kLengthBytes + length;
}

void FrameReader::make_room() {
  const std::size_t size = end_ - begin_;
  // Whatever is used again and again should be the same memory, and not much of it.
  if (size == 0) begin_ = end_ = 0;
  const std::size_t wanted = large_wanted();
  // Once large frames have passed, their memory is given back.
  const bool shrink = capacity_ > read_bytes_ && size < read_bytes_ / 2 && !large_ && wanted == 0;
  if (!shrink && capacity_ - end_ >= capacity_ / 2) return;
  if (wanted != 0 && capacity_ - begin_ >= wanted) return;
  if (!shrink && (size <= capacity_ / 2 || (wanted != 0 && capacity_ >= wanted))) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, size);
  } else {
    capacity_ = shrink ? read_bytes_ : std::max(capacity_ * 2, std::min(wanted, 4 * size));
    auto buffer = std::make_unique_for_overwrite<std::byte[]>(capacity_);
    std::memcpy(buffer.get(), buffer_.get() + begin_, size);
    buffer_ = std::move(buffer);
  }
  begin_ = 0;
  end_ = size;
}

void FrameReader::commit(std::size_t bytes) {
  INVARIANT(bytes <= capacity_ - end_);
  end_ += bytes;
}

Result<std::optional<std::span<const std::byte>>> FrameReader::next() {
  using Next = std::optional<std::span<const std::byte>>;
  if (buffered() < kLengthBytes) return Next{};
  const std::uint64_t length = load_length(buffer_.get() + begin_);
  if (length == 0) return Error{"a frame of length 0"};
  if (length > max_frame_bytes_) {
    return Error{"a frame of " + std::to_string(length) + " bytes; at most " +
                 std::to_string(max_frame_bytes_) + " are allowed"};
  }
  if (buffered() - kLengthBytes < length) return Next{};
  const std::span<const std::byte> frame(buffer_.get() + begin_ + kLengthBytes, length);
  begin_ += kLengthBytes + length;
  large_ = length > read_bytes_;
  return Next{frame};
}

bool is_batch(std::span<const std::byte> frame) {
  return !frame.empty() && frame.front() == kBatchTag;
}

Result<v1::Frame> decode(std::span<const std::byte> frame) {
  if (frame.size() > kMaxControlBytes) return Error{"a control frame over 64 KiB"};
  if (is_batch(frame)) return Error{"a batch where it does not belong"};
  // What a peer got wrong goes into an Error, not to the standard error of the process.
  const google::protobuf::LogSilencer silencer;
  v1::Frame message;
  if (!message.ParseFromArray(frame.data(), static_cast<int>(frame.size()))) {
    return Error{"not a frame of this protocol"};
  }
  if (message.frame_case() == v1::Frame::FRAME_NOT_SET) return Error{"a frame of no known kind"};
  if (message.has_batch()) return Error{"a batch that does not begin its frame"};
  return message;
}

void append_frame(std::string& out, const v1::Frame& frame) {
  const std::size_t start = out.size();
  out.append(kLengthBytes, '\0');
  frame.AppendToString(&out);
  const std::size_t length = out.size() - start - kLengthBytes;
  for (std::size_t i = 0; i < kLengthBytes; ++i) {
    out[start + i] = static_cast<char>(length >> (8 * i) & 0xff);
  }
}

std::string encode(const v1::Frame& frame) {
  std::string out;
  append_frame(out, frame);
  return out;
}

Position from_proto(const v1::Position& position) {
  return {position.epoch(), position.sequence()};
}

v1::Position to_proto(Position position) {
  v1::Position message;
  message.set_epoch(position.epoch);
  message.set_sequence(position.sequence);
  return message;
}

std::string encode_ack(Position safe, Position taken) {
  v1::Frame frame;
  if (safe != Position{}) *frame.mutable_ack()->mutable_safe() = to_proto(safe);
  if (taken != Position{}) *frame.mutable_ack()->mutable_taken() = to_proto(taken);
  frame.mutable_ack();
  return encode(frame);
}

std::string encode_reject(const Refusal& refusal) {
  v1::Frame frame;
  auto& reject = *frame.mutable_reject();
  if (refusal.position) *reject.mutable_position() = to_proto(*refusal.position);
  if (refusal.last) *reject.mutable_last() = to_proto(*refusal.last);
  reject.set_code(static_cast<v1::RejectCode>(refusal.code));
  reject.set_text(refusal.text);
  reject.set_retryable(is_retryable(refusal.code));
  return encode(frame);
}

std::string encode_ping(std::uint64_t nonce) {
  v1::Frame frame;
  frame.mutable_ping()->set_nonce(nonce);
  return encode(frame);
}

std::string encode_pong(std::uint64_t nonce) {
  v1::Frame frame;
  frame.mutable_pong()->set_nonce(nonce);
  return encode(frame);
}

}  // namespace spillway::wire
