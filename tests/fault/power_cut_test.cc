// A power cut at every sync of a run of the real journal: what was acknowledged is there, in order,
// and all that one commit held is there or none of it.
//
// SPILLWAY_POWER_SEEDS=N runs each workload with N seeds instead of one, from SPILLWAY_POWER_SEED
// on.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <sstream>

#include "journal/inspect.h"
#include "tests/fault/child.h"
#include "tests/fault/power_plan.h"
#include "tests/journal/harness.h"
#include "tests/power/disk_model.h"

namespace spillway::journal {
namespace {

using power::Call;
using power::DiskModel;
using power::Remains;

constexpr std::uint64_t kReadBytes = std::uint64_t{1} << 20;

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text != nullptr ? std::stoull(text) : otherwise;
}

// What the run asked for and was told until a moment, by stream.
struct Word {
  std::uint64_t begun = 0;
  std::uint64_t done = 0;
  std::uint64_t latching = 0;
  std::uint64_t latched = 0;
};
using Words = std::map<std::string, Word>;

void hear(const std::string& note, Words& words) {
  std::istringstream text(note);
  std::string what;
  std::string stream;
  std::uint64_t number = 0;
  text >> what >> stream >> number;
  Word& word = words[stream];
  if (what == "begin") word.begun = number;
  if (what == "done") word.done = number;
  if (what == "latching") word.latching = number;
  if (what == "latched") word.latched = number;
  EXPECT_NE(what, "failed");
}

std::filesystem::path program_folder() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path();
}

// Runs the workload in `root`/data under the shim.
void run_workload(const std::filesystem::path& root, const std::filesystem::path& trace,
                  const std::string& workload, std::uint64_t seed) {
  const auto set = [](const char* name) {
    const char* text = std::getenv(name);
    return std::string(name) + '=' + (text != nullptr ? text : "");
  };
  const std::vector<std::string> variables = {
      "LD_PRELOAD=" + (program_folder() / "libpower_shim.so").string(),
      "SPILLWAY_POWER_ROOT=" + root.string(), "SPILLWAY_POWER_TRACE=" + trace.string(),
      // A sanitizer wants to come first; the shim asks the kernel, past whatever stands before it.
      set("ASAN_OPTIONS") + ":verify_asan_link_order=0", set("TSAN_OPTIONS")};
  const std::vector<std::string> words = {(program_folder() / "power_workload").string(),
                                          (root / "data").string(), workload, std::to_string(seed)};
  const auto pointers = [](const std::vector<std::string>& texts) {
    std::vector<char*> list;
    for (const std::string& text : texts) list.push_back(const_cast<char*>(text.c_str()));
    list.push_back(nullptr);
    return list;
  };
  pid_t pid = 0;
  ASSERT_EQ(::posix_spawn(&pid, words[0].c_str(), nullptr, nullptr, pointers(words).data(),
                          pointers(variables).data()),
            0);
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "the workload failed";
}

void expect_records(Journal& journal, const std::string& stream, const Plan& plan, Offset next,
                    const Expected& expected) {
  while (next <= expected.end) {
    const ReadResult result = read(journal, next, ~Offset{0}, kReadBytes, stream);
    ASSERT_TRUE(result.ok) << result.error;
    ASSERT_FALSE(result.lost) << result.lost->first << " to " << result.lost->second;
    ASSERT_FALSE(result.blocks.empty());
    const Offset first = result.blocks.front()->first;
    std::string records;
    for (const BlockPtr& block : result.blocks) {
      ASSERT_LE(block->first, next);
      next = block->last() + 1;
      records.append(reinterpret_cast<const char*>(block->records.data()), block->bytes());
    }
    ASSERT_EQ(records == plan.records(first, next - 1), true)
        << "offsets " << first << " to " << next - 1 << " are not what was appended";
  }
  ASSERT_EQ(next, expected.end + 1);
}

void expect_stream(Journal& journal, const std::string& stream, const Plan& plan,
                   const Word& word) {
  SCOPED_TRACE("stream " + stream + ": " + std::to_string(word.done) + " commits acknowledged, " +
               std::to_string(word.begun) + " begun");
  const Recovered& found = find(journal.recovered(), stream);
  EXPECT_FALSE(found.damage) << *found.damage;
  const std::uint64_t commits = std::stoull(found.state.value_or("0"));
  ASSERT_GE(commits, word.done) << "acknowledged commits are gone";
  ASSERT_LE(commits, word.begun);
  const Expected& expected = plan.after(commits);
  EXPECT_EQ(found.end, std::max(expected.end, expected.watermark));
  EXPECT_EQ(found.watermark, expected.watermark);
  EXPECT_EQ(found.next_ledger_id, expected.ledger + 1);
  if (word.latched > 0 || found.latch) {
    bool known = false;
    for (std::uint64_t i = word.latched; i <= word.latching; ++i) {
      known |= i == 0 ? !found.latch : found.latch == latch_text(i);
    }
    EXPECT_TRUE(known) << "latch: " << found.latch.value_or("none") << "; " << word.latched
                       << " was the last acknowledged, " << word.latching << " the last begun";
  }
  const auto ledger = journal.ledger(stream, ~std::size_t{0});
  ASSERT_TRUE(ledger.has_value());
  ASSERT_EQ(ledger->size(), expected.ledger);
  for (std::size_t i = 0; i < ledger->size(); ++i) {
    EXPECT_EQ((*ledger)[i].id, expected.ledger - i);
    EXPECT_EQ((*ledger)[i].text, std::to_string(expected.ledger - i));
  }
  expect_records(journal, stream, plan, expected.watermark + 1, expected);
  if (commits < plan.commits()) {
    EXPECT_EQ(commit(journal, plan.commit(commits + 1, found.generation)), Outcome::ok);
    expect_records(journal, stream, plan, expected.end + 1, plan.after(commits + 1));
  }
}

