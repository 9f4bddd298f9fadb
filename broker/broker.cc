#include "broker/broker.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <random>
#include <utility>

#include "base/crc32c.h"
#include "broker/config/check.h"
#include "broker/descriptors.h"
#include "broker/foreign.h"
#include "broker/log/log.h"
#include "broker/state_codec.h"
#include "broker/version.h"
#include "recovery/startup.h"

namespace spillway::broker {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

constexpr std::chrono::seconds kSampleInterval{1};

// Tells configurations apart in the metrics.
std::string hash_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  char out[9];
  std::snprintf(out, sizeof out, "%08x", crc32c(std::as_bytes(std::span(text))));
  return out;
}

metrics::Identity identity_of(const config::Config& config) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return {kVersion, hash_of(config.file), std::chrono::duration<double>(now).count()};
}

log::Level level_of(config::LogLevel level) {
  switch (level) {
    case config::LogLevel::debug: return log::Level::debug;
    case config::LogLevel::info: return log::Level::info;
    case config::LogLevel::warn: return log::Level::warning;
    case config::LogLevel::error: return log::Level::error;
  }
  return log::Level::info;
}

}  // namespace

Broker::Broker(config::Config config, bool accept_drop)
    : config_(std::move(config)),
      accept_drop_(accept_drop),
      started_at_(std::chrono::steady_clock::now()),
      metrics_(identity_of(config_)),
      journal_probe_(metrics_),
      ingress_probe_(metrics_),
      disk_forecast_(metrics::kForecastSeconds),
      free_forecast_(metrics::kForecastSeconds),
      signals_(control_),
      sample_timer_(control_),
      stop_timer_(control_) {}

// What is made last and asks most of others goes first. The reactors stand still before the journal
// is closed, so that a late completion is only queued, never run.
Broker::~Broker() {
  ingress_.reset();
  admin_.reset();
  for (const auto& reactor : reactors_) {
    reactor->io.stop();
    if (reactor->thread.joinable()) reactor->thread.join();
  }
  journal_.reset();
  streams_.clear();
  reactors_.clear();
}

std::optional<Error> Broker::start() {
  exit_code_ = 2;  // of what the configuration or its operator has to put right
  for (const config::Stream& stream : config_.streams) {
    if (stream.token_file.empty()) continue;
    auto tokens = config::read_tokens(stream.token_file);
    if (!tokens) return tokens.error();
    tokens_[stream.name] = std::move(*tokens);
  }
  descriptors_ = raise_descriptor_limit();
  if (auto error = open_journal()) {
    exit_code_ = 1;
    return error;
  }
  if (auto error = check_sockets()) return error;
  if (auto error = make_streams()) return error;
  exit_code_ = 1;
  if (auto error = open_admin()) return error;
  watch_signals();
  start_streams();
  sample();
  exit_code_ = 0;
  return std::nullopt;
}

// --- start ------------------------------------------------------------------------------------

std::optional<Error> Broker::open_journal() {
  journal::Options options;
  options.data_dir = config_.data_dir;
  for (const config::Stream& stream : config_.streams) options.streams.push_back(stream.name);
  options.max_disk_bytes = config_.journal.max_disk_bytes;
  options.min_free_disk = config_.journal.min_free_disk;
  options.group_reserve = config_.journal.group_reserve;
  options.compression = config_.journal.compression == config::Compression::none
                            ? journal::Compression::none
                            : journal::Compression::lz4;
  journal::Journal::Events events;
  events.down = [this](const std::string& error) {
    asio::post(control_, [this, error] {
      log::error("journal failed", {{"why", error}});
      fan_out([](Stream& stream) { stream.journal_down(); });
    });
  };
  events.reopened = [this](std::vector<journal::Recovered> recovered) {
    asio::post(control_, [this, recovered = std::move(recovered)] {
      log::info("journal reopened");
      fan_out([recovered](Stream& stream) {
        const auto found = std::ranges::find(recovered, stream.name(), &journal::Recovered::stream);
        if (found != recovered.end()) stream.journal_reopened(*found);
      });
    });
  };
  events.disk = [this](journal::Outcome outcome) {
    asio::post(control_, [this, outcome] {
      if (outcome == journal::Outcome::ok) {
        log::info("journal has room again");
        fan_out([](Stream& stream) { stream.disk_has_room(); });
      } else {
        log::warning("journal takes no more records", {{"why", outcome == journal::Outcome::min_free
                                                                   ? "min_free_disk is reached"
                                                                   : "max_disk_bytes is reached"}});
      }
    });
  };
  events.committed = [this](double seconds, std::uint64_t records) {
    journal_probe_.committed(seconds, records);
  };
  auto opened = journal::Journal::open(std::move(options), std::move(events));
  if (!opened) return opened.error();
  journal_ = std::move(*opened);
  return std::nullopt;
}

