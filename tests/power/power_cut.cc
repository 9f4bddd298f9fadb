// power_cut BASE TRACE TARGET nothing|chance|all SEED: makes at TARGET what a power cut at the end
// of TRACE leaves of a folder that was BASE when the trace began.
#include <cstdio>
#include <string>

#include "tests/power/disk_model.h"

int main(int count, char** arguments) {
  using namespace spillway::power;
  const std::string remains = count == 6 ? arguments[4] : "";
  if (remains != "nothing" && remains != "chance" && remains != "all") {
    std::fprintf(stderr, "usage: power_cut BASE TRACE TARGET nothing|chance|all SEED\n");
    return 2;
  }
  DiskModel disk(arguments[1]);
  TraceReader trace(arguments[2]);
  unsigned long syncs = 0;
  while (const auto entry = trace.next()) {
    syncs += entry->header.call == Call::sync || entry->header.call == Call::sync_dir ? 1 : 0;
    disk.play(*entry);
  }
  disk.cut(arguments[3],
           remains == "nothing"  ? Remains::nothing
           : remains == "chance" ? Remains::chance
                                 : Remains::all,
           std::stoull(arguments[5]));
  std::printf("%lu syncs\n", syncs);
  return 0;
}
