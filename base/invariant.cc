#include "base/invariant.h"

#include <cstdio>
#include <cstdlib>

namespace spillway {

void invariant_failed(const char* condition, const char* file, int line) noexcept {
  std::fprintf(stderr, "invariant failed: %s (%s:%d)\n", condition, file, line);
  std::abort();
}

}  // namespace spillway
