// The near end of the benchmark: publishes through the public client library.
//
//   bench_generator --connect ADDRESS --stream S --records N --size BYTES
//                   [--mode burst|one|paced] [--rate RECORDS_PER_SECOND] [--in-flight BYTES]
//                   [--until taken|acknowledged] [--compressible 1] [--batch RECORDS]
//                   [--streams N]
//
// burst: as fast as it goes. one: one record in flight, or one batch of so many. paced: open loop,
// each record has a moment at which it is due, and its latency counts from then, whenever it was
// sent (no coordinated omission). Prints one line: begin, end, records, bytes, cpu, and for one and
// paced the latencies p50, p99, p999, max in seconds, and the part of the run at which the longest
// began. With --streams, bursts go in turns to the streams S1, S2, ... SN, each through a client of
// its own.
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "client/client.h"
#include "tests/bench/io.h"

namespace spillway::bench {
namespace {

using client::Client;
using client::Record;

constexpr std::size_t kBatchBytes = std::size_t{128} << 10;  // of one call of publish()
constexpr std::size_t kPayloads = 256;
constexpr double kTick = 0.001;  // of the paced generator

// Payloads without newlines, so that every sink can take them.
std::vector<std::string> make_payloads(std::size_t size, bool compressible) {
  std::mt19937_64 random(1);
  std::vector<std::string> payloads(size > (1 << 20) ? 2 : kPayloads);
  for (std::string& payload : payloads) {
    payload.resize(size);
    for (std::size_t i = 0; i < size; ++i) {
      const bool repeat = compressible && i % 64 >= 32;  // half of it says nothing new
      payload[i] = repeat ? 'x' : static_cast<char>(32 + random() % 95);
    }
  }
  return payloads;
}

// How long after it was due each record was acknowledged. Takes its memory at the start: to find
// more while it measures would stop the very thread that hears of acknowledgements.
class Latencies {
 public:
  // Record `first` is due now, and `rate` of them in each second from now on. Returns what it is.
  double start(std::uint64_t first, std::size_t records, double rate) {
    const std::lock_guard lock(mutex_);
    values_.assign(records, 0);
    first_ = first;
    rate_ = rate;
    return begin_ = now();
  }
  void through(std::uint64_t sequence) {
    const double at = now();
    const std::lock_guard lock(mutex_);
    for (; taken_ < values_.size() && first_ + taken_ <= sequence; ++taken_) {
      values_[taken_] = at - begin_ - static_cast<double>(taken_) / rate_;
    }
  }
  std::vector<double> take() {
    const std::lock_guard lock(mutex_);
    values_.resize(taken_);
    return std::move(values_);
  }

