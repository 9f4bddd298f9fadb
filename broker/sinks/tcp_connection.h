// TcpConnection: one attempt of a tcp sink, from connecting to its end.
#pragma once

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/block.h"
#include "broker/config/config.h"
#include "broker/sinks/ack_map.h"
#include "broker/sinks/chunk.h"
#include "broker/sinks/connector.h"
#include "broker/sinks/count_reader.h"
#include "broker/sinks/part_tracker.h"
#include "broker/sinks/sink.h"
#include "wire/record.h"

namespace spillway::broker {

// How often the send queue is asked with acknowledge = "kernel" while something is unacknowledged.
inline constexpr std::chrono::milliseconds kKernelPoll{5};

// Operation: one chunk is being written at a time; blocks wait in a queue and are framed when it is
// their turn. Records that cannot be framed are refused once everything before them is
// acknowledged.
// Concurrency: everything on the io_context's thread. Pending operations keep the connection alive,
// but after close() or the end of the attempt it calls nobody.
class TcpConnection : public std::enable_shared_from_this<TcpConnection> {
 public:
  TcpConnection(boost::asio::io_context& io, const config::TcpSink& options, Attempt attempt,
                SinkEvents& events);

  void start();
  void send(const std::vector<BlockPtr>& blocks);
  void close();

 private:
  void on_connected(StreamSocket socket, std::string error);
  void pump();
  void on_write_error(const boost::system::error_code& error);
  void fill();
  bool next_block();
  void take_record(const wire::RecordView& record);
  void frame(std::span<const std::span<const std::byte>> pieces, std::uint64_t bytes);
  void count_bytes(Offset last);
  void close_byte_group();
  void refuse();
  void drop_parts();
  void read();
  void on_read(std::size_t bytes);
  bool take_counts(std::string_view text);
  void poll_kernel();
  void settle(std::uint64_t units);
  void lose(LossCause cause, std::string text);

  config::TcpSink options_;
  Attempt attempt_;
  SinkEvents* events_;  // nullptr once the attempt has ended
  StreamSocket socket_;
  std::shared_ptr<Connector> connector_;
  boost::asio::steady_timer poll_timer_;
  bool connected_ = false;
  bool polling_ = false;
  bool writing_ = false;
  std::string write_error_;  // not empty: nothing can be written any more

  std::deque<BlockPtr> queue_;
  BlockPtr block_;  // being framed; reader_ and offset_ say how far
  std::optional<wire::RecordReader> reader_;
  Offset offset_ = 0;  // of the next record in block_
  PartTracker tracker_;
  std::vector<std::span<const std::byte>> parts_;  // of a record that is not complete yet
  std::vector<BlockPtr> parts_blocks_;
  std::optional<Refused> refused_;
  Chunk chunk_;

  AckMap acks_;                    // units: records, or bytes with acknowledge = kernel
  std::uint64_t group_bytes_ = 0;  // framed and not yet in acks_ (kernel only)
  Offset group_last_ = 0;
  std::uint64_t written_bytes_ = 0;

  std::array<char, 4096> input_;
  CountReader counts_;
};

}  // namespace spillway::broker
