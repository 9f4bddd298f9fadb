// A blocking HTTP client, for the command line to ask a running broker.
#pragma once

#include <chrono>
#include <string>

#include "base/result.h"
#include "broker/config/config.h"

namespace spillway::broker {

struct HttpCall {
  std::string method = "GET";
  std::string target = "/";                   // path and query, encoded
  std::string body = {};                      // JSON
  std::chrono::milliseconds timeout{10'000};  // for all of it but the resolver
};

struct HttpReply {
  unsigned status = 0;
  std::string content_type;
  std::string body;
};

// One connection for one call. An answer of any status is a reply; an error says why there is none.
Result<HttpReply> http_call(const config::Address& address, const HttpCall& call);

// Encodes a name as one segment of a path or as a value in a query.
std::string url_encode(const std::string& text);

}  // namespace spillway::broker
