#include "broker/admin/router.h"

#include <algorithm>
#include <atomic>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <boost/url/parse.hpp>
#include <boost/url/url_view.hpp>
#include <utility>

namespace spillway::broker {
namespace {

bool is_parameter(std::string_view segment) {
  return segment.size() > 2 && segment.front() == '{' && segment.back() == '}';
}

bool matches(const std::vector<std::string>& pattern, const std::vector<std::string>& path) {
  return std::equal(pattern.begin(), pattern.end(), path.begin(), path.end(),
                    [](const std::string& want, const std::string& have) {
                      return is_parameter(want) ? !have.empty() : want == have;
                    });
}

}  // namespace

HttpResponse http_error(unsigned status, std::string_view message) {
  boost::json::object body;
  body["error"] = boost::json::string_view(message.data(), message.size());
  return {.status = status, .body = boost::json::serialize(body) + "\n"};
}

struct Responder::State {
  explicit State(std::function<void(HttpResponse)> function) : send(std::move(function)) {}
  ~State() {
    if (!sent) send(http_error(500, "the request was given up"));
  }
  std::function<void(HttpResponse)> send;
  std::atomic<bool> sent = false;
};

Responder::Responder(std::function<void(HttpResponse)> send)
    : state_(std::make_shared<State>(std::move(send))) {}

void Responder::operator()(HttpResponse response) const {
  if (!state_->sent.exchange(true)) state_->send(std::move(response));
}

void HttpRouter::add(std::string method, std::string_view pattern, HttpHandler handler) {
  Route route{std::move(method), {}, std::move(handler)};
  if (pattern == "/") pattern = {};
  while (!pattern.empty()) {
    pattern.remove_prefix(1);  // the slash
    const std::size_t end = std::min(pattern.find('/'), pattern.size());
    route.segments.emplace_back(pattern.substr(0, end));
    pattern.remove_prefix(end);
  }
  routes_.push_back(std::move(route));
}

std::optional<HttpRouter::Match> HttpRouter::match(std::string_view method, std::string_view target,
                                                   HttpResponse& otherwise) const {
  const auto url = boost::urls::parse_origin_form({target.data(), target.size()});
  if (!url) {
    otherwise = http_error(400, "the target of the request is not a path");
    return std::nullopt;
  }
  std::vector<std::string> path;
  for (const auto& segment : url->segments()) path.push_back(segment);
  std::string allow;
  for (const Route& route : routes_) {
    if (!matches(route.segments, path)) continue;
    if (route.method != method) {
      if (allow.find(route.method) == std::string::npos) {
        allow += (allow.empty() ? "" : ", ") + route.method;
      }
      continue;
    }
    Match match{route.handler, {}};
    match.request.method = method;
    match.request.path = url->path();
    for (std::size_t i = 0; i < path.size(); ++i) {
      const std::string& name = route.segments[i];
      if (is_parameter(name)) match.request.parameters[name.substr(1, name.size() - 2)] = path[i];
    }
    for (const auto& each : url->params()) match.request.query[each.key] = each.value;
    return match;
  }
  if (allow.empty()) {
    otherwise = http_error(404, "there is nothing at this path");
  } else {
    otherwise = http_error(405, "this path takes " + allow + " only");
    otherwise.allow = allow;
  }
  return std::nullopt;
}

}  // namespace spillway::broker
