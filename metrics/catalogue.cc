#include "metrics/catalogue.h"

#include <algorithm>

#include "base/invariant.h"

namespace spillway::metrics {
namespace {

using enum Type;

// Latencies of a healthy path are fractions of a millisecond; those of a replay are as long as the
// outage.
constexpr double kLatency[] = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01,
                               0.025,  0.05,    0.1,    0.25,  0.5,    1,     2.5,
                               5,      10,      60,     600,   3600};
constexpr double kSync[] = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01,
                            0.025,  0.05,    0.1,    0.25,  0.5,    1,     5};
constexpr double kDuration[] = {1, 5, 15, 60, 300, 900, 3600, 14400, 43200, 86400};
constexpr double kGroup[] = {1, 4, 16, 64, 256, 1024, 4096, 16384, 65536};

constexpr Definition kCatalogue[] = {
    // The process.
    {"spillway_build_info", gauge, "version, compiler", "Always 1; the version that runs"},
    {"spillway_config_hash_info", gauge, "hash", "Always 1; the configuration that is in force"},
    {"spillway_config_last_reload_successful", gauge, "",
     "Whether the last load of the configuration succeeded; the start counts as one"},
    {"spillway_config_last_reload_success_timestamp_seconds", gauge, "",
     "When the configuration in force was loaded"},

    // What comes in.
    {"spillway_received_messages_total", counter, "stream",
     "Records accepted from producers, without repeats"},
    {"spillway_received_bytes_total", counter, "stream", "Bytes of these records as framed"},
    {"spillway_acked_messages_total", counter, "stream, policy",
     "Records acknowledged to the producer"},
    {"spillway_ack_latency_seconds", histogram, "stream, policy",
     "From the receipt of a block to its acknowledgement to the producer", kLatency},
    {"spillway_last_received_epoch", gauge, "stream", "Epoch of the last record received"},
    {"spillway_last_received_sequence", gauge, "stream",
     "Sequence of the last record received, in its epoch"},
    {"spillway_durable_epoch", gauge, "stream", "Epoch of the last record durable in the journal"},
    {"spillway_durable_sequence", gauge, "stream",
     "Sequence of the last record durable in the journal, in its epoch"},
    {"spillway_safe_epoch", gauge, "stream",
     "Epoch of the last record acknowledged to the producer"},
    {"spillway_safe_sequence", gauge, "stream",
     "Sequence of the last record acknowledged to the producer, in its epoch"},
    {"spillway_window_bytes", gauge, "stream", "Bytes of records in memory"},
    {"spillway_window_limit_bytes", gauge, "stream", "The configured window_bytes"},
    {"spillway_coverage_open", gauge, "stream", "1 while new records are appended to the journal"},
    {"spillway_producer_connected", gauge, "stream", "1 while a producer is connected"},
    {"spillway_ingress_connections", gauge, "",
     "Connections of producers, with or without a stream"},
    {"spillway_ingress_connections_total", counter, "", "Connections accepted"},
    {"spillway_ingress_rejects_total", counter, "code",
     "Connections ended or records refused, by the code of the Reject"},
    {"spillway_duplicates_dropped_total", counter, "stream, [sink]",
     "Records left out because they came before: from the producer (no sink), or for a sink that "
     "said it "
     "holds them"},
    {"spillway_sequence_gaps_total", counter, "stream",
     "Ranges that a producer no longer had, so that they are missing for every sink"},
    {"spillway_order_violations_total", counter, "stream, [sink]",
     "Contradictions in the order of positions: a fork or a step back of the producer (no sink), "
     "or an "
     "acknowledgement or a held position of a sink that cannot be"},

    // Halts.
    {"spillway_halt_active", gauge, "stream, cause", "1 while this cause halts the stream"},
    {"spillway_halts_total", counter, "stream, cause", "Halts that began"},
    {"spillway_halt_timestamp_seconds", gauge, "stream, cause",
     "When the halt that is active began; 0 without one"},
    {"spillway_stream_blocked", gauge, "stream",
     "1 while a limit with on_limit = block holds acknowledgements back"},

    // Sinks.
    {"spillway_sink_info", gauge, "stream, sink, sink_type", "Always 1; the type of a sink"},
    {"spillway_sink_state", gauge, "stream, sink, state", "1 for the state that the sink is in"},
    {"spillway_sink_up", gauge, "stream, sink", "1 while connected and not refusing"},
    {"spillway_sink_refusing", gauge, "stream, sink",
     "1 while the receiver can be reached but says no: the last attempt ended with its refusal"},
    {"spillway_sink_delivered_messages_total", counter, "stream, sink, mode",
     "Records that the sink acknowledged"},
    {"spillway_sink_delivered_bytes_total", counter, "stream, sink, mode",
     "Bytes of these records"},
    {"spillway_sink_delivery_latency_seconds", histogram, "stream, sink, mode",
     "From the receipt of a block to the sink's acknowledgement", kLatency},
    {"spillway_sink_cursor_epoch", gauge, "stream, sink", "Epoch of the last record acknowledged"},
    {"spillway_sink_cursor_sequence", gauge, "stream, sink",
     "Sequence of the last record acknowledged, in its epoch"},
    {"spillway_sink_lag_messages", gauge, "stream, sink",
     "Records received and not yet acknowledged"},
    {"spillway_sink_lag_bytes", gauge, "stream, sink", "Bytes of these records"},
    {"spillway_sink_lag_seconds", gauge, "stream, sink",
     "Age of the oldest record not yet acknowledged; 0 without one"},
    {"spillway_sink_in_flight_messages", gauge, "stream, sink",
     "Records sent and not yet acknowledged"},
    {"spillway_sink_in_flight_bytes", gauge, "stream, sink", "Bytes of these records"},
    {"spillway_sink_connects_total", counter, "stream, sink", "Connections established"},
    {"spillway_sink_disconnects_total", counter, "stream, sink",
     "Established connections that ended without our doing"},
    {"spillway_sink_connection_failures_total", counter, "stream, sink, reason",
     "Attempts to connect that failed, and connections that broke"},
    {"spillway_sink_send_failures_total", counter, "stream, sink, reason, retriable",
     "Records that were sent in vain: unacknowledged when the connection ended, or refused for "
     "good"},
    {"spillway_sink_retries_total", counter, "stream, sink", "Attempts to connect after the first"},
    {"spillway_sink_backoff_seconds", gauge, "stream, sink",
     "The pause before the next attempt; 0 while connected"},

    // Outages and replays.
    {"spillway_outages_total", counter, "stream, sink", "Outages that began"},
    {"spillway_outage_duration_seconds", histogram, "stream, sink", "Length of outages that ended",
     kDuration},
    {"spillway_outage_started_timestamp_seconds", gauge, "stream, sink",
     "When the outage that lasts began; 0 without one"},
    {"spillway_outage_timeout_seconds", gauge, "stream, sink",
     "The configured outage_timeout; +Inf if unlimited"},
    {"spillway_outage_remaining_seconds", gauge, "stream, sink",
     "What is left of the outage timeout; all of it without an outage"},
    {"spillway_replays_total", counter, "stream, sink, result", "Replays that ended"},
    {"spillway_replay_duration_seconds", histogram, "stream, sink",
     "Length of replays that completed", kDuration},
    {"spillway_replay_remaining_messages", gauge, "stream, sink",
     "Records still to be replayed; 0 without a replay"},
    {"spillway_replay_eta_seconds", gauge, "stream, sink",
     "Until the replay catches up at its present speed; 0 without one, +Inf if it does not gain"},

    // The journal, as a sink sees it.
    {"spillway_journal_size_bytes", gauge, "stream, sink",
     "Bytes in the journal that this sink has yet to take; sinks share them"},
    {"spillway_journal_size_messages", gauge, "stream, sink",
     "Records in the journal that this sink has yet to take"},
    {"spillway_journal_limit_bytes", gauge, "stream, sink",
     "The configured max_bytes; +Inf if unlimited"},
    {"spillway_journal_limit_messages", gauge, "stream, sink",
     "The configured max_records; +Inf if unlimited"},
    {"spillway_journal_limit_age_seconds", gauge, "stream, sink",
     "The configured max_age; +Inf if unlimited"},
    {"spillway_journal_oldest_timestamp_seconds", gauge, "stream, sink",
     "When the oldest record that this sink has yet to take was received; 0 without one"},

    // The journal as a whole.
    {"spillway_journal_held_bytes", gauge, "stream", "Bytes of records in the journal, each once"},
    {"spillway_journal_held_messages", gauge, "stream", "Records in the journal, each once"},
    {"spillway_journal_disk_usage_bytes", gauge, "", "Everything under data_dir, as du counts it"},
    {"spillway_journal_disk_limit_bytes", gauge, "", "The configured max_disk_bytes"},
    {"spillway_journal_dir_available_bytes", gauge, "",
     "Free space of the file system of data_dir"},
    {"spillway_journal_exhaustion_seconds", gauge, "",
     "Until the first limit acts at present growth, of max_disk_bytes, min_free_disk, and "
     "max_bytes and max_records of a sink; 0 while a stream is halted, +Inf without growth"},
    {"spillway_journal_failing", gauge, "",
     "1 while the store is closed after a failed write, being reopened"},
    {"spillway_journal_appends_total", counter, "", "Blocks appended"},
    {"spillway_journal_append_bytes_total", counter, "", "Bytes appended"},
    {"spillway_journal_fsyncs_total", counter, "", "Batches written and synced"},
    {"spillway_journal_fsync_duration_seconds", histogram, "", "Write and sync of one batch",
     kSync},
    {"spillway_journal_commit_batch_messages", histogram, "", "Records per batch", kGroup},
    {"spillway_journal_commit_errors_total", counter, "", "Batches that failed"},
    {"spillway_journal_reopens_total", counter, "",
     "Times the store was opened again after a failure"},
    {"spillway_journal_corruption_events_total", counter, "stream, kind",
     "Damage that was found, by when it was found"},
    {"spillway_journal_recovered_messages_total", counter, "stream",
     "Records found in the journal when it was opened"},
    {"spillway_journal_lost_messages_total", counter, "stream",
     "Records that were acknowledged, and that the journal no longer has"},
    {"spillway_orphaned_journal_bytes", gauge, "",
     "Bytes that repairs replaced and kept, and that no stream uses"},

    // What was let go.
    {"spillway_dropped_messages_total", counter, "stream, sink, reason",
     "Records that did not reach the sink, as in the ledger; reason filter is no loss"},
    {"spillway_dead_letter_messages_total", counter, "stream, sink, reason",
     "Records that the sink refused for good and that were set aside"},
    {"spillway_dead_letter_size_bytes", gauge, "stream, sink", "Bytes of records set aside"},

    // RocksDB.
    {"spillway_rocksdb_wal_bytes", gauge, "", "Write-ahead logs"},
    {"spillway_rocksdb_sst_bytes", gauge, "", "Table files"},
    {"spillway_rocksdb_memtable_bytes", gauge, "", "Memtables"},
    {"spillway_rocksdb_pending_compaction_bytes", gauge, "", "Estimate of bytes to be compacted"},
    {"spillway_rocksdb_block_cache_bytes", gauge, "", "Block cache in use"},
    {"spillway_rocksdb_estimate_live_data_bytes", gauge, "",
     "Estimate of bytes that are still needed"},
    {"spillway_rocksdb_write_stall_seconds_total", counter, "",
     "Time for which RocksDB held writes up"},

    // The operating system's view, under the names that every exporter uses.
    {"process_cpu_seconds_total", counter, "", "User and system CPU time"},
    {"process_resident_memory_bytes", gauge, "", "Resident memory"},
    {"process_virtual_memory_bytes", gauge, "", "Virtual memory"},
    {"process_open_fds", gauge, "", "Open file descriptors"},
    {"process_max_fds", gauge, "", "Most file descriptors allowed"},
    {"process_threads", gauge, "", "Threads"},
    {"process_start_time_seconds", gauge, "", "When the process started"},
};

}  // namespace

std::string_view name_of(Type type) {
  switch (type) {
    case counter: return "counter";
    case gauge: return "gauge";
    case histogram: return "histogram";
  }
  return "untyped";
}

std::span<const Definition> catalogue() { return kCatalogue; }

const Definition& definition_of(std::string_view name) {
  const auto* found = std::find_if(std::begin(kCatalogue), std::end(kCatalogue),
                                   [name](const Definition& each) { return each.name == name; });
  INVARIANT(found != std::end(kCatalogue));
  return *found;
}

}  // namespace spillway::metrics
