// ProducerSession: one producer that has said Hello, from there to its end.
//
// Operation: checks batches, joins those that came in together, and hands them to the stream;
// carries out what the stream says to producers. Acknowledgements are coalesced: at most one is on
// its way.
// Concurrency: the reactor thread of its stream. Lifetime: owned by the stream, which must outlive
// it or call detach(); it says session_ended() exactly once, whoever ended it.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "broker/connection.h"
#include "broker/run.h"
#include "recovery/action.h"
#include "wire/batch.h"
#include "wire/frame.h"
#include "wire/reject.h"

namespace spillway::broker {

inline constexpr std::chrono::milliseconds kPingInterval{5000};
inline constexpr int kDeadAfterPings = 3;  // intervals without a word from the producer

// What a stream is told of its producers.
class SessionOwner {
 public:
  virtual ~SessionOwner() = default;
  virtual void run_came(SessionId session, const Run& run) = 0;
  virtual void session_ended(SessionId session, std::string_view why) = 0;
  virtual void refused(wire::RejectCode code) = 0;  // a Reject is on its way, for the metrics
};

// A producer on its way from a listener to its stream.
struct Introduction {
  SessionId session{};
  boost::asio::generic::stream_protocol protocol{0, 0};
  int descriptor = -1;
  wire::FrameReader reader;
  v1::Hello hello;
  std::string address;         // for people
  std::shared_ptr<void> slot;  // counts it as a connection of its listener while it lives
};

class ProducerSession final : public Connection::Handler,
                              public std::enable_shared_from_this<ProducerSession> {
 public:
  ProducerSession(boost::asio::io_context& io, Introduction introduction,
                  std::uint64_t max_record_bytes, SessionOwner& owner);

  void start();

  // `epoch`: in which the producer goes on.
  void welcome(const recovery::action::Welcome& welcome, std::uint64_t epoch,
               std::uint64_t max_in_flight_bytes);
  void reject(const wire::Refusal& refusal) { refuse(refusal); }
  // Ends it with `code` once the record in parts that it is sending is complete.
  void finish(wire::RejectCode code, std::string text);
  void acknowledge(Position safe, Position taken);
  void halt(const std::vector<recovery::HaltCause>& causes);
  void resume(Position held);
  void goodbye(std::string reason);
  void cut();
  // Closes without a word to the owner, which goes away.
  void detach();

  const std::string& address() const { return address_; }
  std::uint64_t asked_generation() const { return asked_generation_; }

 private:
  void on_bytes() override;
  void on_closed(std::string_view why) override;
  void on_drained() override;

  bool take_frame(std::span<const std::byte> frame);
  bool take_batch(std::span<const std::byte> frame);
  bool take_control(std::span<const std::byte> frame);
  void flush_run();
  void refuse(const wire::Refusal& refusal);
  void send(const v1::Frame& frame);
  void send(std::string bytes);
  void send_acknowledgement();
  void end(std::string_view why);
  void watch();

  SessionOwner* owner_;
  const SessionId id_;
  const std::string address_;
  const std::uint64_t asked_generation_;
  const std::uint64_t max_record_bytes_;
  boost::asio::io_context& io_;
  std::shared_ptr<Connection> connection_;
  boost::asio::steady_timer watch_timer_;

  Run run_;
  std::vector<wire::RecordShape> shapes_;
  wire::PartState parts_;
  std::optional<Position> expected_;  // the position after the last batch: parts go on only there
  std::optional<wire::Refusal> finish_with_;
  struct Acknowledgement {
    Position safe;
    Position taken;
  };
  std::optional<Acknowledgement> acknowledgement_;
  bool acknowledging_ = false;  // one is about to be sent
  bool welcomed_ = false;
  bool ended_ = false;
  bool spoke_ = false;  // we sent something since the last look
  bool heard_ = false;
  int silent_ = 0;  // looks in a row without a word
  std::uint64_t nonce_ = 0;
};

// The protocol's word for why the machine refuses.
wire::RejectCode reject_code(recovery::RejectCode code);

}  // namespace spillway::broker
