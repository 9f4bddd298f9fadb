#include "broker/config/config.h"

#include <string_view>

#include "base/invariant.h"
#include "tests/fuzz/targets.h"

namespace spillway::fuzz {

void config(Bytes input) {
  const std::string_view text(reinterpret_cast<const char*>(input.data()), input.size());
  std::vector<config::Diagnostic> diagnostics;
  const auto parsed = config::parse(text, "/fuzz/spillway.toml", &diagnostics);
  if (parsed) {
    INVARIANT(!parsed->ingress.empty() && !parsed->streams.empty() && !parsed->data_dir.empty());
    return;
  }
  INVARIANT(!parsed.error().message.empty() && !diagnostics.empty());
  for (const config::Diagnostic& diagnostic : diagnostics) {
    INVARIANT(!config::to_string(diagnostic).empty() && !diagnostic.message.empty());
  }
}

}  // namespace spillway::fuzz