 private:
  std::mutex mutex_;
  std::uint64_t first_ = 0;
  double begin_ = 0;
  double rate_ = 1;
  std::size_t taken_ = 0;
  std::vector<double> values_;
};

class Generator {
 public:
  explicit Generator(const Arguments& arguments)
      : records_(arguments.number("--records", 0)),
        size_(arguments.number("--size", 256)),
        batch_records_(std::max<std::uint64_t>(1, arguments.number("--batch", 1))),
        in_flight_(arguments.number("--in-flight", client::Options().max_in_flight_bytes)),
        rate_(static_cast<double>(arguments.number("--rate", 100'000))),
        taken_(arguments.text("--until", "taken") == "taken"),
        payloads_(make_payloads(size_, arguments.has("--compressible"))) {
    client::Options options;
    options.connect = arguments.text("--connect");
    options.stream = arguments.text("--stream", "s");
    options.max_in_flight_bytes = in_flight_;
    options.give_up_after = client::Milliseconds(60'000);
    client::Events events;
    const auto seen = [this](Position position) { latencies_.through(position.sequence); };
    if (arguments.text("--mode", "burst") == "paced") {
      (taken_ ? events.on_taken : events.on_acknowledged) = seen;
    }
    const std::uint64_t streams = arguments.number("--streams", 0);
    for (std::uint64_t i = 1; i <= streams; ++i) {
      client::Options own = options;
      own.stream += std::to_string(i);
      open(own, events);
    }
    if (streams == 0) open(options, events);
    for (const Lane& lane : lanes_) must(lane.client->wait_connected());
  }

  void run(const std::string& mode) {
    if (mode != "burst" && lanes_.size() > 1) die("--streams is for --mode burst");
    const double cpu = cpu_seconds();
    const double begin = now();
    if (mode == "burst") {
      burst();
    } else if (mode == "one") {
      one_by_one();
    } else if (mode == "paced") {
      paced();
    } else {
      die("--mode is burst, one or paced");
    }
    for (const Lane& lane : lanes_) {
      if (lane.last.sequence > 0) wait_for(lane);
    }
    Line line;
    line.add("begin", begin)
        .add("end", now())
        .add("records", static_cast<double>(records_))
        .add("bytes", static_cast<double>(records_ * size_))
        .add("cpu", cpu_seconds() - cpu);
    std::vector<double> values = mode == "one" ? std::move(round_trips_) : latencies_.take();
    if (!values.empty()) {
      const auto worst = std::ranges::max_element(values) - values.begin();
      line.add("max_at", static_cast<double>(worst) / static_cast<double>(values.size()));
      line.add("p50", percentile(values, 0.5))
          .add("p99", percentile(values, 0.99))
          .add("p999", percentile(values, 0.999))
          .add("max", values.back());
    }
    line.print();
  }

 private:
  struct Lane {
    std::unique_ptr<Client> client;
    Position last;
  };

  void open(const client::Options& options, const client::Events& events) {
    auto made = Client::create(options, events);
    if (!made) die(made.error().message);
    lanes_.push_back({std::move(*made), {}});
  }
  template <class T>
  T must(Result<T> result) {
    if (!result) die(result.error().message);
    return std::move(*result);
  }
  void wait_for(const Lane& lane) {
    must(taken_ ? lane.client->wait_taken(lane.last) : lane.client->wait_acknowledged(lane.last));
  }
  Record next() {
    Record record;
    record.payload = payloads_[next_++ % payloads_.size()];
    return record;
  }
  void publish(std::uint64_t count) {
    batch_.clear();
    for (std::uint64_t i = 0; i < count; ++i) batch_.push_back(next());
    Lane& lane = lanes_[turn_++ % lanes_.size()];
    lane.last = must(lane.client->publish(batch_));
  }

  void burst() {
    const std::uint64_t bytes = std::min<std::uint64_t>(kBatchBytes, in_flight_);
    const std::uint64_t most =
        std::clamp<std::uint64_t>(bytes / std::max<std::uint64_t>(1, size_), 1, 512);
    for (std::uint64_t left = records_; left > 0;) {
      const std::uint64_t count = std::min(left, most);
      publish(count);
      left -= count;
    }
  }

  void one_by_one() {
    round_trips_.reserve(records_ / batch_records_ + 1);
    for (std::uint64_t left = records_; left > 0;) {
      const std::uint64_t count = std::min(left, batch_records_);
      const double begin = now();
      publish(count);
      left -= count;
      wait_for(lanes_.front());
      round_trips_.push_back(now() - begin);
    }
  }

  void paced() {
    const double begin = latencies_.start(lanes_.front().last.sequence + 1, records_, rate_);
    for (std::uint64_t sent = 0; sent < records_;) {
      const auto due = static_cast<std::uint64_t>((now() - begin) * rate_);
      const std::uint64_t count = std::min(records_, due) - std::min(sent, due);
      if (count == 0) {
        std::this_thread::sleep_for(std::chrono::duration<double>(kTick));
        continue;
      }
      for (std::uint64_t left = count; left > 0;) {
        const std::uint64_t part = std::min<std::uint64_t>(left, 512);
        publish(part);
        left -= part;
      }
      sent += count;
    }
  }

  const std::uint64_t records_;
  const std::uint64_t size_;
  const std::uint64_t batch_records_;
  const std::uint64_t in_flight_;
  const double rate_;
  const bool taken_;
  const std::vector<std::string> payloads_;
  Latencies latencies_;
  std::vector<double> round_trips_;
  std::vector<Record> batch_;
  std::uint64_t next_ = 0;
  std::size_t turn_ = 0;
  std::vector<Lane> lanes_;  // last: the clients' events use everything above
};

}  // namespace
}  // namespace spillway::bench

int main(int argc, char** argv) {
  const spillway::bench::Arguments arguments(argc, argv);
  spillway::bench::Generator(arguments).run(arguments.text("--mode", "burst"));
}
