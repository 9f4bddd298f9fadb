// What the commands that publish share of the client library.
#pragma once

#include <functional>
#include <string>

#include "broker/cli/remote.h"
#include "client/client.h"

namespace spillway::cli {

// Usage errors for a token file that cannot be read.
Outcome<client::Options> client_options(const std::string& connect, const std::string& stream,
                                        const std::string& token_file);
// Tells what happens to the connection and to the stream, a line each, on the client's thread.
client::Events announcements(std::function<void(const std::string&)> say);

}  // namespace spillway::cli
