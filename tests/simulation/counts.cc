#include "tests/simulation/counts.h"

namespace spillway::simulation {

void Counts::print() const {
  const auto number = [](std::uint64_t n) { return static_cast<unsigned long long>(n); };
  std::printf("%llu seeds, %llu steps, %llu records acknowledged, %llu duplicates taken\n",
              number(seeds), number(steps), number(records), number(duplicates));
  std::printf("%llu appends sent while others were under way\n", number(overlapped));
  std::printf("fullest window: %.2f of window_bytes\n", window_ratio);
  std::printf("faults:\n");
  for (std::size_t i = 0; i < kFaults; ++i) {
    std::printf("  %-24s %llu\n", std::string(name_of(static_cast<Fault>(i))).c_str(),
                number(faults[i]));
  }
  std::printf("deliveries:\n");
  for (const recovery::DeliveryTransition& t : recovery::delivery_transitions()) {
    std::printf("  %-11s -> %-11s %-22s %llu\n", std::string(recovery::name_of(t.from)).c_str(),
                std::string(recovery::name_of(t.to)).c_str(),
                std::string(recovery::name_of(t.cause)).c_str(), number(of(t)));
  }
  std::printf("coverage:\n");
  for (const recovery::CoverageTransition& t : recovery::coverage_transitions()) {
    std::printf("  %-11s -> %-11s %llu\n", std::string(recovery::name_of(t.from)).c_str(),
                std::string(recovery::name_of(t.to)).c_str(), number(of(t)));
  }
  std::printf("ledger entries:\n");
  for (int i = 1; i <= kLossReasons; ++i) {
    std::printf("  %-24s %llu\n", std::string(name_of(static_cast<LossReason>(i))).c_str(),
                number(losses[static_cast<std::size_t>(i)]));
  }
  std::printf("halts:\n");
  for (int i = 1; i <= recovery::kCauseKinds; ++i) {
    std::printf("  %-24s %llu\n",
                std::string(recovery::name_of(static_cast<recovery::CauseKind>(i))).c_str(),
                number(halts[static_cast<std::size_t>(i)]));
  }
}

std::uint64_t Counts::of(const recovery::DeliveryTransition& row) const {
  const auto found = delivery.find(
      {static_cast<int>(row.from), static_cast<int>(row.to), static_cast<int>(row.cause)});
  return found == delivery.end() ? 0 : found->second;
}

std::uint64_t Counts::of(const recovery::CoverageTransition& row) const {
  return coverage[static_cast<std::size_t>(row.from)][static_cast<std::size_t>(row.to)];
}

std::string Counts::unreached() const {
  std::string text;
  for (const recovery::DeliveryTransition& row : recovery::delivery_transitions()) {
    if (of(row) > 0) continue;
    text += "  " + std::string(name_of(row.from)) + " -> " + std::string(name_of(row.to)) + " (" +
            std::string(name_of(row.cause)) + ")\n";
  }
  for (const recovery::CoverageTransition& row : recovery::coverage_transitions()) {
    if (of(row) > 0) continue;
    text += "  " + std::string(name_of(row.from)) + " -> " + std::string(name_of(row.to)) + "\n";
  }
  for (std::size_t i = 0; i < kFaults; ++i) {
    if (faults[i] == 0) text += "  fault " + std::string(name_of(static_cast<Fault>(i))) + "\n";
  }
  for (int i = 1; i <= recovery::kCauseKinds; ++i) {
    if (halts[static_cast<std::size_t>(i)] != 0) continue;
    text += "  halt " + std::string(name_of(static_cast<recovery::CauseKind>(i))) + "\n";
  }
  return text;
}

void Trace::keep(std::string text) {
  if (mode_ == Mode::all) {
    std::printf("%s\n", text.c_str());
    return;
  }
  lines_.push_back(std::move(text));
  if (lines_.size() > 120) lines_.erase(lines_.begin() + 1);  // the first one is the plan
}

void Trace::dump() const {
  for (const std::string& line : lines_) std::fprintf(stderr, "  %s\n", line.c_str());
}

}  // namespace spillway::simulation
