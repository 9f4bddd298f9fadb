// The readers of bytes that come from outside, each as a function of nothing but these bytes. It
// returns when they were read or refused, and ends the process when something is wrong: a sanitizer
// says so, or a property that must hold for all input does not.
//
// libFuzzer calls them with what it makes up (fuzz.py), fuzz_test with the corpus.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace spillway::fuzz {

using Bytes = std::span<const std::uint8_t>;

void frame(Bytes input);    // what a peer sends: frames, and the messages in them
void batch(Bytes input);    // the body of a Batch: header and records
void journal(Bytes input);  // values of the journal: blocks, ledger entries, dead letters
void config(Bytes input);   // a configuration file
void count(Bytes input);    // what a receiver of a tcp sink acknowledges
void http(Bytes input);     // the target of an admin request

struct Target {
  const char* name;
  void (*run)(Bytes input);
};
inline constexpr Target kTargets[] = {
    {"frame", frame},   {"batch", batch}, {"journal", journal},
    {"config", config}, {"count", count}, {"http", http},
};

}  // namespace spillway::fuzz
