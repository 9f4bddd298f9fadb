// Client::Impl: what the callers' side (client.cc) and the client's thread (session.cc) share.
//
// mutex_ guards all that is listed under it; the rest belongs to the client's thread. Events are
// called without the mutex.
#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "client/address.h"
#include "client/client.h"
#include "client/link.h"
#include "client/outbox.h"

namespace spillway::client {

class Client::Impl : public Link::Handler {
 public:
  Impl(Options options, Address address, Events events);
  ~Impl() override;

  Result<std::optional<Position>> publish(std::span<const Record> records, Milliseconds timeout);
  Result<bool> wait_passed(Position position, Position Status::*progress, Milliseconds timeout);
  Result<bool> flush(Milliseconds timeout);
  Result<std::optional<Welcome>> wait_connected(Milliseconds timeout);
  Result<std::optional<std::uint64_t>> new_epoch(Milliseconds timeout);
  Status status() const;
  void close();

 private:
  using Clock = std::chrono::steady_clock;
  using Lock = std::unique_lock<std::mutex>;
  enum class Epoch { as_is, wanted, asked };  // what new_epoch() waits for

  // Callers' side.
  template <class Predicate>
  bool wait(Lock& lock, Milliseconds timeout, Predicate predicate);
  bool over() const { return status_.state == State::failed || status_.state == State::closed; }
  Error over_error() const;
  void schedule_pump();

  // The client's thread.
  void connect();
  void opened() override;
  void received(std::span<const std::byte> frame) override;
  void written() override;
  void lost(const std::string& why) override;
  void on_welcome(const v1::Welcome& message);
  void on_ack(const v1::Ack& ack);
  void on_reject(const v1::Reject& reject);
  bool begins_behind_another() const;
  void on_halt(const google::protobuf::RepeatedPtrField<v1::HaltCause>& causes);
  void on_resume(const v1::Resume& resume);
  // Where this producer goes on after a Welcome; an error is final. Requires mutex_.
  Result<std::optional<EpochChange>> place(std::uint64_t epoch, Position held);
  void acknowledge(Position safe);  // requires mutex_
  void set_state(State state, const std::string& why);
  void retry(const std::string& why, Milliseconds at_least = Milliseconds{0});
  void fail(const std::string& why);
  void drop_link(const std::string& last_words = {});
  void send(const std::string& frame);
  void pump();
  void arm(Milliseconds delay, void (Impl::*expired)());
  void connect_expired();
  void keep_alive();
  Milliseconds next_delay();

  const Options options_;
  const Address address_;
  const Events events_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Status status_;
  Outbox outbox_;
  std::optional<Welcome> welcome_;
  Epoch epoch_ = Epoch::as_is;
  Index sent_ = 0;  // on this connection, or held by the broker
  bool pump_scheduled_ = false;
  bool welcomed_ = false;  // on this connection
  Milliseconds ping_interval_{0};

  boost::asio::io_context io_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  boost::asio::steady_timer timer_;
  std::uint64_t timer_number_ = 0;  // an expiry that was queued cannot be cancelled
  std::shared_ptr<Link> link_;
  std::string control_;  // frames that go out before the next batch
  Clock::time_point lost_at_ = Clock::now();
  int attempts_ = 0;        // since the broker last said something after its Welcome
  bool told_halt_ = false;  // on_halt was called, and on_resume not since
  bool assigning_ = false;  // this connection's Hello asks for a new epoch
  bool sent_something_ = false;
  int silent_intervals_ = 0;
  std::mt19937_64 random_;
  std::thread thread_;  // last: runs as soon as it exists
};

}  // namespace spillway::client
