// publish: from a file or standard input to a stream, until all is acknowledged.
#include <algorithm>
#include <boost/json.hpp>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <ostream>
#include <thread>
#include <vector>

#include "broker/cli/commands.h"
#include "broker/cli/producer.h"
#include "broker/cli/record_source.h"
#include "broker/cli/tally.h"
#include "broker/config/units.h"
#include "client/client.h"

namespace spillway::cli {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using client::Client;

// How many records go into one call: enough that the call costs nothing, few enough to be atomic.
constexpr std::size_t kBatchRecords = 512;
constexpr std::size_t kBatchBytes = std::size_t{256} << 10;
// Between looks at the progress and at --give-up-after.
constexpr auto kLook = 200ms;

// A publisher that ends early says why and with which code.
struct Stop {
  std::string message;
  int code = kFailed;
};

class Publisher {
 public:
  Publisher(const PublishOptions& options, const Context& context)
      : options_(options), context_(context) {}

  int run();

 private:
  std::optional<Stop> set_up();
  std::optional<Stop> skip_held();
  std::optional<Stop> publish_all();
  std::optional<Stop> publish_batch();
  std::optional<Stop> await_end();
  std::optional<Stop> look();
  void pace();

  std::uint64_t parts_of(std::size_t bytes) const {
    return std::max<std::uint64_t>(1, (bytes + part_bytes_ - 1) / part_bytes_);
  }
  void say(const std::string& line);
  void show_progress();
  int report(const std::optional<Stop>& stop);

  const PublishOptions& options_;
  const Context& context_;
  std::optional<std::chrono::milliseconds> give_up_;
  std::optional<RecordSource> source_;
  std::uint64_t part_bytes_ = 1;
  std::uint64_t skipped_ = 0;
  std::optional<Position> next_;  // with --resume: of the first record to publish, to be sure of it
  std::vector<client::Record> batch_;
  Tally tally_;

  Clock::time_point started_ = Clock::now();
  Clock::time_point rate_began_{};
  std::uint64_t paced_ = 0;  // records since rate_began_
  Clock::time_point progress_at_ = Clock::now();
  std::uint64_t progress_acknowledged_ = 0;
  Clock::time_point shown_{};

  std::mutex screen_;       // for err: the client's thread says what happens to the connection
  bool line_open_ = false;  // a progress line without its newline is on the terminal

  std::unique_ptr<Client> client_;  // last: its events use everything above
};

void Publisher::say(const std::string& line) {
  const std::lock_guard lock(screen_);
  auto& err = context_.output.err;
  if (std::exchange(line_open_, false)) err << "\r\x1b[K";
  err << "spillway: " << line << std::endl;
}

void Publisher::show_progress() {
  if (!context_.output.terminal || Clock::now() - shown_ < kLook) return;
  shown_ = Clock::now();
  const auto counts = tally_.counts();
  std::string line = "published " + std::to_string(counts.published) + ", acknowledged " +
                     std::to_string(counts.acknowledged);
  if (source_->total_bytes().value_or(0) != 0) {
    const auto percent = source_->bytes_read() * 100 / *source_->total_bytes();
    line += ", " + std::to_string(std::min<std::uint64_t>(percent, 100)) + "% read";
  }
  const auto state = client_->status().state;
  if (state != client::State::live) line += ", " + std::string(name_of(state));
  const std::lock_guard lock(screen_);
  context_.output.err << "\r\x1b[K" << line << std::flush;
  line_open_ = true;
}

std::optional<Stop> Publisher::set_up() {
  auto made = client_options(options_.connect, options_.stream, options_.token_file);
  if (!made) return Stop{made.error().message, made.error().code};
  client::Options options = std::move(*made);
  options.resumes = options_.resume;
  options.agent = "spillway publish";
  part_bytes_ = options.part_bytes;
  if (!options_.give_up_after.empty()) {
    const auto parsed = config::parse_duration(options_.give_up_after);
    if (!parsed) return Stop{"--give-up-after: " + parsed.error().message, kUsage};
    give_up_ = *parsed;
  }
  auto source = RecordSource::open(options_.file, options_.framing == "lines"
                                                      ? RecordSource::Framing::lines
                                                      : RecordSource::Framing::length_prefixed);
  if (!source) return Stop{source.error().message};
  source_.emplace(std::move(*source));

  auto events = announcements([this](const std::string& line) { say(line); });
  events.on_acknowledged = [this](Position safe) { tally_.acknowledged(safe); };
  events.on_epoch = [this](const client::EpochChange& change) { tally_.renumbered(change); };
  auto client = Client::create(std::move(options), std::move(events));
  if (!client) return Stop{client.error().message, kUsage};
  client_ = std::move(*client);
  return std::nullopt;
}

// Looks at the clock between waits: gives up when nothing was acknowledged for too long.
std::optional<Stop> Publisher::look() {
  show_progress();
  const auto counts = tally_.counts();
  const auto now = Clock::now();
  if (counts.acknowledged != progress_acknowledged_) {
    progress_acknowledged_ = counts.acknowledged;
    progress_at_ = now;
  }
  if (!give_up_ || now - progress_at_ < *give_up_) return std::nullopt;
  const auto status = client_->status();
  const auto waited = config::format_duration(*give_up_);
  if (status.state == client::State::halted) {
    return Stop{"gave up: the stream is halted, and nothing was acknowledged for " + waited,
                kHalted};
  }
  return Stop{"gave up: nothing was acknowledged for " + waited +
              (status.error.empty() ? "" : ": " + status.error)};
}

// With --resume: leaves out what the stream holds. Record i is sequence i, but for records in
// parts. What is left out cannot be sent again by this process, so it waits until the broker
// answers for it: a broker that holds a record only in memory may come back without it.
std::optional<Stop> Publisher::skip_held() {
  std::uint64_t skipped = 0;  // sequences
  while (true) {
    const auto connected = client_->wait_connected(kLook);
    if (!connected) return Stop{connected.error().message};
    if (!*connected) {
      if (auto stop = look()) return stop;
      continue;
    }
    const auto& welcome = **connected;
    const auto held = welcome.held.epoch == welcome.epoch ? welcome.held.sequence : 0;
    if (held < skipped) return Stop{"the stream went back to " + to_string(welcome.held)};
    while (skipped < held) {
      const auto record = source_->next();
      if (!record) return Stop{record.error().message};
      if (!*record) break;  // it holds more than all of the input
      skipped += parts_of((*record)->size());
      ++skipped_;
      if (skipped > held) {
        return Stop{"the stream holds only a part of record " + std::to_string(skipped_) +
                    ": it cannot be resumed inside it"};
      }
    }
    const auto safe =
        held == 0 ? Result<bool>(true) : client_->wait_acknowledged({welcome.epoch, held}, kLook);
    if (!safe) return Stop{safe.error().message};
    if (*safe) {
      next_ = Position{welcome.epoch, held + 1};
      return std::nullopt;
    }
    if (auto stop = look()) return stop;
  }
}

// Waits until --rate allows the next record.
void Publisher::pace() {
  if (options_.rate == 0) return;
  const auto now = Clock::now();
  if (paced_ == 0) rate_began_ = now;
  const auto due =
      rate_began_ + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(
                        static_cast<double>(paced_) / static_cast<double>(options_.rate)));
  // After a standstill it goes on at the rate instead of catching up.
  if (now - due > 1s) {
    rate_began_ = now;
    paced_ = 0;
  }
  std::this_thread::sleep_until(std::min(due, now + 1h));
}

