// Addresses as Options::connect writes them.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace spillway::client {

struct Address {
  std::string host;  // empty: `path` counts
  std::string port;
  std::string path;
};

// "tcp://host:port", "tcp://[v6]:port" or "unix:///path".
Result<Address> parse_address(std::string_view text);

}  // namespace spillway::client
