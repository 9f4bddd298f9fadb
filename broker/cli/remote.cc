#include "broker/cli/remote.h"

#include <boost/json.hpp>

namespace spillway::cli {
namespace {

namespace json = boost::json;

// {"error": "..."} as the broker answers, else the body as it is.
std::string error_of(const Backend::Reply& reply) {
  boost::system::error_code failed;
  const auto value = json::parse(reply.body, failed);
  if (!failed && value.is_object()) {
    if (const auto* error = value.as_object().if_contains("error"); error && error->is_string()) {
      return std::string(error->as_string());
    }
  }
  return "the broker answered " + std::to_string(reply.status) + ": " + reply.body;
}

}  // namespace

Outcome<config::Config> load_config(const std::string& file) {
  auto loaded = config::load(file);
  if (!loaded) return Failure{loaded.error().message, kUsage};
  return *loaded;
}

Outcome<config::Address> admin_address(const RemoteOptions& options) {
  if (!options.admin.empty()) {
    std::string_view text = options.admin;
    // What a browser shows is taken too.
    if (text.starts_with("http://")) {
      text.remove_prefix(std::string_view("http://").size());
      if (text.ends_with('/')) text.remove_suffix(1);
    }
    auto address = config::parse_address(text, true);
    if (!address) return Failure{"--admin: " + address.error().message, kUsage};
    return *address;
  }
  if (options.config.empty()) return config::Admin{}.listen;
  const auto loaded = load_config(options.config);
  if (!loaded) return loaded.error();
  const auto& listen = loaded->admin.listen;
  if (listen.kind == config::Address::Kind::tcp && listen.port == 0) {
    return Failure{"admin.listen lets the system choose a port: say --admin HOST:PORT", kUsage};
  }
  return listen;
}

Outcome<JournalPlace> find_journal(const JournalOptions& options) {
  JournalPlace place{options.data_dir, std::nullopt};
  if (!options.config.empty()) {
    auto loaded = load_config(options.config);
    if (!loaded) return loaded.error();
    if (place.data_dir.empty()) place.data_dir = loaded->data_dir;
    place.config = std::move(*loaded);
  }
  if (place.data_dir.empty()) return Failure{"say --config FILE or --data-dir DIR", kUsage};
  return place;
}

Outcome<Remote> Remote::at(const RemoteOptions& options, const Context& context) {
  auto address = admin_address(options);
  if (!address) return address.error();
  return Remote(*address, context);
}

Outcome<std::string> Remote::request(std::string_view method, const std::string& target) {
  auto reply = context_->backend.request(address_, method, target);
  unreachable_ = !reply.has_value();
  if (!reply) {
    // The client names the address too.
    const std::string& why = reply.error().message;
    const std::string where = to_string(address_);
    return Failure{"no broker answers" +
                   (why.find(where) == std::string::npos ? " at " + where : "") + ": " + why};
  }
  if (reply->status < 200 || reply->status >= 300) return Failure{error_of(*reply)};
  return {boost::system::in_place_value, std::move(reply->body)};
}

Outcome<json::object> Remote::post(const std::string& target) {
  auto body = request("POST", target);
  if (!body) return body.error();
  boost::system::error_code failed;
  auto value = json::parse(*body, failed);
  if (failed || !value.is_object()) return Failure{"the broker's answer is not JSON: " + *body};
  return std::move(value.as_object());
}

Outcome<broker::StatusReport> Remote::status(std::string* text) {
  auto body = request("GET", "/api/v1/status");
  if (!body) return body.error();
  auto report = broker::parse_status(*body);
  if (!report) return Failure{report.error().message};
  if (text != nullptr) *text = std::move(*body);
  return std::move(*report);
}

}  // namespace spillway::cli
