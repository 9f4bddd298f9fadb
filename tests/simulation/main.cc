// simulation: runs seeds of the machines in a simulated world.
//   simulation --seeds N [--from N]   runs N seeds and prints counts
//   simulation --seed N [--trace]     runs one; with --trace prints everything that happens
// Exits with 1 when a guarantee does not hold, with the seed and the last lines of its trace; and
// when 5,000 seeds or more never reach a transition of the tables.
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/simulation/world.h"

namespace spillway::simulation {
namespace {

constexpr std::uint64_t kSeedsForCoverage = 5000;  // so many reach every transition

volatile std::uint64_t current_seed = 0;
const char* program = nullptr;
const Trace* current_trace = nullptr;

// A broken INVARIANT aborts inside the machine: say which seed, and show how it came to that.
void on_abort(int) {
  if (current_trace != nullptr) {
    current_trace->dump();
    std::fprintf(stderr, "seed %llu failed\n", static_cast<unsigned long long>(current_seed));
    std::_Exit(1);
  }
  static std::array<char, 32> seed;
  std::snprintf(seed.data(), seed.size(), "%llu", static_cast<unsigned long long>(current_seed));
  execl(program, program, "--seed", seed.data(), static_cast<char*>(nullptr));
  std::_Exit(1);
}

bool run_one(std::uint64_t seed, Counts& counts, Trace& trace) {
  current_seed = seed;
  try {
    World(seed, counts, trace).run();
    return true;
  } catch (const Failure& failure) {
    if (trace.on()) {
      trace.dump();
      std::fprintf(stderr, "seed %llu failed: %s\n", static_cast<unsigned long long>(seed),
                   failure.what());
    }
    return false;
  }
}

int run(std::uint64_t from, std::uint64_t seeds) {
  const auto begin = std::chrono::steady_clock::now();
  Counts counts;
  Trace off(Trace::Mode::off);
  for (std::uint64_t seed = from; seed < from + seeds; ++seed) {
    if (run_one(seed, counts, off)) continue;
    Counts again;
    Trace tail(Trace::Mode::tail);
    current_trace = &tail;
    run_one(seed, again, tail);
    return 1;
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  counts.print();
  std::printf("%.1f s, %.0f seeds/s\n", took.count(), static_cast<double>(seeds) / took.count());
  const std::string unreached = counts.unreached();
  if (unreached.empty()) std::printf("every transition, fault and cause of a halt was reached\n");
  if (seeds < kSeedsForCoverage || unreached.empty()) return 0;
  std::printf("never reached:\n%s", unreached.c_str());
  return 1;
}

}  // namespace
}  // namespace spillway::simulation

int main(int argc, char** argv) {
  using namespace spillway::simulation;
  program = argv[0];
  std::signal(SIGABRT, on_abort);
  std::uint64_t from = 1;
  std::uint64_t seeds = 1000;
  std::uint64_t seed = 0;
  bool trace_all = false;
  for (int i = 1; i < argc; ++i) {
    const auto is = [&](const char* name) { return std::strcmp(argv[i], name) == 0; };
    if (is("--trace")) {
      trace_all = true;
    } else if (i + 1 < argc && (is("--seed") || is("--seeds") || is("--from"))) {
      const std::uint64_t value = std::strtoull(argv[i + 1], nullptr, 10);
      (is("--seed") ? seed : is("--seeds") ? seeds : from) = value;
      ++i;
    } else {
      std::fprintf(stderr, "usage: %s [--seed N [--trace]] [--seeds N] [--from N]\n", argv[0]);
      return 2;
    }
  }
  if (seed == 0) return run(from, seeds);
  Counts counts;
  Trace trace(trace_all ? Trace::Mode::all : Trace::Mode::tail);
  current_trace = &trace;
  const bool ok = run_one(seed, counts, trace);
  if (ok) counts.print();
  return ok ? 0 : 1;
}