std::optional<Stop> Publisher::publish_batch() {
  const auto before = tally_.counts();
  if (before.published == before.acknowledged) progress_at_ = Clock::now();  // it was idle
  while (true) {
    const auto position = client_->publish_for(batch_, kLook);
    if (!position) return Stop{position.error().message};
    if (*position) {
      std::uint64_t after = 0;  // sequences of the records that follow in the batch
      for (const auto& record : batch_) after += parts_of(record.payload.size());
      const Position first{(*position)->epoch, (*position)->sequence - after + 1};
      if (next_ && first != *next_) {
        return Stop{"the stream went back to " + to_string(first) + " from " + to_string(*next_)};
      }
      next_.reset();
      for (const auto& record : batch_) {
        const auto parts = parts_of(record.payload.size());
        after -= parts;
        tally_.published({(*position)->epoch, (*position)->sequence - after}, parts);
      }
      return look();
    }
    if (auto stop = look()) return stop;
  }
}

std::optional<Stop> Publisher::publish_all() {
  // At most a twentieth of a second of records at once, so that a low rate is even.
  const auto most = options_.rate == 0
                        ? kBatchRecords
                        : std::clamp<std::size_t>(options_.rate / 20, 1, kBatchRecords);
  while (true) {
    auto record = source_->next();
    if (!record) return Stop{record.error().message};
    if (!*record) return std::nullopt;
    pace();
    batch_.clear();
    std::size_t bytes = 0;
    while (true) {
      auto& added = batch_.emplace_back();
      added.payload = **record;
      bytes += added.payload.size();
      // Payloads stay valid while next() answers from what it has read.
      if (batch_.size() == most || bytes >= kBatchBytes || !source_->buffered()) break;
      record = source_->next();
    }
    if (auto stop = publish_batch()) return stop;
    paced_ += batch_.size();
  }
}

std::optional<Stop> Publisher::await_end() {
  while (true) {
    const auto done = client_->flush(kLook);
    if (!done) return Stop{done.error().message};
    if (*done) {
      show_progress();
      return std::nullopt;
    }
    if (auto stop = look()) return stop;
  }
}

int Publisher::report(const std::optional<Stop>& stop) {
  if (std::exchange(line_open_, false)) context_.output.err << "\n";
  const auto counts = tally_.counts();
  const double seconds = std::chrono::duration<double>(Clock::now() - started_).count();
  const auto position = [](const std::optional<Position>& p) {
    return p ? boost::json::value(to_string(*p)) : boost::json::value(nullptr);
  };
  boost::json::object object{{"ok", !stop}};
  if (stop) object["error"] = stop->message;
  object["published"] = counts.published;
  object["acknowledged"] = counts.acknowledged;
  object["skipped"] = skipped_;
  object["first"] = position(counts.first);
  object["last"] = position(counts.last);
  object["seconds"] = seconds;
  std::string text = "published " + std::to_string(counts.published) + ", acknowledged " +
                     std::to_string(counts.acknowledged);
  if (counts.first) text += ", " + to_string(*counts.first) + " to " + to_string(*counts.last);
  if (skipped_ != 0) text += ", skipped " + std::to_string(skipped_) + " that the stream holds";
  char took[64];
  std::snprintf(took, sizeof took, ", %.3f s, %.0f records/s", seconds,
                seconds > 0 ? static_cast<double>(counts.acknowledged) / seconds : 0.0);
  context_.print(object, text + took);
  if (stop && !context_.json) context_.output.err << "spillway: " << stop->message << "\n";
  return stop ? stop->code : kOk;
}

int Publisher::run() {
  if (const auto stop = set_up()) return context_.fail(stop->message, stop->code);
  auto stop = options_.resume ? skip_held() : std::nullopt;
  if (!stop) stop = publish_all();
  if (!stop) stop = await_end();
  client_.reset();  // no event comes after this
  return report(stop);
}

}  // namespace

int publish(const PublishOptions& options, const Context& context) {
  return Publisher(options, context).run();
}

}  // namespace spillway::cli
