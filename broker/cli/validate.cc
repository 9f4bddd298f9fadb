// run and validate: both read the whole configuration and show everything that is wrong with it.
#include <boost/json.hpp>
#include <ostream>

#include "broker/cli/commands.h"
#include "broker/config/check.h"

namespace spillway::cli {
namespace {

namespace json = boost::json;

json::array diagnostics_json(const std::vector<config::Diagnostic>& diagnostics) {
  json::array out;
  for (const auto& diagnostic : diagnostics) {
    out.push_back(json::object{{"file", diagnostic.file},
                               {"line", diagnostic.line},
                               {"column", diagnostic.column},
                               {"key", diagnostic.key},
                               {"message", diagnostic.message}});
  }
  return out;
}

std::string lines(const std::string& what, const std::vector<config::Diagnostic>& diagnostics) {
  std::string out;
  for (const auto& diagnostic : diagnostics) out += what + to_string(diagnostic) + "\n";
  return out;
}

}  // namespace

int run(const RunOptions& options, const Context& context) {
  const auto loaded = config::load(options.config);
  if (!loaded) return context.fail(loaded.error().message, kUsage);
  std::string cannot_start;
  const int code = context.backend.run(*loaded, options.accept_drop, cannot_start);
  // The log has said so to whoever reads text.
  return context.json && !cannot_start.empty() ? context.fail(cannot_start, code) : code;
}

int validate(const std::string& file, const Context& context) {
  std::vector<config::Diagnostic> errors;
  config::Environment environment;
  if (const auto loaded = config::load(file, &errors)) {
    environment = config::check_environment(*loaded);
    errors = std::move(environment.problems);
    if (const auto obstacles = context.backend.find_obstacles(*loaded)) {
      for (const auto& obstacle : *obstacles) {
        const std::string sink = obstacle.sink.empty() ? "" : "/" + obstacle.sink;
        errors.push_back({file, 0, 0, obstacle.stream + sink, obstacle.text});
      }
      environment.checked.push_back("data_dir: stored streams and sinks against configured ones");
    } else {
      errors.push_back({file, 0, 0, "data_dir", obstacles.error().message});
    }
  }
  const bool ok = errors.empty();
  if (context.json) {
    json::array checked(environment.checked.begin(), environment.checked.end());
    context.print({{"ok", ok},
                   {"errors", diagnostics_json(errors)},
                   {"warnings", diagnostics_json(environment.warnings)},
                   {"checked", std::move(checked)}},
                  "");
    return ok ? kOk : kUsage;
  }
  for (const auto& line : environment.checked) context.output.out << "checked: " << line << "\n";
  context.output.err << lines("warning: ", environment.warnings) << lines("error: ", errors);
  context.output.out << file
                     << (ok ? " is good\n"
                            : ": " + std::to_string(errors.size()) +
                                  (errors.size() == 1 ? " error\n" : " errors\n"));
  return ok ? kOk : kUsage;
}

}  // namespace spillway::cli
