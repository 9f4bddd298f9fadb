// Frames: the length prefix, what is inside, and control messages. Batches have batch.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/position.h"
#include "base/result.h"
#include "wire/reject.h"
#include "wire/spillway.pb.h"

namespace spillway::wire {

inline constexpr std::uint32_t kVersion = 1;
inline constexpr std::size_t kLengthBytes = 4;
// What every broker must allow, so that a client may choose the size of its parts before it
// connects.
inline constexpr std::uint64_t kMinMaxFrameBytes = std::uint64_t{2} << 20;
inline constexpr std::uint64_t kDefaultMaxFrameBytes = (std::uint64_t{4} << 20) + (64 << 10);
// Frames but Batch: bounds what a peer can make us parse.
inline constexpr std::size_t kMaxControlBytes = std::size_t{64} << 10;

// Cuts a byte stream into frames. Sans-IO: read into prepare(), commit() what came, then call
// next() until it has nothing.
//   reader.commit(socket.read(reader.prepare()));
//   while (frame = reader.next()) ...
// Memory: a length over the limit is an error before anything is allocated for it, and the buffer
// grows with the bytes that arrived, not with those announced: at most four times them, or
// `read_bytes`, which it goes back to with the first frame that fits. Not thread-safe.
class FrameReader {
 public:
  static constexpr std::size_t kReadBytes = std::size_t{256} << 10;

  // `read_bytes`: less than kReadBytes where nothing but control frames comes.
  explicit FrameReader(std::uint64_t max_frame_bytes = kDefaultMaxFrameBytes,
                       std::size_t read_bytes = kReadBytes);

  void set_max_frame_bytes(std::uint64_t max_frame_bytes) { max_frame_bytes_ = max_frame_bytes; }

  // Room for at least one byte, and for no more than the rest of a frame larger than `read_bytes`:
  // what comes behind it would have to be moved. Frames handed out before are invalid from here on.
  std::span<std::byte> prepare();
  void commit(std::size_t bytes);

  // The next whole frame without its length, valid until prepare(); nothing when more bytes are
  // needed. An error is final: the place of the next frame is unknown.
  Result<std::optional<std::span<const std::byte>>> next();

  std::size_t buffered() const { return end_ - begin_; }

 private:
  void make_room();
  // Of a frame that has begun and is larger than `read_bytes`, its length with all; 0: none has.
  std::size_t large_wanted() const;

  std::uint64_t max_frame_bytes_;
  std::size_t read_bytes_;
  std::unique_ptr<std::byte[]> buffer_;
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0;  // of what next() has not handed out
  std::size_t end_ = 0;
  bool large_ = false;  // the last one handed out was: more of them may come
};

// Whether a frame (as next() returns it) holds a Batch: then use batch_of() of batch.h.
bool is_batch(std::span<const std::byte> frame);

// Any frame but a Batch. Errors: over kMaxControlBytes, not a Frame, nothing in it, a Batch.
Result<v1::Frame> decode(std::span<const std::byte> frame);

// Length prefix and frame, ready to be written.
std::string encode(const v1::Frame& frame);
void append_frame(std::string& out, const v1::Frame& frame);

Position from_proto(const v1::Position& position);
v1::Position to_proto(Position position);

// Ready-made frames for what is sent most.
std::string encode_ack(Position safe, Position taken);
std::string encode_reject(const Refusal& refusal);
std::string encode_ping(std::uint64_t nonce);
std::string encode_pong(std::uint64_t nonce);

}  // namespace spillway::wire
