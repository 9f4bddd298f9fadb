// The commands, apart from how their arguments are written.
#pragma once

#include <boost/json/object.hpp>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "broker/cli/cli.h"

namespace spillway::cli {

// What every command needs to know of how it was called.
struct Context {
  const Backend& backend;
  const Output& output;
  bool json = false;

  // Prints an error the way --json or a person wants it, and returns `code`.
  int fail(const std::string& message, int code = kFailed) const;
  // Prints the object with --json, else the text.
  void print(const boost::json::object& object, const std::string& text) const;
};

struct RunOptions {
  std::string config;
  bool accept_drop = false;
};
struct RemoteOptions {
  std::string config;  // its admin.listen says where, or
  std::string admin;   // this does; neither: the default address
};
struct SinkOptions : RemoteOptions {
  std::string sink;      // "stream/sink", or "sink" when only one stream has it
  std::string new_name;  // rename
  std::string from;      // reset: a position
  bool accept_drop = false;
};
struct HaltClearOptions : RemoteOptions {
  std::string stream;  // empty: the only one that is halted
  bool accept_loss = false;
  std::string extend;  // a duration or a size
};
struct JournalOptions {
  std::string config;    // its data_dir, or
  std::string data_dir;  // this
};
struct JournalRepairOptions : JournalOptions {
  bool apply = false;
  std::vector<std::string> forget;  // streams
};
struct JournalStatusOptions : JournalOptions {
  std::uint64_t ledger = 10;  // newest entries to show
};
struct JournalLedgerOptions : JournalOptions {
  std::string stream;
  std::uint64_t count = 0;  // the newest; 0: all
};
struct JournalCatOptions : JournalOptions {
  std::string stream;
  std::string from;
  std::string to;
  std::uint64_t count = 0;  // 0: all
  std::string framing = "lines";
};
struct JournalExportOptions : JournalCatOptions {
  std::string output = "-";
  bool force = false;
};
struct DeadLetterOptions : JournalOptions {
  std::string stream;  // empty: all
  std::string sink;    // empty: all
  std::string position;
};
struct DeadLetterReplayOptions : DeadLetterOptions {
  std::string connect;
  std::string into;           // the stream to publish to
  std::string give_up_after;  // a duration; empty: never
  std::string token_file;
};
struct PublishOptions {
  std::string connect;
  std::string stream;
  std::string file = "-";
  std::string framing = "lines";
  bool resume = false;
  std::uint64_t rate = 0;     // records a second; 0: as fast as it goes
  std::string give_up_after;  // a duration; empty: never
  std::string token_file;
};

int run(const RunOptions& options, const Context& context);
int validate(const std::string& config, const Context& context);
int status(const RemoteOptions& options, const Context& context);
int halt_show(const RemoteOptions& options, const Context& context);
int halt_clear(const HaltClearOptions& options, const Context& context);
int sink_list(const RemoteOptions& options, const Context& context);
// `action`: pause, resume or reconnect.
int sink_command(const std::string& action, const SinkOptions& options, const Context& context);
int sink_forget(const SinkOptions& options, const Context& context);
int sink_rename(const SinkOptions& options, const Context& context);
int sink_reset(const SinkOptions& options, const Context& context);
int journal_status(const JournalStatusOptions& options, const Context& context);
int journal_check(const JournalOptions& options, const Context& context);
int journal_repair(const JournalRepairOptions& options, const Context& context);
int journal_ledger(const JournalLedgerOptions& options, const Context& context);
int journal_cat(const JournalCatOptions& options, const Context& context);
int journal_export(const JournalExportOptions& options, const Context& context);
int dead_letters_list(const DeadLetterOptions& options, const Context& context);
int dead_letters_show(const DeadLetterOptions& options, const Context& context);
int dead_letters_replay(const DeadLetterReplayOptions& options, const Context& context);
int dead_letters_purge(const DeadLetterOptions& options, const Context& context);
int publish(const PublishOptions& options, const Context& context);

}  // namespace spillway::cli
