// Asking a running broker through its admin listener.
#pragma once

#include <boost/json/object.hpp>
#include <filesystem>
#include <optional>
#include <string>

#include "broker/cli/commands.h"
#include "broker/status.h"

namespace spillway::cli {

// An error that also says how the process should end.
struct Failure {
  std::string message;
  int code = kFailed;
};
template <class T>
using Outcome = boost::system::result<T, Failure>;
[[noreturn]] inline void throw_exception_from_error(const Failure& failure,
                                                    const boost::source_location&) {
  throw std::runtime_error(failure.message);
}

// --admin, else admin.listen of --config, else the default. Usage errors for what is no address.
Outcome<config::Address> admin_address(const RemoteOptions& options);
// The configuration, or kUsage with everything that is wrong with it.
Outcome<config::Config> load_config(const std::string& file);

// Where a journal lies: --data-dir, or that of --config.
struct JournalPlace {
  std::filesystem::path data_dir;
  std::optional<config::Config> config;
};
Outcome<JournalPlace> find_journal(const JournalOptions& options);

class Remote {
 public:
  static Outcome<Remote> at(const RemoteOptions& options, const Context& context);

  // Nobody answered: kFailed, `unreachable` is set. An answer that is no success: its error text.
  Outcome<std::string> request(std::string_view method, const std::string& target);
  Outcome<boost::json::object> post(const std::string& target);
  Outcome<broker::StatusReport> status(std::string* text = nullptr);
  bool unreachable() const { return unreachable_; }

 private:
  Remote(config::Address address, const Context& context)
      : address_(std::move(address)), context_(&context) {}

  config::Address address_;
  const Context* context_;
  bool unreachable_ = false;
};

}  // namespace spillway::cli
