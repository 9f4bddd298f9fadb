#include "broker/sinks/spillway_sink.h"

#include <boost/asio/post.hpp>
#include <chrono>
#include <string>
#include <utility>

#include "broker/sinks/spillway_connection.h"

namespace spillway::broker {

SpillwaySink::SpillwaySink(boost::asio::io_context& io, config::SpillwaySink options,
                           SinkEvents& events)
    : io_(io),
      options_(std::move(options)),
      events_(events),
      memory_(std::make_shared<RelayMemory>()),
      goodbye_timer_(io),
      alive_(std::make_shared<int>()) {}

SpillwaySink::~SpillwaySink() { end(); }

void SpillwaySink::connect(ConnectHint hint) {
  end();
  attempt_ = hint.attempt;
  if (asked_to_wait(hint.attempt)) {
    return;
  }
  std::string token;
  if (!options_.token_file.empty()) {
    Result<std::vector<std::string>> tokens = config::read_tokens(options_.token_file);
    if (!tokens) {
      events_.lost(attempt_, LossCause::refused, tokens.error().message);
      return;
    }
    token = std::move(tokens->front());
  }
  connection_ =
      std::make_shared<SpillwayConnection>(io_, options_, std::move(token), hint, memory_, events_);
  connection_->start();
}

// A Goodbye may say when to come back. Earlier attempts fail at once, and the time's end is a
// nudge.
bool SpillwaySink::asked_to_wait(Attempt attempt) {
  if (std::chrono::steady_clock::now() >= memory_->not_before) {
    return false;
  }
  if (!std::exchange(nudge_armed_, true)) {
    goodbye_timer_.expires_at(memory_->not_before);
    // An expiry that is queued already cannot be cancelled, hence `alive`.
    goodbye_timer_.async_wait(
        [this, alive = std::weak_ptr<int>(alive_)](boost::system::error_code error) {
          if (!error && !alive.expired()) {
            nudge_armed_ = false;
            events_.nudge();
          }
        });
  }
  events_.lost(attempt, LossCause::refused, "the receiver asked to be left alone for a while");
  return true;
}

void SpillwaySink::send(Attempt attempt, const std::vector<BlockPtr>& blocks) {
  if (connection_ && attempt == attempt_) {
    connection_->send(blocks);
  }
}

void SpillwaySink::close(Attempt attempt) {
  if (connection_ && attempt == attempt_ && !connection_->waiting_for_resume()) {
    end();
  }
}

void SpillwaySink::stop(std::function<void()> done) {
  end();
  alive_.reset();
  goodbye_timer_.cancel();
  boost::asio::post(io_, std::move(done));
}

void SpillwaySink::end() {
  if (connection_) {
    std::exchange(connection_, nullptr)->close();
  }
}

}  // namespace spillway::broker
