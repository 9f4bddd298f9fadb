#include <unistd.h>

#include <iostream>

#include "broker/admin/client.h"
#include "broker/cli/cli.h"

namespace spillway::cli {

int main(int argc, char** argv, RunFunction run) {
  Backend backend;
  backend.run = std::move(run);
  backend.request = [](const config::Address& address, std::string_view method,
                       const std::string& target) -> Result<Backend::Reply> {
    broker::HttpCall call;
    call.method = method;
    call.target = target;
    auto reply = broker::http_call(address, call);
    if (!reply) return reply.error();
    return Backend::Reply{static_cast<int>(reply->status), std::move(reply->body)};
  };
  backend.find_obstacles = broker::offline::find_obstacles;
  backend.read_halts = broker::offline::read_halts;
  backend.forget_sink = broker::offline::forget_sink;
  backend.rename_sink = broker::offline::rename_sink;
  backend.reset_sink = broker::offline::reset_sink;
  backend.purge_dead_letters = broker::offline::purge_dead_letters;
  backend.check_journal = broker::offline::check_journal;
  backend.repair_journal = broker::offline::repair_journal;
  const Output output{std::cout, std::cerr, ::isatty(STDERR_FILENO) == 1};
  const int code = execute({argv + 1, argv + argc}, backend, output);
  // A result that could not be written, to a full disk or a closed pipe, was not given.
  std::cout.flush();
  return code == kOk && !std::cout ? kFailed : code;
}

}  // namespace spillway::cli
