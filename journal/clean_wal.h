// Shows RocksDB a WAL without what is damaged in it. By itself it ends at the first bad byte, puts
// fragments of two records together, or searches for ever: whichever recovery mode it is told.
#pragma once

#include <rocksdb/env.h>

#include <memory>

namespace spillway::journal {

// For a store that is only read. Each WAL file is in memory while it is read; `base` must outlive
// what is returned.
std::unique_ptr<rocksdb::Env> clean_wal_env(rocksdb::Env* base);

}  // namespace spillway::journal