// Before anything is done that ends with a listener that cannot be opened.
std::optional<Error> Broker::check_sockets() const {
  const auto check = [](const std::string& key, const config::Address& address) {
    const bool is_unix = address.kind == config::Address::Kind::unix_socket;
    const auto missing = is_unix ? config::missing_folder(address.path) : std::nullopt;
    return missing ? std::optional(
                         Error{key + ": " + to_string(address) + " cannot be made, " + *missing})
                   : std::nullopt;
  };
  if (auto error = check("admin.listen", config_.admin.listen)) return error;
  for (std::size_t i = 0; i < config_.ingress.size(); ++i) {
    auto error = check("ingress[" + std::to_string(i) + "].listen", config_.ingress[i].listen);
    if (error) return error;
  }
  return std::nullopt;
}

Result<Broker::Plan> Broker::plan(const config::Stream& stream,
                                  const recovery::StreamPolicy& policy) {
  const auto& all = journal_->recovered();
  const auto found = std::ranges::find(all, stream.name, &journal::Recovered::stream);
  Plan plan;
  if (found != all.end()) plan.recovered = *found;
  std::optional<recovery::DurableState> stored;
  if (plan.recovered.state) {
    auto state = decode_state(*plan.recovered.state);
    if (!state) return Error{"stream " + stream.name + ": " + state.error().message};
    stored = std::move(*state);
  }
  if (plan.recovered.latch && !plan.recovered.latch->empty()) {
    auto latched = decode_latch(*plan.recovered.latch);
    if (!latched) return Error{"stream " + stream.name + ": " + latched.error().message};
    plan.latched = std::move(*latched);
  }
  auto state = recovery::plan_start(policy, std::move(stored), plan.recovered.end);
  if (!state) return Error{"stream " + stream.name + ": " + state.error().message};
  plan.state = std::move(*state);
  return plan;
}

std::optional<Error> Broker::make_streams() {
  std::vector<recovery::StreamPolicy> policies;
  std::random_device random;
  for (const config::Stream& stream : config_.streams) {
    policies.push_back(policy_of(stream, config_.journal, random()));
    policies.back().accept_drop = accept_drop_;
    auto planned = plan(stream, policies.back());
    if (!planned) return planned.error();
    plans_.push_back(std::move(*planned));
  }
  for (const journal::Recovered& recovered : journal_->recovered()) {
    const bool configured = std::ranges::any_of(
        config_.streams, [&](const config::Stream& s) { return s.name == recovered.stream; });
    if (configured) continue;
    if (const auto why = offline::foreign(recovered)) {
      return Error{"stream " + recovered.stream + ": " + *why};
    }
    log::warning("stream of the journal is not configured", {{"stream", recovered.stream}});
  }
  const std::size_t cores = std::max(1U, std::thread::hardware_concurrency());
  const std::size_t threads = std::min(cores, config_.streams.size());
  for (std::size_t i = 0; i < threads; ++i) reactors_.push_back(std::make_unique<Reactor>());
  for (std::size_t i = 0; i < config_.streams.size(); ++i) {
    streams_.push_back(std::make_shared<Stream>(
        reactors_[i % threads]->io, Stream::Setup{config_.streams[i], std::move(policies[i]),
                                                  *journal_, metrics_, ingress_probe_}));
  }
  return std::nullopt;
}

