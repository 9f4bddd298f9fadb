// power_workload DATA_DIR WORKLOAD SEED: carries a plan out, or goes on with it, under the shim
// that writes down what becomes durable when; says in the same trace what it asked for and what it
// was told.
#include <dlfcn.h>

#include <cstdio>
#include <deque>
#include <future>
#include <memory>
#include <random>
#include <string>

#include "tests/fault/power_plan.h"
#include "tests/journal/harness.h"

namespace spillway::journal {
namespace {

void note(const std::string& text) {
  using Note = void (*)(const char*);
  static const auto kNote = reinterpret_cast<Note>(::dlsym(RTLD_DEFAULT, "spillway_power_note"));
  if (kNote != nullptr) kNote(text.c_str());
}

struct StreamRun {
  std::string name;
  Plan plan;
  std::uint64_t done = 0;  // commits handed over
};

class Run {
 public:
  Run(std::filesystem::path data_dir, const std::string& workload, std::uint64_t seed)
      : data_dir_(std::move(data_dir)), size_(plan_size(workload)), random_(seed) {
    for (const char* stream : kPlanStreams) {
      streams_.push_back({stream, Plan(stream, size_, seed), 0});
    }
  }

  bool go() {
    for (unsigned opening = 1; opening <= size_.openings; ++opening) {
      auto journal = Journal::open(plan_options(data_dir_), {});
      if (!journal) return complain(journal.error().message);
      note("opened");
      for (StreamRun& stream : streams_) {
        const Recovered& found = find((*journal)->recovered(), stream.name);
        if (found.damage) return complain(*found.damage);
        stream.done = std::stoull(found.state.value_or("0"));
      }
      while (step(**journal, size_.commits * opening / size_.openings)) {
      }
      while (!waiting_.empty()) await_oldest();
    }
    return true;
  }

 private:
  static bool complain(const std::string& what) {
    std::fprintf(stderr, "%s\n", what.c_str());
    return false;
  }

  // False when every stream has made so many commits.
  bool step(Journal& journal, std::uint64_t goal) {
    StreamRun& stream = streams_[random_() % streams_.size()];
    if (stream.done >= goal) {
      for (const StreamRun& other : streams_) {
        if (other.done < goal) return true;
      }
      return false;
    }
    const std::uint64_t number = ++stream.done;
    const std::string label = stream.name + " " + std::to_string(number);
    note("begin " + label);
    journal.commit(stream.plan.commit(number, 0), answer("done " + label));
    if (stream.plan.trims(number)) journal.trim(stream.name);
    if (const std::uint64_t latch = stream.plan.latch_after(number); latch != 0) {
      const std::string latch_label = stream.name + " " + std::to_string(latch);
      note("latching " + latch_label);
      journal.write_latch(stream.name, latch_text(latch),
                          [done = answer("latched " + latch_label)](bool ok) {
                            done(ok ? Outcome::ok : Outcome::failed);
                          });
    }
    while (waiting_.size() > size_.in_flight) await_oldest();
    return true;
  }

  // Awaited in go(); until then the note comes from the journal's own thread.
  Journal::Committed answer(std::string label) {
    auto promise = std::make_shared<std::promise<Outcome>>();
    waiting_.push_back(promise->get_future());
    return [promise, label = std::move(label)](Outcome outcome) {
      note(outcome == Outcome::ok ? label : "failed");
      promise->set_value(outcome);
    };
  }

  void await_oldest() {
    if (waiting_.front().get() != Outcome::ok) complain("a commit failed");
    waiting_.pop_front();
  }

  std::filesystem::path data_dir_;
  PlanSize size_;
  std::mt19937_64 random_;
  std::vector<StreamRun> streams_;
  std::deque<std::future<Outcome>> waiting_;
};

}  // namespace
}  // namespace spillway::journal

int main(int count, char** arguments) {
  if (count != 4) {
    std::fprintf(stderr, "usage: power_workload DATA_DIR WORKLOAD SEED\n");
    return 2;
  }
  spillway::journal::Run run(arguments[1], arguments[2], std::stoull(arguments[3]));
  return run.go() ? 0 : 1;
}
