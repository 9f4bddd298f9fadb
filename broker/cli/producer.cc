#include "broker/cli/producer.h"

#include <utility>

#include "broker/config/units.h"

namespace spillway::cli {

Outcome<client::Options> client_options(const std::string& connect, const std::string& stream,
                                        const std::string& token_file) {
  client::Options options;
  options.connect = connect;
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
      say("the stream is halted: " + cause.kind +
          (cause.sink.empty() ? "" : " of sink " + cause.sink) +
          (cause.text.empty() ? "" : ": " + cause.text));
    }
  };
  events.on_resume = [say] { say("the stream goes on"); };
  events.on_state = [say = std::move(say)](client::State state, const std::string& why) {
    if (state == client::State::connecting && !why.empty()) say("connecting again: " + why);
  };
  return events;
}

}  // namespace spillway::cli