std::optional<Error> Broker::open_admin() {
  admin_ = std::make_unique<AdminServer>(control_);
  add_routes();
  const auto bound =
      admin_->listen(config_.admin.listen, static_cast<std::filesystem::perms>(config_.admin.mode));
  if (!bound) return Error{"[admin] listen: " + bound.error().message};
  log::info("admin listens", {{"address", to_string(*bound)}});
  return std::nullopt;
}

void Broker::start_streams() {
  const auto left = std::make_shared<std::size_t>(streams_.size());
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    asio::post(streams_[i]->io(), [this, stream = streams_[i], plan = std::move(plans_[i]), left] {
      stream->start(plan.recovered, plan.state, plan.latched, [this, left] {
        asio::post(control_, [this, left] {
          if (--*left == 0) open_ingress();
        });
      });
    });
  }
  plans_.clear();
  for (const auto& reactor : reactors_) {
    reactor->thread = std::thread([&io = reactor->io] { io.run(); });
  }
}

void Broker::open_ingress() {
  if (stopping_) return;
  const std::uint64_t kept = descriptors_kept(config_);
  if (descriptors_ < kept + config_.ingress.size() * (kMinConnections + kMaxRefusals)) {
    log::warning(
        "too few file descriptors may be open for what is configured",
        {{"limit", descriptors_}, {"wanted", kept + config_.ingress.size() * kMaxConnections}});
  }
  ingress_ = std::make_unique<Ingress>(
      control_, ingress_probe_, connections_per_listener(config_, descriptors_),
      [this](const v1::Hello& hello) { return check_hello(hello); },
      [this](Introduction introduction) { introduce(std::move(introduction)); });
  for (const config::Ingress& listener : config_.ingress) {
    const auto bound = ingress_->listen(listener);
    if (!bound) {
      log::error("cannot listen for producers", {{"why", bound.error().message}});
      exit_code_ = 1;
      return stop("a listener cannot be opened");
    }
    log::info("ingress listens", {{"address", to_string(*bound)}});
  }
  ready_ = true;
  log::info("ready", {{"version", kVersion}, {"streams", streams_.size()}});
}

// --- while it runs
// --------------------------------------------------------------------------------

std::optional<wire::Refusal> Broker::check_hello(const v1::Hello& hello) const {
  if (find_stream(hello.stream()) == nullptr) {
    return wire::Refusal{wire::RejectCode::unknown_stream,
                         "no stream of that name is configured here"};
  }
  const auto tokens = tokens_.find(hello.stream());
  if (tokens != tokens_.end() && !token_fits(hello.token(), tokens->second)) {
    return wire::Refusal{wire::RejectCode::unauthorized, "the token is missing or wrong"};
  }
  return std::nullopt;
}

void Broker::introduce(Introduction introduction) {
  const auto stream = find_stream(introduction.hello.stream());
  asio::post(stream->io(), [stream, introduction = std::move(introduction)]() mutable {
    stream->introduce(std::move(introduction));
  });
}

std::shared_ptr<Stream> Broker::find_stream(const std::string& name) const {
  const auto found =
      std::ranges::find_if(streams_, [&](const auto& stream) { return stream->name() == name; });
  return found == streams_.end() ? nullptr : *found;
}

void Broker::fan_out(std::function<void(Stream&)> tell) {
  for (const auto& stream : streams_) {
    asio::post(stream->io(), [stream, tell] { tell(*stream); });
  }
}

void Broker::gather(std::function<void(Stream&, std::size_t)> ask, std::function<void()> done) {
  const auto left = std::make_shared<std::size_t>(streams_.size());
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    asio::post(streams_[i]->io(), [this, stream = streams_[i], i, ask, done, left] {
      ask(*stream, i);
      asio::post(control_, [done, left] {
        if (--*left == 0) done();
      });
    });
  }
}

