// What a stream stores, to bytes and back. The journal and the latch file keep the bytes; their
// shape is broker/state.proto.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "recovery/durable_state.h"
#include "recovery/halt.h"

namespace spillway::broker {

inline constexpr std::uint32_t kStateFormat = 1;

std::string encode_state(const recovery::DurableState& state);
// Errors: not a state, or of a format that this version does not know.
Result<recovery::DurableState> decode_state(std::string_view bytes);

// Texts are cut so that the whole stays within journal::kMaxLatchBytes.
std::string encode_latch(const std::vector<recovery::HaltCause>& causes);
Result<std::vector<recovery::HaltCause>> decode_latch(std::string_view bytes);

}  // namespace spillway::broker
