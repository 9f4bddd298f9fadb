// INVARIANT(condition): checked in every build. A broken invariant stops the process, not the
// guarantee: a restart reads what is durable, a wrong machine would go on to lose records.
#pragma once

namespace spillway {
[[noreturn]] void invariant_failed(const char* condition, const char* file, int line) noexcept;
}

#define INVARIANT(condition) \
  ((condition) ? static_cast<void>(0) \
               : ::spillway::invariant_failed(#condition, __FILE__, __LINE__))
