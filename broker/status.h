// StatusReport: what a broker says of itself at GET /api/v1/status and `spillway status` prints.
//
// The broker fills it, the command line reads it back, both through this file, so that the shape is
// written once. JSON: snake_case keys in the order of the members, positions as "epoch/sequence",
// what is not known or unlimited as null, times as milliseconds since 1970 where the name ends in
// _ms and as seconds where it ends in _seconds. Keys are only ever added.
#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/position.h"
#include "base/result.h"

namespace spillway::broker {

// One reason why a stream refuses records; `kind` as recovery/halt.h names it.
struct CauseStatus {
  std::string kind;
  std::string sink;  // empty: the stream's own
  std::string text;
  Position position;
  std::int64_t since_ms = 0;
};

struct HaltStatus {
  bool active = false;
  std::vector<CauseStatus> causes;
};

// A limit of a sink with what is left of it; nothing in `limit`: unlimited.
template <class T>
struct LimitStatus {
  std::optional<T> limit;
  std::optional<T> left;
};

struct SinkStatus {
  std::string name;
  std::string type;
  std::string state;  // journaling | replaying | live | parked | paused
  bool connected = false;
  bool refusing = false;  // connected to it, but it said no
  std::string parked;     // why; empty: it is not
  Position cursor;        // durable
  Position acked;
  Position sent;

  struct Backlog {
    std::uint64_t records = 0;
    std::uint64_t bytes = 0;
    double age_seconds = 0;  // of the oldest undelivered record
  } backlog;

  struct Limits {
    std::string on_limit;  // halt | block | drop_oldest
    LimitStatus<std::uint64_t> max_bytes;
    LimitStatus<std::uint64_t> max_records;
    LimitStatus<double> max_age_seconds;
    LimitStatus<double> outage_timeout_seconds;
    LimitStatus<std::uint64_t> dead_letter_bytes;
  } limits;

  struct Outage {
    std::int64_t since_ms = 0;
    std::optional<double> remaining_seconds;  // until outage_timeout trips
  };
  std::optional<Outage> outage;

  struct LastError {
    std::string text;
    std::int64_t since_ms = 0;
  };
  std::optional<LastError> last_error;  // since the last successful connect
  std::uint64_t attempts = 0;           // to connect, since start
};

struct StreamStatus {
  std::string name;
  std::string acks;      // none | quorum | all
  std::string coverage;  // open | closing | closed, or unknown before the first Hello
  Position held;
  Position safe;
  Position taken;

  struct Window {
    std::uint64_t bytes = 0;
    std::uint64_t max_bytes = 0;
  } window;

  struct Journal {  // the blocks that it holds; nothing: none
    std::optional<Position> first;
    std::optional<Position> end;
    std::uint64_t bytes = 0;
  } journal;

  struct Producer {
    bool connected = false;
    std::uint64_t generation = 0;
    std::string address;
  } producer;

  bool blocked = false;  // a sink with on_limit = "block" withholds acknowledgements
  HaltStatus halt;
  std::vector<SinkStatus> sinks;
};

struct StatusReport {
  std::string version;
  double uptime_seconds = 0;
  bool ready = false;  // what /readyz says
  bool stopping = false;
  std::vector<StreamStatus> streams;

  struct Journal {
    std::uint64_t disk_bytes = 0;
    std::uint64_t max_disk_bytes = 0;
    std::uint64_t free_bytes = 0;
    std::uint64_t min_free_disk = 0;
    bool failing = false;
    std::string last_error;
    // Until the first limit acts, at the growth of the last minute.
    std::optional<double> exhaustion_seconds;
  } journal;
};

boost::json::value to_json(const StatusReport& report);
boost::json::value to_json(const HaltStatus& halt);
// Takes a report of another version: keys that are missing keep their defaults, others are ignored.
Result<StatusReport> parse_status(std::string_view text);

}  // namespace spillway::broker
