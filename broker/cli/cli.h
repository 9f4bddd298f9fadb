// The command line: parses arguments, carries out one command, returns the exit code of the
// process. broker/cli/README.md has the commands, the JSON they print and the admin requests they
// make.
#pragma once

#include <functional>
#include <iosfwd>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/position.h"
#include "base/result.h"
#include "broker/config/config.h"
#include "broker/journal_report.h"
#include "broker/offline.h"

namespace spillway::cli {

enum Exit : int {
  kOk = 0,
  kFailed = 1,
  kUsage = 2,   // wrong arguments, or a configuration that is wrong
  kHalted = 3,  // a stream is halted
};

// Starts the broker and returns the exit code once it has stopped. `accept_drop`: what is over a
// limit that was lowered may be dropped. `cannot_start` gets why it did not start, which is logged.
using RunFunction =
    std::function<int(const config::Config&, bool accept_drop, std::string& cannot_start)>;

// Everything a command reaches outside its own process, so that tests can stand in for it.
struct Backend {
  struct Reply {
    int status = 0;
    std::string body;
  };
  RunFunction run;
  // An HTTP request to an admin listener. An error: nobody answered.
  std::function<Result<Reply>(const config::Address&, std::string_view method,
                              const std::string& target)>
      request;
  // As in broker/offline.h and broker/journal_report.h.
  std::function<decltype(broker::offline::find_obstacles)> find_obstacles;
  std::function<decltype(broker::offline::read_halts)> read_halts;
  std::function<decltype(broker::offline::forget_sink)> forget_sink;
  std::function<decltype(broker::offline::rename_sink)> rename_sink;
  std::function<decltype(broker::offline::reset_sink)> reset_sink;
  std::function<decltype(broker::offline::purge_dead_letters)> purge_dead_letters;
  std::function<decltype(broker::offline::check_journal)> check_journal;
  std::function<decltype(broker::offline::repair_journal)> repair_journal;
};

struct Output {
  std::ostream& out;      // results
  std::ostream& err;      // errors and progress
  bool terminal = false;  // `err` is one: progress may be redrawn
};

// `arguments` without the program's name.
int execute(const std::vector<std::string>& arguments, const Backend& backend,
            const Output& output);

// execute() with the real backend on the standard streams.
int main(int argc, char** argv, RunFunction run);

}  // namespace spillway::cli
