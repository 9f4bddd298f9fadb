// Sink: a destination that really stores what it takes, and fails in every way that a plan draws.
#pragma once

#include <deque>
#include <optional>
#include <vector>

#include "recovery/action.h"
#include "tests/simulation/plan.h"
#include "tests/simulation/record.h"

namespace spillway::simulation {

class World;

class Sink {
 public:
  Sink(World& world, std::size_t index, const SinkPlan& plan)
      : world_(world), index_(index), plan_(plan) {}

  // --- what the machine asks for --------------------------------------------------------------
  void connect(Attempt attempt);
  void close(Attempt attempt);
  void send(Attempt attempt, Offset first, Offset last, std::optional<LossReason> skip);
  // The broker died: what is under way arrives in part.
  void lose_broker() {
    cut();
    attempt_ = Attempt{};
  }

  // --- what the world's queue brings back -----------------------------------------------------
  void on_connect(Attempt attempt);
  void on_arrival(Attempt attempt);
  void on_acknowledge(Attempt attempt, Offset through);

  // --- faults -----------------------------------------------------------------------------------
  bool roll_back();  // restored from a backup
  void forgive() { rejecting_ = false; }

  // Whether it ever took this record (a backup may have lost it since), and whether it holds it
  // now.
  bool took(const Record& record) const;
  bool took_any(Position position) const;
  bool holds(const Record& record) const;
  bool holds_other(const Record& record) const;
  std::optional<Position> last() const { return last_; }
  const SinkPlan& plan() const { return plan_; }
  std::uint64_t duplicates() const { return duplicates_; }
  bool rolled_back() const { return rolled_back_; }
  void empty();
  // It comes again under another name: it may say less than was to be expected of a new one.
  void come_again() { rolled_back_ = rolled_back_ || last_; }

 private:
  enum class Cell : std::uint8_t { none, taken, skipped, lost };
  struct Stored {
    std::uint64_t content = 0;
    Cell cell = Cell::none;
  };
  struct Shelf {
    std::uint64_t epoch = 0;
    std::vector<Stored> records;  // sequence 1 first
  };
  struct Message {
    Offset first = 0;
    Offset last = 0;
    std::optional<LossReason> skip;
  };
  enum class State : std::uint8_t { idle, connecting, connected };

  Stored& stored(Position position);
  const Stored* find(Position position) const;
  void cut();
  bool take(const Message& message, Offset through, bool silently);
  void take_record(Offset offset, const Record& record);
  bool refuses(const Record& record) const;
  void finish_assembly(Offset through);
  void acknowledge_later();
  void end(recovery::SinkLoss cause);

  World& world_;
  const std::size_t index_;
  const SinkPlan plan_;
  std::vector<Shelf> shelves_;
  std::optional<Position> last_;  // taken or skipped through here
  bool rejecting_ = true;
  bool rolled_back_ = false;
  std::uint64_t duplicates_ = 0;

  State state_ = State::idle;
  Attempt attempt_{};
  std::deque<Message> inbox_;
  recovery::Instant busy_until_{};
  recovery::Instant acknowledge_at_{};
  Offset sent_ = 0;     // on this attempt; 0: nothing yet
  Offset through_ = 0;  // taken on this attempt
  Offset told_ = 0;
  Offset assembling_ = 0;  // the first part of what is not taken yet; 0: none
  bool silent_ = false;
  bool slow_ = false;
};

}  // namespace spillway::simulation
