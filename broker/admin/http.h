// Requests and responses, as the routes of the broker see them.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

namespace spillway::broker {

struct HttpRequest {
  std::string method;  // GET or POST; a HEAD arrives as GET
  std::string path;
  std::map<std::string, std::string> parameters;  // what {names} in the pattern stand for, decoded
  std::map<std::string, std::string> query;       // decoded; of a repeated name the last
  std::string body;
};

struct HttpResponse {
  unsigned status = 200;
  std::string body;  // JSON unless content_type says otherwise
  std::string content_type = "application/json";
  std::string allow = {};  // the header of a 405
};

// {"error": message} with that status.
HttpResponse http_error(unsigned status, std::string_view message);

// The way back to the client. May be kept, copied and called from any thread, as long as the
// io_context lives; the first call counts. If it is never called and all copies are gone, the
// client gets a 500; if it takes longer than AdminLimits::handler, a 503.
class Responder {
 public:
  explicit Responder(std::function<void(HttpResponse)> send);
  void operator()(HttpResponse response) const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

using HttpHandler = std::function<void(HttpRequest, Responder)>;

}  // namespace spillway::broker
