#include "client/client.h"

#include <boost/asio/post.hpp>
#include <utility>

#include "client/impl.h"
#include "wire/record.h"

namespace spillway::client {
namespace {

// Room in the smallest frame for what a part carries besides its payload.
constexpr std::uint64_t kMaxPartBytes = std::uint64_t{1} << 20;
static_assert(kMaxPartBytes + (std::uint64_t{64} << 10) <= wire::kMinMaxFrameBytes);
// Longer waits are for ever.
constexpr Milliseconds kLongWait = std::chrono::hours(24 * 365);

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::optional<std::string> check(const Options& options) {
  if (options.stream.empty()) return "stream: a name is needed";
  if (options.part_bytes < 1 || options.part_bytes > kMaxPartBytes) {
    return "part_bytes: 1 to 1048576";
  }
  if (options.max_in_flight_bytes < 1) return "max_in_flight_bytes: at least 1";
  if (options.connect_timeout.count() < 1 || options.welcome_timeout.count() < 1) {
    return "connect_timeout and welcome_timeout: at least 1 ms";
  }
  if (options.reconnect_initial.count() < 1 || options.reconnect_max < options.reconnect_initial) {
    return "reconnect_initial: at least 1 ms, and at most reconnect_max";
  }
  if (!(options.reconnect_multiplier >= 1.0) || !(options.reconnect_jitter >= 0.0) ||
      !(options.reconnect_jitter <= 1.0)) {
    return "reconnect_multiplier: at least 1; reconnect_jitter: 0 to 1";
  }
  return std::nullopt;
}

// Calls `use` with the record, or with its parts one after the other.
template <class Use>
void for_each_part(const Record& record, std::uint64_t part_bytes, Use use) {
  std::vector<wire::HeaderView> headers;
  headers.reserve(record.headers.size());
  for (const Header& header : record.headers) {
    headers.push_back({header.key, bytes_of(header.value)});
  }
  wire::RecordFields fields;
  fields.payload = bytes_of(record.payload);
  fields.key = bytes_of(record.key);
  fields.type = record.type;
  fields.headers = headers;
  fields.timestamp_ms = record.timestamp_ms;
  fields.group = static_cast<wire::Group>(record.group);
  fields.mark = bytes_of(record.mark);
  std::string_view rest = record.payload;
  if (rest.size() <= part_bytes) return use(fields);
  // The mark stands for the whole record, so it goes with its end.
  const auto mark = std::exchange(fields.mark, {});
  for (std::uint64_t part = 0; !rest.empty(); ++part) {
    const std::string_view piece = rest.substr(0, part_bytes);
    rest.remove_prefix(piece.size());
    fields.payload = bytes_of(piece);
    fields.part = part;
    fields.last_part = rest.empty();
    if (fields.last_part) fields.mark = mark;
    use(fields);
    fields.key = {};
    fields.type = {};
    fields.headers = {};
    fields.timestamp_ms.reset();
  }
}

template <class T>
Result<T> value_or_timeout(const Result<std::optional<T>>& result) {
  if (!result) return result.error();
  return **result;  // they waited for ever
}

}  // namespace

std::string_view name_of(State state) {
  switch (state) {
    case State::connecting: return "connecting";
    case State::live: return "live";
    case State::halted: return "halted";
    case State::failed: return "failed";
    case State::closed: return "closed";
  }
  return "unknown";
}

template <class Predicate>
bool Client::Impl::wait(Lock& lock, Milliseconds timeout, Predicate predicate) {
  const auto done = [&] { return over() || predicate(); };
  if (timeout > kLongWait) {
    changed_.wait(lock, done);
    return true;
  }
  return changed_.wait_until(lock, Clock::now() + timeout, done);
}

Error Client::Impl::over_error() const {
  return Error{status_.state == State::closed ? "the client is closed" : status_.error};
}

void Client::Impl::schedule_pump() {
  if (std::exchange(pump_scheduled_, true)) return;
  boost::asio::post(io_, [this] { pump(); });
}

Result<std::optional<Position>> Client::Impl::publish(std::span<const Record> records,
                                                      Milliseconds timeout) {
  if (records.empty()) return Error{"nothing to publish"};
  std::uint64_t needed = 0;
  std::uint64_t largest = 0;
  std::optional<std::string> wrong;
  for (const Record& record : records) {
    std::uint64_t record_bytes = 0;
    for_each_part(record, options_.part_bytes, [&](const wire::RecordFields& fields) {
      if (!wrong) wrong = wire::check_limits(fields);
      record_bytes += wire::record_bytes(fields);
      needed += wire::encoded_bytes(fields);
    });
    largest = std::max(largest, record_bytes);
  }
  if (wrong) return Error{*wrong};

  Lock lock(mutex_);
  const bool ready = wait(lock, timeout, [&] {
    const std::uint64_t kept = outbox_.kept_bytes();
    return outbox_.ready() && epoch_ == Epoch::as_is &&
           (kept == 0 || kept + needed <= options_.max_in_flight_bytes);
  });
  if (over()) return over_error();
  if (!ready) return std::optional<Position>();
  if (largest > welcome_->max_record_bytes) {
    return Error{"a record of " + std::to_string(largest) + " bytes; the broker takes at most " +
                 std::to_string(welcome_->max_record_bytes)};
  }
  Position position;
  for (const Record& record : records) {
    for_each_part(record, options_.part_bytes, [&](const wire::RecordFields& fields) {
      position = outbox_.append(fields);
    });
  }
  status_.published = position;
  schedule_pump();
  return std::optional(position);
}

Result<bool> Client::Impl::wait_passed(Position position, Position Status::*progress,
                                       Milliseconds timeout) {
  Lock lock(mutex_);
  const auto passed = [&] {
    // The position may have been given up for another one meanwhile.
    const Index index = outbox_.index_of(position);
    const bool known = index > 0 && position < outbox_.next_position();
    return status_.*progress >= (known ? outbox_.position_of(index) : position);
  };
  const bool done = wait(lock, timeout, passed);
  if (passed()) return true;
  if (over()) return over_error();
  return done;
}

Result<bool> Client::Impl::flush(Milliseconds timeout) {
  Lock lock(mutex_);
  const Index through = outbox_.last();
  const auto passed = [&] { return outbox_.acknowledged() >= through; };
  const bool done = wait(lock, timeout, passed);
  if (passed()) return true;
  if (over()) return over_error();
  return done;
}

Result<std::optional<Welcome>> Client::Impl::wait_connected(Milliseconds timeout) {
  Lock lock(mutex_);
  wait(lock, timeout, [&] { return welcome_.has_value(); });
  if (over()) return over_error();
  return welcome_;
}

Result<std::optional<std::uint64_t>> Client::Impl::new_epoch(Milliseconds timeout) {
  const auto deadline = Clock::now() + std::min(timeout, kLongWait);
  const auto left = [&] {
    if (timeout > kLongWait) return kForever;
    return std::max(Milliseconds{0},
                    std::chrono::duration_cast<Milliseconds>(deadline - Clock::now()));
  };
  Lock lock(mutex_);
  // One at a time, and not before the first epoch is known.
  const bool turn =
      wait(lock, left(), [&] { return outbox_.ready() && epoch_ == Epoch::as_is; });
  if (over()) return over_error();
  if (!turn) return std::optional<std::uint64_t>();
  epoch_ = Epoch::wanted;
  const bool flushed =
      wait(lock, left(), [&] { return outbox_.acknowledged() == outbox_.last(); });
  if (over()) return over_error();
  if (!flushed) {
    epoch_ = Epoch::as_is;
    changed_.notify_all();
    return std::optional<std::uint64_t>();
  }
  epoch_ = Epoch::asked;
  boost::asio::post(io_, [this] {
    drop_link();
    connect();
  });
  const bool opened = wait(lock, left(), [&] { return epoch_ == Epoch::as_is; });
  if (over()) return over_error();
  if (!opened) return std::optional<std::uint64_t>();
  return std::optional(status_.epoch);
}

Status Client::Impl::status() const {
  const std::lock_guard lock(mutex_);
  Status status = status_;
  status.kept_records = outbox_.last() - outbox_.acknowledged();
  status.kept_bytes = outbox_.kept_bytes();
  return status;
}

Result<std::unique_ptr<Client>> Client::create(Options options, Events events) {
  if (const auto wrong = check(options)) return Error{*wrong};
  Result<Address> address = parse_address(options.connect);
  if (!address) return address.error();
  auto impl = std::make_unique<Impl>(std::move(options), *address, std::move(events));
  return std::unique_ptr<Client>(new Client(std::move(impl)));
}

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::~Client() = default;

Result<Position> Client::publish(const Record& record) {
  return publish(std::span<const Record>(&record, 1));
}

Result<Position> Client::publish(std::span<const Record> records) {
  return value_or_timeout(impl_->publish(records, kForever));
}

Result<std::optional<Position>> Client::publish_for(std::span<const Record> records,
                                                    Milliseconds timeout) {
  return impl_->publish(records, timeout);
}

Result<std::optional<Position>> Client::try_publish(const Record& record) {
  return impl_->publish(std::span<const Record>(&record, 1), Milliseconds{0});
}

Result<bool> Client::wait_acknowledged(Position position, Milliseconds timeout) {
  return impl_->wait_passed(position, &Status::acknowledged, timeout);
}

Result<bool> Client::wait_taken(Position position, Milliseconds timeout) {
  return impl_->wait_passed(position, &Status::taken, timeout);
}

Result<bool> Client::flush(Milliseconds timeout) { return impl_->flush(timeout); }

Result<std::optional<Welcome>> Client::wait_connected(Milliseconds timeout) {
  return impl_->wait_connected(timeout);
}

Result<std::optional<std::uint64_t>> Client::new_epoch(Milliseconds timeout) {
  return impl_->new_epoch(timeout);
}

Status Client::status() const { return impl_->status(); }

void Client::close() { impl_->close(); }

}  // namespace spillway::client
