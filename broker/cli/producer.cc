#include "broker/cli/producer.h"

#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "broker/cli/text.h"
#include "broker/config/units.h"

namespace spillway::cli {

Outcome<client::Options> client_options(const std::string& connect, const std::string& stream,
                                        const std::string& token_file) {
  client::Options options;
  options.connect = connect;
  // The library wants an absolute path; a shell has a folder that relative ones are meant in.
  if (constexpr std::string_view kUnix = "unix://";
      connect.starts_with(kUnix) && connect.size() > kUnix.size() && connect[kUnix.size()] != '/') {
    std::error_code error;
    const auto path = std::filesystem::absolute(connect.substr(kUnix.size()), error);
    if (!error) options.connect = std::string(kUnix) + path.lexically_normal().string();
  }
  options.stream = stream;
  if (!token_file.empty()) {
    const auto tokens = config::read_tokens(token_file);
    if (!tokens) return Failure{tokens.error().message, kUsage};
    options.token = tokens->front();
  }
  return options;
}

client::Events announcements(std::function<void(const std::string&)> say) {
  client::Events events;
  events.on_halt = [say](const std::vector<client::HaltCause>& causes) {
    for (const auto& cause : causes) {
      say("the stream is halted: " + cause_text(cause.kind, cause.sink, cause.text));
    }
  };
  events.on_resume = [say] { say("the stream goes on"); };
  events.on_state = [say = std::move(say)](client::State state, const std::string& why) {
    if (state == client::State::connecting && !why.empty()) say("connecting again: " + why);
  };
  return events;
}

}  // namespace spillway::cli
