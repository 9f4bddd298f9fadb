// One line per event for the trace.
#include "tests/simulation/world.h"

namespace spillway::simulation {

namespace event = recovery::event;

namespace {

struct Describe {
  std::string operator()(const event::Started&) const { return "started"; }
  std::string operator()(const event::Ticked&) const { return "ticked"; }
  std::string operator()(const event::StopAsked&) const { return "stop asked"; }
  std::string operator()(const event::HelloCame& e) const {
    return "hello came, session " + std::to_string(value_of(e.session));
  }
  std::string operator()(const event::BatchCame& e) const {
    return "batch " + to_string(e.first) + " +" + std::to_string(e.count) +
           (e.skip                        ? " skip"
            : e.records.front().continues ? " continues"
                                          : "") +
           " session " + std::to_string(value_of(e.session));
  }
  std::string operator()(const event::SessionEnded& e) const {
    return "session " + std::to_string(value_of(e.session)) + " ended";
  }
  std::string operator()(const event::SinkConnected& e) const {
    return sink(e.sink) + "connected, holds " + (e.held ? to_string(*e.held) : "?");
  }
  std::string operator()(const event::SinkLost& e) const {
    return sink(e.sink) + "lost, cause " + std::to_string(static_cast<int>(e.cause));
  }
  std::string operator()(const event::SinkAcked& e) const {
    return sink(e.sink) + "acked " + std::to_string(e.through);
  }
  std::string operator()(const event::SinkRejected& e) const {
    return sink(e.sink) + "rejected " + std::to_string(e.first) + "-" + std::to_string(e.last);
  }
  std::string operator()(const event::SinkNudged& e) const { return sink(e.sink) + "nudged"; }
  std::string operator()(const event::Written& e) const {
    return "written " + std::to_string(e.id) + " outcome " +
           std::to_string(static_cast<int>(e.outcome));
  }
  std::string operator()(const event::JournalDown&) const { return "journal down"; }
  std::string operator()(const event::JournalReopened&) const { return "journal reopened"; }
  std::string operator()(const event::DiskHasRoom&) const { return "disk has room"; }
  std::string operator()(const event::LatchWritten& e) const {
    return "latch written " + std::to_string(e.id) + (e.ok ? "" : " failed");
  }
  std::string operator()(const event::ReadDone& e) const {
    return sink(e.sink) + "read " + std::to_string(e.id) + (e.ok ? "" : " failed") +
           (e.blocks.empty() ? ""
                             : " from " + std::to_string(e.blocks.front().first) + " to " +
                                   std::to_string(e.blocks.back().last)) +
           (e.lost ? " damaged from " + std::to_string(e.lost->first) : "");
  }
  std::string operator()(const event::Located& e) const {
    return sink(e.sink) + "located " + std::to_string(e.offset);
  }
  std::string operator()(const event::SinkCommanded& e) const {
    return sink(e.sink) + "command " + std::to_string(static_cast<int>(e.command));
  }
  std::string operator()(const event::SinkReset& e) const {
    return sink(e.sink) + "reset from " + (e.from ? to_string(*e.from) : "now");
  }
  std::string operator()(const event::HaltCleared&) const { return "halt cleared"; }

  static std::string sink(SinkId id) { return "sink " + std::to_string(value_of(id)) + " "; }
};

}  // namespace

void World::trace_event(const recovery::Event& event) {
  if (tracing()) trace(std::visit(Describe{}, event));
}

}  // namespace spillway::simulation
