#include <string_view>

#include "base/invariant.h"
#include "base/position.h"
#include "broker/admin/router.h"
#include "broker/config/units.h"
#include "tests/fuzz/targets.h"

namespace spillway::fuzz {

namespace {

// Patterns as the broker has them.
const broker::HttpRouter& router() {
  static const broker::HttpRouter kRouter = [] {
    broker::HttpRouter made;
    const broker::HttpHandler none = [](broker::HttpRequest, broker::Responder) {};
    made.add("GET", "/", none);
    made.add("GET", "/metrics", none);
    made.add("GET", "/api/v1/status", none);
    made.add("POST", "/api/v1/streams/{stream}/halt/clear", none);
    made.add("POST", "/api/v1/streams/{stream}/sinks/{sink}/reset", none);
    return made;
  }();
  return kRouter;
}

}  // namespace

void http(Bytes input) {
  const std::string_view target(reinterpret_cast<const char*>(input.data()), input.size());
  for (const char* method : {"GET", "POST", "DELETE"}) {
    broker::HttpResponse otherwise;
    const auto match = router().match(method, target, otherwise);
    if (!match) {
      INVARIANT(otherwise.status == 400 || otherwise.status == 404 || otherwise.status == 405);
      INVARIANT((otherwise.status == 405) == !otherwise.allow.empty());
      continue;
    }
    INVARIANT(match->handler && match->request.method == method);
    for (const auto& [name, value] : match->request.parameters) INVARIANT(!value.empty());
    for (const auto& [name, value] : match->request.query) {
      if (const auto position = parse_position(value)) INVARIANT(to_string(*position) == value);
      (void)config::parse_duration(value);
      (void)config::parse_bytes(value);
    }
  }
}

}  // namespace spillway::fuzz
