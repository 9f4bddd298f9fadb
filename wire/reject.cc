#include "wire/reject.h"

namespace spillway::wire {

std::string_view name_of(RejectCode code) {
  switch (code) {
    case RejectCode::malformed: return "malformed";
    case RejectCode::unsupported_version: return "unsupported_version";
    case RejectCode::unknown_stream: return "unknown_stream";
    case RejectCode::unauthorized: return "unauthorized";
    case RejectCode::fenced: return "fenced";
    case RejectCode::replaced: return "replaced";
    case RejectCode::fork: return "fork";
    case RejectCode::gap: return "gap";
    case RejectCode::too_large: return "too_large";
    case RejectCode::corrupt: return "corrupt";
    case RejectCode::epoch: return "epoch";
    case RejectCode::in_flight: return "in_flight";
    case RejectCode::halted: return "halted";
    case RejectCode::shutting_down: return "shutting_down";
    case RejectCode::record: return "record";
    case RejectCode::busy: return "busy";
  }
  return "unknown";
}

}  // namespace spillway::wire
