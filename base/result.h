// Result<T>: a value, or an Error that a person can act on.
#pragma once

#include <boost/system/result.hpp>
#include <stdexcept>
#include <string>

namespace spillway {

// `message` says what is wrong and what to do about it, as one line without a trailing period.
struct Error {
  std::string message;
};

// Lets Result::value() throw; code of ours asks has_value() first.
[[noreturn]] inline void throw_exception_from_error(const Error& error,
                                                    const boost::source_location&) {
  throw std::runtime_error(error.message);
}

template <class T>
using Result = boost::system::result<T, Error>;

}  // namespace spillway
