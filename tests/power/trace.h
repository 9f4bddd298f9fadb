// The trace that power_shim.cc writes of a process and disk_model.cc plays: a run of entries, each
// a header, its path (relative to the root that is watched), and its data or second path.
#pragma once

#include <cstdint>

namespace spillway::power {

enum class Call : std::uint32_t {
  create,    // path, id: of a file that did not exist
  open,      // path, id: of one that did
  write,     // id, offset, data
  truncate,  // id, offset = the new size
  allocate,  // id, offset, length: zeros where there was nothing
  sync,      // id
  sync_dir,  // path
  make_dir,  // path
  remove,    // path: a file or an empty directory
  rename,    // path -> data
  link,      // path -> data
  note       // data: what the program says of itself
};

// `id` is of one open(), so that two opens of a file have two.
struct EntryHeader {
  Call call{};
  std::uint32_t id = 0;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  std::uint32_t path_bytes = 0;
  std::uint32_t data_bytes = 0;
};
static_assert(sizeof(EntryHeader) == 32);

}  // namespace spillway::power
