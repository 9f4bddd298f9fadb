// Shows RocksDB the WAL of a store that a broker goes on writing to. By itself it reads the
// MANIFEST first and lists the WAL files after: one that is written out to a table in between is in
// neither, and what it held looks lost.
#pragma once

#include <rocksdb/env.h>

#include <filesystem>
#include <memory>

namespace spillway::journal {

// Holds every WAL file that `store` has now, so that it can be read after it is deleted. Each can
// be read once: for one opening of a store that is only read. `base` must outlive what is returned.
std::unique_ptr<rocksdb::Env> held_wal_env(rocksdb::Env* base, const std::filesystem::path& store);

}  // namespace spillway::journal