void expect_tools_agree(const std::filesystem::path& data_dir, const std::vector<Plan>& plans) {
  const auto inspector = Inspector::open(data_dir);
  ASSERT_TRUE(inspector.has_value()) << inspector.error().message;
  for (const Finding& finding : (*inspector)->check()) ADD_FAILURE() << finding.text;
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const std::string stream = kPlanStreams[i];
    const auto& found = find((*inspector)->streams(), stream);
    const Expected& expected = plans[i].after(std::stoull(found.state.value_or("0")));
    std::size_t letters = 0;
    const auto error = (*inspector)->dead_letters(stream, [&letters](const DeadLetter& letter) {
      EXPECT_EQ(letter.reason, std::to_string(++letters));
      return true;
    });
    ASSERT_FALSE(error.has_value());
    ASSERT_EQ(letters, expected.dead_letters);
  }
}

// One run, and the disks that power cuts in it would have left.
class CutRun {
 public:
  CutRun(std::string workload, std::uint64_t seed) : workload_(std::move(workload)), seed_(seed) {
    for (const char* stream : kPlanStreams) {
      plans_.emplace_back(stream, plan_size(workload_), seed);
    }
    std::filesystem::create_directory(root());
    std::filesystem::create_directory(base());
  }

  // Cuts at every sync; returns how many.
  int cut_everywhere() {
    run_workload(root(), trace(), workload_, seed_);
    if (testing::Test::HasFailure()) return 0;
    DiskModel disk(base());
    power::TraceReader entries(trace());
    int cuts = 0;
    while (const auto entry = entries.next()) {
      const Call call = entry->header.call;
      if ((call == Call::sync || call == Call::sync_dir) && started_) {
        constexpr Remains kTurns[] = {Remains::nothing, Remains::chance, Remains::all,
                                      Remains::chance};
        check(disk, kTurns[cuts % 4], cuts + 1);
        ++cuts;
        if (testing::Test::HasFailure()) return cuts;
      }
      if (call == Call::note) hear(entry->data, words_);
      started_ |= call == Call::note;
      disk.play(*entry);
    }
    check(disk, Remains::nothing, ++cuts);
    for (const Plan& plan : plans_) EXPECT_GT(plan.commits(), 0u);
    EXPECT_EQ(words_["s"].done, plans_[0].commits());
    return cuts;
  }

 private:
  std::filesystem::path root() const { return dir_.path() / "disk"; }
  std::filesystem::path base() const { return dir_.path() / "base"; }
  std::filesystem::path trace() const { return dir_.path() / "trace"; }

  void check(const DiskModel& disk, Remains remains, int number) {
    const std::filesystem::path left = dir_.path() / "left";
    in_child([&] {
      SCOPED_TRACE("seed " + std::to_string(seed_) + ", cut " + std::to_string(number));
      disk.cut(left, remains, seed_ * 1'000'003 + static_cast<std::uint64_t>(number));
      if (number % 8 == 0) expect_tools_agree(left / "data", plans_);
      const auto journal = open_journal(plan_options(left / "data"));
      ASSERT_NE(journal, nullptr);
      for (std::size_t i = 0; i < plans_.size(); ++i) {
        expect_stream(*journal, kPlanStreams[i], plans_[i], words_[kPlanStreams[i]]);
      }
    });
    std::filesystem::remove_all(left);
  }

  std::string workload_;
  std::uint64_t seed_;
  TempDir dir_{in_memory()};
  std::vector<Plan> plans_;
  Words words_;
  bool started_ = false;
};

class PowerCut : public testing::TestWithParam<const char*> {};

TEST_P(PowerCut, AtAnySyncLosesNothingAcknowledgedAndKeepsEachCommitWhole) {
  const std::uint64_t first = number_from("SPILLWAY_POWER_SEED", 1);
  const std::uint64_t count = number_from("SPILLWAY_POWER_SEEDS", 1);
  int cuts = 0;
  for (std::uint64_t seed = first; seed < first + count && !HasFailure(); ++seed) {
    cuts += CutRun(GetParam(), seed).cut_everywhere();
  }
  std::printf("%d power cuts\n", cuts);
  EXPECT_GE(cuts, 70 * static_cast<int>(count));  // 210 in CI
}

INSTANTIATE_TEST_SUITE_P(While, PowerCut, testing::Values("tables", "flood", "restarts"),
                         [](const auto& one) { return std::string(one.param); });

}  // namespace
}  // namespace spillway::journal
