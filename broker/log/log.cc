#include "broker/log/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cmath>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>

#include "broker/log/escape.h"
#include "broker/log/limiter.h"

namespace spillway::log {
namespace {

using Writer = std::function<void(std::string_view)>;

class WriterSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit WriterSink(Writer writer) : writer_(std::move(writer)) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    writer_(std::string_view(line.data(), line.size()));
  }
  void flush_() override {}

  Writer writer_;
};

spdlog::level::level_enum level_of(Level level) {
  switch (level) {
    case Level::debug: return spdlog::level::debug;
    case Level::info: return spdlog::level::info;
    case Level::warning: return spdlog::level::warn;
    case Level::error: return spdlog::level::err;
    case Level::off: break;
  }
  return spdlog::level::off;
}

// Time and level are spdlog's pattern, the rest is made here: its own formatting escapes nothing.
class Log {
 public:
  Log() { set_writer({}); }

  void init(Format format, Level level) {
    format_ = format;
    level_ = level;
    limiter_.clear();
    apply();
  }

  void set_writer(Writer writer) {
    std::string eol = "\n";
    std::shared_ptr<spdlog::sinks::sink> sink;
    if (writer) {
      eol.clear();
      sink = std::make_shared<WriterSink>(std::move(writer));
    } else {
      sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    }
    eol_ = eol;
    // Synchronous, and not in spdlog's registry: nothing to shut down in the right order.
    logger_ = std::make_unique<spdlog::logger>("spillway", std::move(sink));
    apply();
  }

  bool enabled(Level level) const { return logger_->should_log(level_of(level)); }
  Format format() const { return format_; }
  Limiter& limiter() { return limiter_; }
  void write(Level level, std::string_view line) {
    logger_->log(level_of(level), spdlog::string_view_t(line.data(), line.size()));
  }

 private:
  void apply() {
    const char* pattern = format_ == Format::json
                              ? R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v})"
                              : "%Y-%m-%dT%H:%M:%S.%eZ %l %v";
    logger_->set_formatter(
        std::make_unique<spdlog::pattern_formatter>(pattern, spdlog::pattern_time_type::utc, eol_));
    logger_->set_level(level_of(level_));
  }

  Format format_ = Format::text;
  Level level_ = Level::info;
  std::string eol_;
  Limiter limiter_;
  std::unique_ptr<spdlog::logger> logger_;
};

// Never destroyed: a line may still be written while statics are being destroyed.
Log& the_log() {
  static Log& log = *new Log;
  return log;
}

void append_value(std::string& out, const Field& field, Format format) {
  const bool json = format == Format::json;
  const auto text = [&](std::string_view value) {
    if (value.size() > kMaxValueBytes) {
      const std::string cut = std::string(value.substr(0, kMaxValueBytes)) + "...";
      return json ? append_json(out, cut) : append_text(out, cut);
    }
    json ? append_json(out, value) : append_text(out, value);
  };
  std::visit(
      [&](const auto& value) {
        using T = std::remove_cvref_t<decltype(value)>;
        if constexpr (std::is_same_v<T, std::string_view>) {
          text(value);
        } else if constexpr (std::is_same_v<T, bool>) {
          out += value ? "true" : "false";
        } else if constexpr (std::is_same_v<T, Position>) {
          text(to_string(value));
        } else if constexpr (std::is_same_v<T, double>) {
          // JSON has no infinity and no NaN.
          const std::string number = fmt::format("{:.6g}", value);
          json && !std::isfinite(value) ? text(number) : static_cast<void>(out += number);
        } else {
          out += std::to_string(value);
        }
      },
      field.value());
}

std::string kind_of(std::string_view event, Fields fields) {
  std::string kind(event);
  for (const Field& field : fields) {
    if (field.key() != "stream" && field.key() != "sink") continue;
    if (const auto* name = std::get_if<std::string_view>(&field.value())) {
      kind += '\n';
      kind += *name;
    }
  }
  return kind;
}

void write(Level level, std::string_view event, Fields fields) {
  Log& log = the_log();
  if (!log.enabled(level)) return;
  const auto held_back = log.limiter().admit(kind_of(event, fields), Limiter::Time::clock::now());
  if (!held_back) return;
  std::string line;
  if (log.format() == Format::json) {
    line += "\"event\":";
    append_json(line, event);
    for (const Field& field : fields) {
      line += ',';
      append_json(line, field.key());
      line += ':';
      append_value(line, field, Format::json);
    }
    if (*held_back > 0) line += ",\"held_back\":" + std::to_string(*held_back);
  } else {
    line += event;
    for (const Field& field : fields) {
      line += ' ';
      line += field.key();
      line += '=';
      append_value(line, field, Format::text);
    }
    if (*held_back > 0) line += " held_back=" + std::to_string(*held_back);
  }
  log.write(level, line);
}

}  // namespace

void init(Format format, Level level) { the_log().init(format, level); }
void set_writer(Writer writer) { the_log().set_writer(std::move(writer)); }
bool enabled(Level level) { return the_log().enabled(level); }

void debug(std::string_view event, Fields fields) { write(Level::debug, event, fields); }
void info(std::string_view event, Fields fields) { write(Level::info, event, fields); }
void warning(std::string_view event, Fields fields) { write(Level::warning, event, fields); }
void error(std::string_view event, Fields fields) { write(Level::error, event, fields); }

}  // namespace spillway::log
