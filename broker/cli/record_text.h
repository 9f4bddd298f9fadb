// A record as JSON, for people and scripts.
#pragma once

#include <boost/json/object.hpp>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "wire/record.h"

namespace spillway::cli {

inline std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string base64(std::string_view bytes);
// Valid UTF-8 under `key`, anything else in base64 under `key` + "_base64".
void add_bytes(boost::json::object& object, std::string_view key, std::string_view bytes);
// {"position", "payload" | "payload_base64", and of the rest what the record has}.
boost::json::object record_json(const wire::RecordView& record);

}  // namespace spillway::cli
