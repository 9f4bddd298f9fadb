#include "broker/sinks/make_sink.h"

#include <variant>

#include "broker/sinks/file_sink.h"
#include "broker/sinks/spillway_sink.h"
#include "broker/sinks/tcp_sink.h"

namespace spillway::broker {

namespace {

struct Maker {
  boost::asio::io_context& io;
  SinkEvents& events;

  std::unique_ptr<Sink> operator()(const config::FileSink& options) const {
    return std::make_unique<FileSink>(io, options, events);
  }
  std::unique_ptr<Sink> operator()(const config::TcpSink& options) const {
    return std::make_unique<TcpSink>(io, options, events);
  }
  std::unique_ptr<Sink> operator()(const config::SpillwaySink& options) const {
    return std::make_unique<SpillwaySink>(io, options, events);
  }
};

}  // namespace

std::unique_ptr<Sink> make_sink(boost::asio::io_context& io, const config::Sink& options,
                                SinkEvents& events) {
  return std::visit(Maker{io, events}, options.destination);
}

}  // namespace spillway::broker
