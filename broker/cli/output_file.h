// A file that appears under its name only when all of it is there, durably.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <ostream>
#include <streambuf>
#include <string>
#include <vector>

#include "base/result.h"

namespace spillway::cli {

// One thread. Writes beside the file's place; what was not committed is removed.
class OutputFile {
 public:
  // A file that is there already is an error without `replace`.
  static Result<std::unique_ptr<OutputFile>> create(const std::filesystem::path& path,
                                                    bool replace);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  std::ostream& stream() { return stream_; }
  // Syncs what was written and gives it its name.
  std::optional<Error> commit();

 private:
  class Buffer final : public std::streambuf {
   public:
    explicit Buffer(int fd);
    int error() const { return error_; }  // errno of the first write that failed; 0: none

   private:
    int_type overflow(int_type c) override;
    int sync() override;

    int fd_;
    int error_ = 0;
    std::vector<char> bytes_;
  };
  OutputFile(std::filesystem::path path, std::filesystem::path written, int fd, bool replace);
  Error failure(const std::string& what, int error) const;

  std::filesystem::path path_;
  std::filesystem::path written_;  // its name until it is whole
  int fd_;
  bool replace_;
  bool committed_ = false;
  Buffer buffer_;
  std::ostream stream_;
};

}  // namespace spillway::cli
