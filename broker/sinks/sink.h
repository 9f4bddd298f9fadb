// Sink: how a stream reaches one destination. One implementation per type, made by make_sink().
//
// Operation: the stream's machine decides, a sink carries out. connect() starts an attempt, and
// ends an older one; exactly one of connected() and lost() answers it. After connected(), blocks
// handed to send() go out in order and acked() says through which offset the destination has taken
// them. lost() and rejected() end an attempt, whatever the cause; close() ends it without an event.
// Events of an attempt that has ended are not sent, and calls that name one do nothing.
// Concurrency: all methods and all events run on the stream's reactor thread; a sink that needs a
// blocking call has a thread of its own and posts back. Events may be raised from inside connect(),
// send() and close(): the stream queues them.
// Lifetime: a sink lives as long as its stream. stop() is the last call; its callback says that
// nothing of the sink runs any more. A sink may be destroyed without it (a disk that hangs must not
// hold up the process): no event comes after that either. The io_context must outlive the sink.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/block.h"
#include "base/position.h"

namespace spillway::broker {

// Why an attempt ended: told apart in state, metrics and status.
enum class LossCause {
  connect_failed,  // nobody there, refused, timed out
  broken,          // an established connection ended
  refused,         // connected, and the receiver says no for now
  protocol,        // it said something that makes no sense
};

class SinkEvents {
 public:
  virtual ~SinkEvents() = default;
  // `held`: the position through which the destination says it has custody; nothing when it cannot
  // say or has never taken anything. What it has in memory only (a broker's `held` beyond its
  // `safe`) does not count: that is sent again, and the sink leaves out what the destination
  // already has.
  virtual void connected(Attempt attempt, std::optional<Position> held) = 0;
  virtual void lost(Attempt attempt, LossCause cause, std::string text) = 0;
  // Cumulative. Blocks partly taken are acknowledged partly.
  virtual void acked(Attempt attempt, Offset through) = 0;
  // The destination refuses these records for good (one record, or all parts of one). Nothing
  // beyond `last` was taken; what comes before `first` may lack an acked(). The attempt has ended.
  virtual void rejected(Attempt attempt, Offset first, Offset last, std::string text) = 0;
  // The receiver's own word that it is back: reconnect now instead of waiting for the backoff.
  virtual void nudge() = 0;
};

// What a sink may need to know to introduce itself. Everything but `attempt` may be unknown.
struct ConnectHint {
  Attempt attempt{};
  std::optional<Position> next;          // of the record that will be sent first
  std::optional<Position> acknowledged;  // the highest that it was seen to acknowledge
  std::optional<Position> oldest;        // the first that can be sent again
  std::uint64_t epoch = 0;               // the stream's current one; 0: it has none yet
  std::uint64_t max_record_bytes = 0;    // of the stream, all parts of a record together
};

class Sink {
 public:
  virtual ~Sink() = default;
  virtual void connect(ConnectHint hint) = 0;
  // Blocks follow one another without a gap, skip blocks included, within an attempt. A sink keeps
  // references to them until they are on their way.
  virtual void send(Attempt attempt, const std::vector<BlockPtr>& blocks) = 0;
  virtual void close(Attempt attempt) = 0;
  virtual void stop(std::function<void()> done) = 0;
};

}  // namespace spillway::broker
