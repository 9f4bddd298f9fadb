// The baselines of what is written: what the disk, and RocksDB as the journal opens it, make of the
// same bytes in the same groups.
//
//   bench_disk --mode append|rocksdb|read --dir DIR --bytes TOTAL --group BYTES [--value BYTES]
//
// append: write and fdatasync a growing file. rocksdb: synced batches of values under rising keys.
// read: the file of an append run, in sequence, after it was dropped from the page cache. Prints
// seconds and bytes.
#include <fcntl.h>
#include <rocksdb/db.h>
#include <rocksdb/write_batch.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <string>

#include "journal/store.h"
#include "tests/bench/io.h"

namespace spillway::bench {
namespace {

struct Work {
  std::string dir;
  std::uint64_t bytes;
  std::uint64_t group;
  std::uint64_t value;
};

std::string noise(std::uint64_t size) {
  std::mt19937_64 random(1);
  std::string text(size, ' ');
  for (char& letter : text) letter = static_cast<char>(random());
  return text;
}

double append(const Work& work) {
  const std::string path = work.dir + "/append";
  const int file = ::open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
  const std::string group = noise(work.group);
  const double begin = now();
  for (std::uint64_t done = 0; done < work.bytes; done += group.size()) {
    if (::write(file, group.data(), group.size()) != static_cast<ssize_t>(group.size()) ||
        ::fdatasync(file) != 0) {
      die("cannot write " + path);
    }
  }
  const double seconds = now() - begin;
  ::close(file);
  return seconds;
}

double read(const Work& work) {
  append(work);
  const std::string path = work.dir + "/append";
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  ::posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
  std::string buffer(std::size_t{1} << 20, ' ');
  const double begin = now();
  while (::read(file, buffer.data(), buffer.size()) > 0) {
  }
  const double seconds = now() - begin;
  ::close(file);
  return seconds;
}

double rocksdb_writes(const Work& work) {
  journal::Options options;
  options.data_dir = work.dir + "/store";
  options.max_disk_bytes = std::uint64_t{10} << 30;
  std::filesystem::create_directories(options.data_dir / "journal");
  journal::StoreContext context(options);
  context.signals->wake = [] {};
  journal::Store::Failure failure;
  const auto store = journal::Store::open(context, journal::Store::Mode::write, failure);
  if (!store) die("cannot open a store in " + work.dir);
  if (!store->create_streams({"s"}).ok()) die("cannot make a stream");
  rocksdb::ColumnFamilyHandle* const stream = store->stream("s");
  const std::string value = noise(std::min(work.value, work.group));
  rocksdb::WriteOptions sync;
  sync.sync = true;
  std::uint64_t key = 0;
  const double begin = now();
  for (std::uint64_t done = 0; done < work.bytes;) {
    rocksdb::WriteBatch batch;
    for (std::uint64_t in_group = 0; in_group < work.group; in_group += value.size()) {
      char digits[24];
      std::snprintf(digits, sizeof(digits), "%016llx", static_cast<unsigned long long>(++key));
      batch.Put(stream, digits, value);
      done += value.size();
    }
    if (!store->db().Write(sync, &batch).ok()) die("RocksDB does not write");
  }
  return now() - begin;
}

}  // namespace
}  // namespace spillway::bench

int main(int argc, char** argv) {
  using namespace spillway::bench;
  const Arguments arguments(argc, argv);
  const Work work{arguments.text("--dir"), arguments.number("--bytes", 1 << 20),
                  arguments.number("--group", 1 << 16), arguments.number("--value", 1 << 16)};
  std::filesystem::create_directories(work.dir);
  const std::string mode = arguments.text("--mode");
  double seconds = 0;
  if (mode == "append") {
    seconds = append(work);
  } else if (mode == "read") {
    seconds = read(work);
  } else if (mode == "rocksdb") {
    seconds = rocksdb_writes(work);
  } else {
    die("--mode is append, rocksdb or read");
  }
  Line().add("seconds", seconds).add("bytes", static_cast<double>(work.bytes)).print();
}
