// Why a record did not reach a sink: the word that the ledger, the metrics and the log share.
#pragma once

#include <cstdint>
#include <string_view>

namespace spillway {

// Stored in the journal and sent in Batch.skip: numbers are never reused.
enum class LossReason : std::uint8_t {
  limit = 1,         // on_limit = drop_oldest let it go
  age = 2,           // max_age, by the same policy
  outage = 3,        // outage_timeout, by the same policy
  rejected = 4,      // the sink refused it for good; it is in the dead letters
  gap = 5,           // the producer no longer had it (on_gap)
  journal_loss = 6,  // it was acknowledged, and the journal no longer has it
  corrupt = 7,       // it was in the journal, and damaged
  crash = 8,         // only memory held it when the process died: an upper bound
  reset = 9,         // an operator moved the cursor past it
  filter = 10,       // a filter left it out: counted, not a loss
  upstream = 11,     // the broker before this one said so
};
inline constexpr int kLossReasons = 11;

// The name used in labels and JSON, such as "journal_loss".
constexpr std::string_view name_of(LossReason reason) {
  switch (reason) {
    case LossReason::limit: return "limit";
    case LossReason::age: return "age";
    case LossReason::outage: return "outage";
    case LossReason::rejected: return "rejected";
    case LossReason::gap: return "gap";
    case LossReason::journal_loss: return "journal_loss";
    case LossReason::corrupt: return "corrupt";
    case LossReason::crash: return "crash";
    case LossReason::reset: return "reset";
    case LossReason::filter: return "filter";
    case LossReason::upstream: return "upstream";
  }
  return "unknown";
}

}  // namespace spillway
