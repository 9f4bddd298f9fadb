// The [[stream.sink]] tables: one function, apart from parse.cc for its size.
#pragma once

#include "broker/config/reader.h"

namespace spillway::config {

// Reads what `section` says over the defaults in `sink` and reports what is wrong with it alone;
// what depends on other tables is parse.cc's. `folder` is what relative paths are relative to.
void read_sink(Section& section, const std::filesystem::path& folder,
               const std::string& stream_name, Sink& sink);

// Reports what is_name() refuses.
void read_name(Section& section, std::string& out);
// Reports an address that is wrong; `connecting` also refuses port 0.
bool read_address(Section& section, std::string_view key, const std::filesystem::path& folder,
                  bool connecting, bool plain_is_tcp, Address& out);
// An absent or empty text gives an empty path.
void read_path(Section& section, std::string_view key, const std::filesystem::path& folder,
               std::filesystem::path& out);

}  // namespace spillway::config
