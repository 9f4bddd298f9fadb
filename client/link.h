// Link: one connection to a broker, from resolving its name to its end.
//
// Concurrency: all methods and all callbacks run on the io_context's one thread.
// Lifetime: shared; its own operations keep it alive. After close() or lost() no callback follows.
#pragma once

#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "client/address.h"
#include "wire/frame.h"

namespace spillway::client {

class Link : public std::enable_shared_from_this<Link> {
 public:
  class Handler {
   public:
    virtual ~Handler() = default;
    virtual void opened() = 0;
    virtual void received(std::span<const std::byte> frame) = 0;
    virtual void written() = 0;  // answers write()
    virtual void lost(const std::string& why) = 0;
  };

  // `handler` must live until close() or lost().
  Link(boost::asio::io_context& io, Handler& handler);

  void open(const Address& address);
  // One at a time. `records` follow `head`, and must stay where they are until written() or lost(),
  // or until close() returned.
  void write(std::string head, std::span<const std::byte> records);
  bool writing() const { return writing_; }
  // Ends the connection; what fits the socket of `last_words` is still sent.
  void close(const std::string& last_words = {});

 private:
  void connect(const boost::asio::ip::tcp::resolver::results_type& endpoints);
  void start(boost::asio::generic::stream_protocol::socket socket);
  void read();
  void fail(const std::string& why);

  Handler* handler_;  // nullptr once it is over
  boost::asio::ip::tcp::resolver resolver_;
  boost::asio::ip::tcp::socket connecting_;
  boost::asio::generic::stream_protocol::socket socket_;
  wire::FrameReader reader_;
  std::string head_;
  bool writing_ = false;
};

}  // namespace spillway::client
