// HttpRouter: from method and path to a handler.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "broker/admin/http.h"

namespace spillway::broker {

// Not thread-safe: fill it first, then only match.
class HttpRouter {
 public:
  // `pattern` is a path in which a whole segment may be a {name}, such as "/streams/{stream}/halt".
  // An earlier route wins.
  void add(std::string method, std::string_view pattern, HttpHandler handler);

  struct Match {
    HttpHandler handler;
    HttpRequest request;
  };
  // Finds the route of `method` and `target` (path and query as they came); else the response to
  // give: 400, 404, or 405 with the methods that there are. `request` has no body yet.
  std::optional<Match> match(std::string_view method, std::string_view target,
                             HttpResponse& otherwise) const;

 private:
  struct Route {
    std::string method;
    std::vector<std::string> segments;
    HttpHandler handler;
  };
  std::vector<Route> routes_;
};

}  // namespace spillway::broker