void Broker::sample() {
  fan_out([](Stream& stream) { stream.sample(); });
  sample_journal();
  sample_timer_.expires_after(kSampleInterval);
  sample_timer_.async_wait([this](error_code error) {
    if (!error) sample();
  });
}

double Broker::limit_left(const journal::Stats& stats) const {
  const auto reserve = static_cast<double>(config_.journal.min_free_disk);
  double left = std::min(disk_forecast_.seconds_below(static_cast<double>(stats.max_disk_bytes)),
                         free_forecast_.seconds_below(-reserve));
  for (const auto& stream : streams_) left = std::min(left, stream->limit_left());
  return left;
}

void Broker::sample_journal() {
  const journal::Stats stats = journal_->stats();
  const std::chrono::duration<double> uptime = std::chrono::steady_clock::now() - started_at_;
  disk_forecast_.observe(uptime.count(), static_cast<double>(stats.disk_bytes));
  free_forecast_.observe(uptime.count(), -static_cast<double>(stats.free_bytes));
  metrics::JournalSample sample;
  sample.disk_bytes = stats.disk_bytes;
  sample.disk_limit_bytes = stats.max_disk_bytes;
  sample.free_bytes = stats.free_bytes;
  sample.orphaned_bytes = stats.kept_bytes;
  sample.exhaustion_seconds = limit_left(stats);
  sample.failing = stats.failing;
  sample.appends = stats.appends;
  sample.append_bytes = stats.append_bytes;
  sample.commits = stats.commits;
  sample.commit_errors = stats.commit_errors;
  sample.reopens = stats.reopens;
  sample.wal_bytes = stats.wal_bytes;
  sample.sst_bytes = stats.sst_bytes;
  sample.memtable_bytes = stats.memtable_bytes;
  sample.pending_compaction_bytes = stats.pending_compaction_bytes;
  sample.block_cache_bytes = stats.block_cache_bytes;
  sample.estimate_live_data_bytes = stats.estimate_live_data_bytes;
  sample.stall_seconds = stats.stall_seconds;
  journal_probe_.sampled(sample);
}

// --- stop
// -----------------------------------------------------------------------------------------

void Broker::watch_signals() {
  signals_.add(SIGTERM);
  signals_.add(SIGINT);
  signals_.async_wait([this](error_code error, int signal) {
    if (error) return;
    // From here on a signal does what it does by itself: it ends the process.
    error_code ignored;
    signals_.clear(ignored);
    stop(signal == SIGTERM ? "SIGTERM" : "SIGINT");
  });
}

void Broker::stop(const std::string& why) {
  if (std::exchange(stopping_, true)) return;
  ready_ = false;
  log::info("stopping", {{"why", why}});
  if (ingress_) ingress_->stop();
  stop_timer_.expires_after(config_.stop_timeout);
  stop_timer_.async_wait([this](error_code error) {
    if (!error) end(false);
  });
  const auto left = std::make_shared<std::size_t>(streams_.size());
  for (const auto& stream : streams_) {
    asio::post(stream->io(), [this, stream, left] {
      stream->stop([this, left] {
        asio::post(control_, [this, left] {
          if (--*left == 0) end(true);
        });
      });
    });
  }
}

void Broker::end(bool in_time) {
  if (!in_time) {
    exit_code_ = 1;
    log::error("not everything was made safe within stop_timeout; the next start sorts it out");
  }
  control_.stop();
}

int Broker::run() {
  control_.run();
  return exit_code_;
}

int run_broker(const config::Config& config, bool accept_drop, std::string& cannot_start) {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a limit of file sizes is a failed write, like others
  log::init(config.log.format == config::LogFormat::json ? log::Format::json : log::Format::text,
            level_of(config.log.level));
  int code = 1;
  {
    Broker broker(config, accept_drop);
    if (const auto error = broker.start()) {
      log::error("cannot start", {{"why", error->message}});
      cannot_start = error->message;
      return broker.exit_code();
    }
    code = broker.run();
  }
  log::info("stopped", {{"exit_code", code}});
  return code;
}

}  // namespace spillway::broker
