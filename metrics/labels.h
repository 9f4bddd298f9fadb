// The values of labels: short lists that are known at start, so that every series exists from then
// on.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace spillway::metrics {

// The states of a delivery, in the order of kSinkStates.
enum class SinkState : std::size_t { live, journaling, replaying, parked, paused };
inline constexpr std::array<std::string_view, 5> kSinkStates = {"live", "journaling", "replaying",
                                                                "parked", "paused"};

// Where the bytes that were delivered came from: the window, or the journal.
enum class Mode : std::size_t { live, replay };
inline constexpr std::array<std::string_view, 2> kModes = {"live", "replay"};

// Why an attempt to connect, or a connection, ended.
enum class Failure : std::size_t {
  connect_failed,  // nobody there, refused by the system, timed out
  broken,          // an established connection ended
  refused,         // connected, and the receiver says no for now
  protocol,        // it said something that makes no sense
  silent,          // no acknowledgement for ack_timeout
};
inline constexpr std::array<std::string_view, 5> kFailures = {"connect_failed", "broken", "refused",
                                                              "protocol", "silent"};

enum class ReplayResult : std::size_t { completed, interrupted };
inline constexpr std::array<std::string_view, 2> kReplayResults = {"completed", "interrupted"};

// When damage of the journal was found.
enum class Corruption : std::size_t {
  start,   // the store did not add up when it was opened
  reopen,  // nor when it was opened again after a failure
  read,    // a block did not match its CRC, or was not there
};
inline constexpr std::array<std::string_view, 3> kCorruptions = {"start", "reopen", "read"};

// The causes of a halt, and the codes with which a producer is turned away, as the machines and the
// protocol name them.
inline constexpr std::array<std::string_view, 9> kHaltCauses = {
    "max_bytes",       "max_records",     "max_age",
    "outage_timeout",  "disk_bound",      "min_free_disk",
    "journal_failing", "journal_damaged", "gap"};
inline constexpr std::array<std::string_view, 16> kRejectCodes = {
    "malformed",      "unsupported_version",
    "unknown_stream", "unauthorized",
    "fenced",         "replaced",
    "fork",           "gap",
    "too_large",      "corrupt",
    "epoch",          "in_flight",
    "halted",         "shutting_down",
    "record",         "busy"};

template <class Enum>
constexpr std::size_t index_of(Enum value) {
  return static_cast<std::size_t>(value);
}

}  // namespace spillway::metrics
