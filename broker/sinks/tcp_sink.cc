#include "broker/sinks/tcp_sink.h"

#include <boost/asio/post.hpp>
#include <utility>

#include "broker/sinks/tcp_connection.h"

namespace spillway::broker {

TcpSink::TcpSink(boost::asio::io_context& io, config::TcpSink options, SinkEvents& events)
    : io_(io), options_(std::move(options)), events_(events) {}

TcpSink::~TcpSink() { end(); }

void TcpSink::connect(ConnectHint hint) {
  end();
  attempt_ = hint.attempt;
  connection_ = std::make_shared<TcpConnection>(io_, options_, attempt_, events_);
  connection_->start();
}

void TcpSink::send(Attempt attempt, const std::vector<BlockPtr>& blocks) {
  if (connection_ && attempt == attempt_) {
    connection_->send(blocks);
  }
}

void TcpSink::close(Attempt attempt) {
  if (attempt == attempt_) {
    end();
  }
}

void TcpSink::stop(std::function<void()> done) {
  end();
  boost::asio::post(io_, std::move(done));
}

void TcpSink::end() {
  if (connection_) {
    std::exchange(connection_, nullptr)->close();
  }
}

}  // namespace spillway::broker
