// Sink: how a stream reaches one destination. One implementation per type, made by make_sink().
//
// Operation: the stream's machine decides, a sink carries out. connect() starts an attempt; exactly one
// of connected() and lost() answers it. After connected(), blocks handed to send() go out in order and
// acked() says through which offset the destination has taken them. lost() ends an attempt, whatever
// its cause; close() ends it without a lost(). Events of an attempt that has ended are not sent.
// Concurrency: all methods and all events run on the stream's reactor thread; a sink that needs a
// blocking call has a thread of its own and posts back. Events may be raised from inside connect(),
// send() and close(): the stream queues them.
// Lifetime: a sink lives as long as its stream. stop() is the last call; its callback ends the lifetime.
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
  // `held`: the position that the destination says it holds; nothing when this type cannot say.
  virtual void connected(Attempt attempt, std::optional<Position> held) = 0;
  virtual void lost(Attempt attempt, LossCause cause, std::string text) = 0;
  // Cumulative. Blocks partly taken are acknowledged partly.
  virtual void acked(Attempt attempt, Offset through) = 0;
  // The destination refuses these records for good (one record, or all parts of one). Nothing beyond
  // `last` was taken. The attempt has ended.
  virtual void rejected(Attempt attempt, Offset first, Offset last, std::string text) = 0;
  // The receiver's own word that it is back: reconnect now instead of waiting for the backoff.
  virtual void nudge() = 0;
};

class Sink {
 public:
  virtual ~Sink() = default;
  // `next` is the position of the record that will be sent first, if it is known.
  virtual void connect(Attempt attempt, std::optional<Position> next) = 0;
  // Blocks follow one another without a gap, skip blocks included, within an attempt. A sink keeps
  // references to them until they are on their way.
  virtual void send(Attempt attempt, const std::vector<BlockPtr>& blocks) = 0;
  virtual void close(Attempt attempt) = 0;
  virtual void stop(std::function<void()> done) = 0;
};

}  // namespace spillway::broker
