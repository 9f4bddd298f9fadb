// What a store holds, put beside what the marks say it should hold.
#pragma once

#include <optional>
#include <string>

#include "journal/store.h"

namespace spillway::journal {

// Reads everything of `stream` that Recovered has, but for the latch. `high_water` is the
// independent mark. What cannot be read is `damage`. Where the device failed, `device` says so:
// what could not be read may be there.
Recovered recover_stream(Store& store, const std::string& stream, Offset high_water,
                         rocksdb::Status& device);

// Why `stream` must not be written to at a start: what has to be known first cannot be read.
struct Obstacle {
  std::string text;
  bool damage;  // or the device failed, and asking again may help
};
std::optional<Obstacle> find_obstacle(Store& store, const std::string& stream);

// A stream of a store that could not be opened.
Recovered unreadable_stream(const std::string& stream, Offset high_water, const std::string& why);

void add_damage(Recovered& recovered, const std::string& text);

// The contents of a mark file.
std::string encode_mark(Offset end);
Offset decode_mark(const std::string& contents);

}  // namespace spillway::journal
