#include "tests/fault/power_plan.h"

#include <algorithm>
#include <functional>
#include <random>

#include "tests/journal/harness.h"

namespace spillway::journal {

PlanSize plan_size(const std::string& workload) {
  if (workload == "tables") return {30, 400'000, 1, 1};
  if (workload == "flood") return {200, 4'000, 24, 1};
  return {40, 10'000, 2, 5};  // restarts
}

Plan::Plan(std::string stream, const PlanSize& size, std::uint64_t seed)
    : stream_(std::move(stream)) {
  std::mt19937_64 random(seed ^ std::hash<std::string>()(stream_));
  steps_.emplace_back();
  std::uint64_t latches = 0;
  for (std::uint64_t number = 1; number <= size.commits; ++number) {
    Step step;
    step.then = steps_.back().then;
    Expected& then = step.then;
    const Offset end_before = then.end;
    for (std::uint64_t i = random() % 4; i > 0; --i) {
      const std::uint64_t records = 1 + random() % 5;
      const std::uint64_t bytes = records * (1 + random() % (size.max_block_bytes / records));
      step.blocks.emplace_back(records, bytes);
      then.end += records;
      then.running_bytes += bytes;
    }
    if (random() % 6 == 0 && end_before > then.watermark) {
      step.watermark = then.watermark + 1 + random() % (end_before - then.watermark);
      then.watermark = step.watermark;
    }
    step.ledger = random() % 5 == 0;
    step.dead_letter = random() % 8 == 0;
    then.ledger += step.ledger ? 1 : 0;
    then.dead_letters += step.dead_letter ? 1 : 0;
    if (random() % 7 == 0) step.latch = ++latches;
    steps_.push_back(std::move(step));
  }
}

std::vector<BlockPtr> Plan::blocks_of(std::uint64_t number) const {
  std::vector<BlockPtr> blocks;
  Expected at = steps_.at(number - 1).then;
  for (const auto& [records, bytes] : steps_.at(number).blocks) {
    at.running_bytes += bytes;
    blocks.push_back(with(make_block(at.end + 1, records, bytes),
                          [&](Block& block) { block.running_bytes = at.running_bytes; }));
    at.end += records;
  }
  return blocks;
}

Commit Plan::commit(std::uint64_t number, std::uint64_t generation) const {
  const Step& step = steps_.at(number);
  Commit commit;
  commit.stream = stream_;
  commit.generation = generation;
  commit.append = blocks_of(number);
  commit.state = std::to_string(number);
  if (step.watermark != 0) commit.watermark = step.watermark;
  if (step.ledger) commit.ledger.push_back(ledger_entry(step.then.ledger));
  if (step.dead_letter) {
    commit.dead_letters.push_back(
        {"sink", make_block(1, 1, 50), std::to_string(step.then.dead_letters), 0});
  }
  return commit;
}

std::string Plan::records(Offset first, Offset last) const {
  std::string all;
  for (std::uint64_t number = 1; number < steps_.size(); ++number) {
    if (after(number).end < first) continue;
    for (const BlockPtr& block : blocks_of(number)) {
      if (block->first < first || block->last() > last) continue;
      all.append(reinterpret_cast<const char*>(block->records.data()), block->bytes());
    }
    if (after(number).end >= last) break;
  }
  return all;
}

LedgerEntry Plan::ledger_entry(std::uint64_t id) {
  LedgerEntry entry;
  entry.id = id;
  entry.sink = "sink";
  entry.first = {1, id};
  entry.last = {1, id};
  entry.count = 1;
  entry.reason = LossReason::limit;
  entry.text = std::to_string(id);
  return entry;
}

Options plan_options(const std::filesystem::path& data_dir) {
  Options options = options_in(data_dir, {std::begin(kPlanStreams), std::end(kPlanStreams)});
  options.max_disk_bytes = kMinDiskBytes;  // small memtables, so that tables are written often
  return options;
}

std::string latch_text(std::uint64_t number) { return "latch " + std::to_string(number); }

}  // namespace spillway::journal
