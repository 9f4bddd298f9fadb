// Config: everything an operator can set, as plain values with their defaults. README.md beside it
// has the file format, the units and the rules.
//
// A Config that parse() or load() returned has passed every check that needs no look at the machine
// (check.h has those): names are valid and unique, values are in range, nothing contradicts.
// Units: bytes, bytes per second and milliseconds throughout; an empty optional is "unlimited".
// Threads: plain values; share them const.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/position.h"
#include "base/result.h"

namespace spillway::config {

using std::chrono::milliseconds;

inline constexpr std::uint64_t kKiB = std::uint64_t{1} << 10;
inline constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
inline constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

// Where to listen or to connect: "tcp://host:port" or "unix:///path".
struct Address {
  enum class Kind { tcp, unix_socket };
  Kind kind = Kind::tcp;
  std::string host;        // tcp: a name or a number, IPv6 without brackets
  std::uint16_t port = 0;  // tcp: 0 asks the system for a free one (listeners only)
  std::string path;        // unix_socket
  friend bool operator==(const Address&, const Address&) = default;
};
std::string to_string(const Address& address);  // with its scheme
// With `plain_is_tcp`, "host:port" without a scheme is taken as tcp.
Result<Address> parse_address(std::string_view text, bool plain_is_tcp = false);
// 127.0.0.0/8, ::1, "localhost" and Unix sockets.
bool is_loopback(const Address& address);
// However they are written, and with "localhost" for either of its two addresses.
bool is_same_place(const Address& left, const Address& right);

// length_prefixed: u32 little-endian, then the payload.
enum class Framing { lines, length_prefixed };
enum class Acknowledge { count, kernel };

struct FileSink {
  std::filesystem::path path;
  Framing framing = Framing::lines;
};
struct TcpSink {
  Address connect;
  Framing framing = Framing::lines;
  Acknowledge acknowledge = Acknowledge::count;
};
struct SpillwaySink {
  Address connect;
  std::string stream;                // at the receiver; the stream's own name unless set
  std::filesystem::path token_file;  // empty: no token
};
using Destination = std::variant<FileSink, TcpSink, SpillwaySink>;

enum class OnLimit { halt, block, drop_oldest };
enum class OnReject { park, dead_letter };

struct StartAt {
  enum class Kind { latest, earliest, position };
  Kind kind = Kind::latest;
  Position position;  // of the first record to send; only for Kind::position
};

struct Reconnect {
  milliseconds initial{100};
  milliseconds max{1000};
  double multiplier = 2.0;
  double jitter = 0.2;  // each wait is drawn from [1 - jitter, 1 + jitter] times itself
};

struct Replay {
  std::optional<std::uint64_t> rate_limit;  // bytes per second
  std::uint64_t max_in_flight = 8 * kMiB;   // sent and not acknowledged; live and replaying alike
};

// `on_outage` is not here: parse() resolves it into on_limit, max_bytes and outage_timeout, so that
// nothing downstream has a second path for it.
struct Sink {
  std::string name;
  Destination destination;
  OnLimit on_limit = OnLimit::halt;
  OnReject on_reject = OnReject::park;
  milliseconds ack_timeout{5000};
  std::optional<milliseconds> outage_timeout = std::chrono::hours{24};
  std::optional<std::uint64_t> max_bytes = 4 * kGiB;
  std::optional<std::uint64_t> max_records;
  std::optional<milliseconds> max_age;
  std::uint64_t dead_letter_bytes = 64 * kMiB;
  StartAt start_at;
  Reconnect reconnect;
  Replay replay;
};
// Of a stream or a sink: [A-Za-z0-9._-]{1,64}, and neither "." nor "..", as names become parts of
// file names and of URLs.
bool is_name(std::string_view text);
inline constexpr std::string_view kNameRule = "1 to 64 of A-Z a-z 0-9 . _ -";
// "file", "tcp" or "spillway".
std::string_view type_of(const Sink& sink);
// What makes a destination this one and no other (type and address, not framing or limits): stored
// with a cursor, so that the same name with another destination is noticed.
std::string sink_identity(const Sink& sink);

enum class Acks { none, quorum, all };
enum class JournalMode { on_failure, always };
enum class OnGap { halt, record };

struct Stream {
  std::string name;
  Acks acks = Acks::all;
  std::uint32_t quorum = 0;  // sinks; only with Acks::quorum
  JournalMode journal = JournalMode::on_failure;
  std::uint64_t window_bytes = 64 * kMiB;
  milliseconds spill_after{200};
  milliseconds checkpoint_interval{1000};  // 0: mark and position durable before each Ack
  OnGap on_gap = OnGap::halt;
  std::uint64_t max_record_bytes = 64 * kMiB;  // never above window_bytes
  std::filesystem::path token_file;            // empty: whoever reaches a listener may publish
  std::vector<Sink> sinks;                     // at least one
};

struct Ingress {
  Address listen;
  std::uint32_t mode = 0660;  // of a Unix socket
};

struct Admin {
  Address listen{Address::Kind::tcp, "127.0.0.1", 9464, {}};
  std::uint32_t mode = 0660;  // of a Unix socket
};

enum class Compression { none, lz4 };

struct Journal {
  std::uint64_t max_disk_bytes = 10 * kGiB;
  std::uint64_t min_free_disk = kGiB;
  std::uint64_t group_reserve = 64 * kMiB;  // per stream; unless set at most 1/8 of max_disk_bytes
  Compression compression = Compression::lz4;
  milliseconds journal_timeout{30000};
};

enum class LogLevel { debug, info, warn, error };
enum class LogFormat { text, json };

struct Log {
  LogLevel level = LogLevel::info;
  LogFormat format = LogFormat::text;
};

struct Config {
  std::filesystem::path file;  // where it was read from
  std::filesystem::path data_dir;
  milliseconds stop_timeout{10000};
  Admin admin;
  Journal journal;
  Log log;
  std::vector<Ingress> ingress;  // at least one
  std::vector<Stream> streams;   // at least one
};

// One thing that is wrong, and where.
struct Diagnostic {
  std::string file;
  std::uint32_t line = 0;    // from 1; 0: the file as a whole
  std::uint32_t column = 0;  // from 1
  std::string key;           // as "stream[0].sink[1].on_limit"; empty: the file as a whole
  std::string message;
};
std::string to_string(const Diagnostic& diagnostic);  // "file:line:column: key: message"

// Both report everything that is wrong, one line each in Error::message, and structured in
// `diagnostics` if given. Relative paths and unix:// addresses are taken from the folder of
// `filename`, and are absolute in the Config.
Result<Config> parse(std::string_view text, const std::filesystem::path& filename,
                     std::vector<Diagnostic>* diagnostics = nullptr);
Result<Config> load(const std::filesystem::path& filename,
                    std::vector<Diagnostic>* diagnostics = nullptr);

// Tokens of a token_file: one per line, blank lines and lines that start with '#' left out. An
// error if it cannot be read, holds none, or others than owner and group may read or write it. A
// spillway sink presents the first one; a stream takes any of them.
Result<std::vector<std::string>> read_tokens(const std::filesystem::path& file);

}  // namespace spillway::config
