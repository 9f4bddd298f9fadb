// Producer: publishes a script, remembers what was acknowledged, and forgets, breaks off, comes
// twice, sends too much or the wrong way as the plan has it. Also the broker's end of its
// connections.
#pragma once

#include <deque>
#include <optional>
#include <vector>

#include "recovery/action.h"
#include "recovery/event.h"
#include "tests/simulation/script.h"

namespace spillway::simulation {

class World;

class Producer {
 public:
  Producer(World& world, const Plan& plan, std::uint64_t seed);

  // --- what the machine says
  // ----------------------------------------------------------------------
  void on(const recovery::action::Welcome& welcome);
  void on(const recovery::action::Reject& reject);
  void on(const recovery::action::Finish& finish);
  void on(const recovery::action::Cut& cut);
  void acknowledge(Position safe);
  void halt();
  void resume(Position held);
  void lose_broker();

  // --- what the world's queue brings back -------------------------------------------------------
  void act();
  void act_as_rival(std::uint64_t generation);
  void on_frame_in(std::uint64_t session);
  void on_session_ended(std::uint64_t session);
  void on_frame_out(std::uint64_t session);

  // --- faults -----------------------------------------------------------------------------------
  void break_off();
  void forget();
  void come_twice();
  void lose_tail();
  void want_new_epoch();

  // All that it had to say is acknowledged.
  bool satisfied() const;
  void say_some_more() { target_ = script_.total() + 8; }
  const Script& script() const { return script_; }
  std::optional<Position> acknowledged() const { return acknowledged_; }
  // The session whose record the broker has in part, as far as this end knows.
  bool inside_record(SessionId session) const;

 private:
  struct Frame {
    std::optional<recovery::event::HelloCame> hello;
    std::vector<Record> records;
    std::optional<Position> previous;
  };
  enum class Kind : std::uint8_t { welcome, acknowledge, halt, resume, reject, closed };
  struct Reply {
    Kind kind{};
    Position held{};
    Position safe{};
    std::uint64_t generation = 0;
    bool halted = false;
    recovery::RejectCode code{};
    std::optional<std::uint64_t> epoch_before_ends{};
  };
  struct Session {
    std::uint64_t id = 0;
    bool rival = false;  // of a process that is over, and must be fenced
    bool client_open = true;
    bool server_open = true;
    bool finishing = false;
    bool inside = false;  // the broker has a record in part
    bool overflowed = false;
    std::deque<Frame> in;
    std::deque<Reply> out;
    recovery::Instant in_at{};
    recovery::Instant out_at{};
  };

  Session* find(std::uint64_t id);
  Session* current() { return current_ == 0 ? nullptr : find(current_); }
  Session& open_session();
  void say(Session& session, Frame frame);
  void answer(Session& session, Reply reply);
  void close_server(Session& session);
  void hand_over(Session& session, const Frame& frame);
  void connect();
  void send_batch();
  void send_hello(Session& session, std::uint64_t generation);
  void on_welcome(const Reply& reply);
  void take_acknowledgement(Position safe);
  std::uint64_t in_flight() const;
  bool has_more() const;

  World& world_;
  const ProducerPlan& plan_;
  Script script_;
  std::deque<Session> sessions_;
  std::uint64_t next_session_ = 1;
  std::uint64_t current_ = 0;
  bool streaming_ = false;
  recovery::Instant asked_at_{};
  std::uint64_t target_;

  // its memory
  std::uint64_t generation_ = 0;
  std::optional<Position> acknowledged_;
  std::optional<Position> oldest_;
  Position next_;
  bool fresh_ = true;  // no memory: goes on from what Welcome says
  bool halted_ = false;
  bool ignores_halt_ = false;
  bool wants_epoch_ = false;
};

}  // namespace spillway::simulation
