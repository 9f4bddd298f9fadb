// What operators and monitors can ask of a broker over HTTP.
#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/json.hpp>
#include <utility>

#include "broker/broker.h"
#include "broker/config/units.h"
#include "broker/version.h"

namespace spillway::broker {

namespace asio = boost::asio;
namespace json = boost::json;

namespace {

HttpResponse ok(json::object object) {
  json::object reply{{"ok", true}};
  for (auto& [key, value] : object) reply[key] = std::move(value);
  return {200, json::serialize(reply) + "\n"};
}

HttpResponse plain(unsigned status, std::string text) {
  return {status, std::move(text), "text/plain; charset=utf-8"};
}

bool has_flag(const HttpRequest& request, const std::string& name) {
  const auto found = request.query.find(name);
  return found != request.query.end() && found->second != "0" && found->second != "false";
}

Stream::Reply answer(const Responder& respond) {
  return [respond](bool done, std::string text) {
    respond(done ? ok({{"message", std::move(text)}}) : http_error(409, text));
  };
}

}  // namespace

void Broker::add_routes() {
  admin_->route("GET", "/metrics",
                [this](HttpRequest, Responder respond) { serve_metrics(respond); });
  admin_->route("GET", "/healthz",
                [](HttpRequest, Responder respond) { respond(plain(200, "ok\n")); });
  admin_->route("GET", "/readyz", [this](HttpRequest, Responder respond) {
    respond(ready_ ? plain(200, "ready\n") : plain(503, stopping_ ? "stopping\n" : "starting\n"));
  });
  admin_->route("GET", "/api/v1/status",
                [this](HttpRequest, Responder respond) { serve_status(respond); });
  const std::string sink = "/api/v1/streams/{stream}/sinks/{sink}/";
  const auto add_command = [this, &sink](const std::string& name, recovery::SinkCommand command) {
    admin_->route("POST", sink + name, [this, command](HttpRequest request, Responder respond) {
      command_sink(request, respond, command);
    });
  };
  add_command("pause", recovery::SinkCommand::pause);
  add_command("resume", recovery::SinkCommand::resume);
  add_command("reconnect", recovery::SinkCommand::reconnect);
  admin_->route("POST", sink + "reset",
                [this](HttpRequest request, Responder respond) { reset_sink(request, respond); });
  admin_->route("POST", "/api/v1/streams/{stream}/halt/clear",
                [this](HttpRequest request, Responder respond) { clear_halt(request, respond); });
}

void Broker::serve_metrics(const Responder& respond) {
  gather([](Stream& stream, std::size_t) { stream.sample(); },
         [this, respond] {
           sample_journal();
           respond({200, metrics_.expose(), metrics::Metrics::kContentType});
         });
}

void Broker::serve_status(const Responder& respond) {
  const auto report = std::make_shared<StatusReport>();
  report->version = kVersion;
  report->streams.resize(streams_.size());
  // Each stream fills its own element, and the last one is done before any is read.
  gather([report](Stream& stream, std::size_t index) { report->streams[index] = stream.status(); },
         [this, respond, report] {
           const auto uptime = std::chrono::steady_clock::now() - started_at_;
           report->uptime_seconds = std::chrono::duration<double>(uptime).count();
           report->ready = ready_;
           report->stopping = stopping_;
           const journal::Stats stats = journal_->stats();
           report->journal.disk_bytes = stats.disk_bytes;
           report->journal.max_disk_bytes = stats.max_disk_bytes;
           report->journal.free_bytes = stats.free_bytes;
           report->journal.min_free_disk = config_.journal.min_free_disk;
           report->journal.failing = stats.failing;
           report->journal.last_error = stats.last_error;
           const double left = limit_left(stats);
           if (left < metrics::kNever) report->journal.exhaustion_seconds = left;
           respond({200, json::serialize(to_json(*report)) + "\n"});
         });
}

void Broker::command_sink(const HttpRequest& request, const Responder& respond,
                          recovery::SinkCommand command) {
  const auto stream = find_stream(request.parameters.at("stream"));
  if (stream == nullptr) return respond(http_error(404, "no such stream"));
  asio::post(stream->io(), [stream, respond, command, sink = request.parameters.at("sink")] {
    if (!stream->command(sink, command, answer(respond))) {
      respond(http_error(404, "no such sink"));
    }
  });
}

void Broker::reset_sink(const HttpRequest& request, const Responder& respond) {
  const auto stream = find_stream(request.parameters.at("stream"));
  if (stream == nullptr) return respond(http_error(404, "no such stream"));
  std::optional<Position> from;
  if (const auto text = request.query.find("from"); text != request.query.end()) {
    from = parse_position(text->second);
    if (!from) return respond(http_error(400, "from is not epoch/sequence"));
  }
  asio::post(stream->io(), [stream, respond, from, accept_drop = has_flag(request, "accept_drop"),
                            sink = request.parameters.at("sink")] {
    if (!stream->reset(sink, from, accept_drop, answer(respond))) {
      respond(http_error(404, "no such sink"));
    }
  });
}

void Broker::clear_halt(const HttpRequest& request, const Responder& respond) {
  const auto stream = find_stream(request.parameters.at("stream"));
  if (stream == nullptr) return respond(http_error(404, "no such stream"));
  recovery::event::HaltCleared how;
  how.accept_loss = has_flag(request, "accept_loss");
  if (const auto text = request.query.find("extend"); text != request.query.end()) {
    if (const auto time = config::parse_duration(text->second)) {
      how.extend_time = *time;
    } else if (const auto bytes = config::parse_bytes(text->second)) {
      how.extend_bytes = *bytes;
    } else {
      return respond(http_error(400, "extend is neither a duration nor a size"));
    }
  }
  asio::post(stream->io(), [stream, respond, how] {
    stream->clear_halt(how, [stream, respond](bool done, std::string text) {
      if (!done) return respond(http_error(409, text));
      respond(ok({{"message", std::move(text)}, {"halted", stream->halted()}}));
    });
  });
}

}  // namespace spillway::broker
