// Puts another store, and other marks and latches, in the place of those of a data directory, and
// keeps what was there. Each step leaves a directory that a broker can start with.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "base/position.h"
#include "base/result.h"

namespace spillway::journal {

// Not thread-safe. Holds the lock of data_dir for as long as it lives.
class Replacement {
 public:
  // Makes data_dir/repair/TIME.unfinished, where the new store is built, as a data directory of its
  // own. A running broker is an error that says so.
  static Result<std::unique_ptr<Replacement>> begin(const std::filesystem::path& data_dir);
  virtual ~Replacement() = default;  // removes what was built if none of it was put in place

  virtual const std::filesystem::path& staging() const = 0;
  // Exchanges the two stores at once; the one that was there stays in staging(), and so does, as
  // format.damaged, a format file that held no number.
  virtual std::optional<Error> put_store() = 0;
  // Durable when they return; what was there stays in staging(). Only after put_store(), if that
  // is called at all: a mark must not say more than the store holds.
  virtual std::optional<Error> put_mark(const std::string& stream, Offset end) = 0;
  virtual std::optional<Error> put_latch(const std::string& stream,
                                         const std::string& contents) = 0;
  // The mark and the latch of a stream that the store holds no more go to staging().
  virtual std::optional<Error> take_slots(const std::string& stream) = 0;
  // The last call: returns data_dir/repair/TIME, which has what was replaced.
  virtual Result<std::filesystem::path> finish() = 0;
};

}  // namespace spillway::journal
