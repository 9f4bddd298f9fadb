// Reads the dead letters of a stream.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "journal/store.h"

namespace spillway::journal {

// As Inspector::dead_letters().
std::optional<Error> visit_dead_letters(Store& store, const std::string& stream,
                                        const std::function<bool(const DeadLetter&)>& visit);

}  // namespace spillway::journal
