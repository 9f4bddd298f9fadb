// make_sink(): the sink that a configuration asks for.
#pragma once

#include <boost/asio/io_context.hpp>
#include <memory>

#include "broker/config/config.h"
#include "broker/sinks/sink.h"

namespace spillway::broker {

// `io` and `events` must outlive the sink. Nothing is opened before connect().
std::unique_ptr<Sink> make_sink(boost::asio::io_context& io, const config::Sink& options,
                                SinkEvents& events);

}  // namespace spillway::broker
