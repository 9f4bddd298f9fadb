// The programs of examples/, run against a broker that does what the test says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>

#include "tests/client/fake_broker.h"

namespace spillway::client {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A shell command that runs beside the test.
class Program {
 public:
  explicit Program(const std::string& command) : pipe_(popen(command.c_str(), "r")) {}
  ~Program() {
    if (pipe_ != nullptr) pclose(pipe_);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // All that it prints until it ends, and its exit code.
  std::string output() {
    std::string text;
    for (int c = fgetc(pipe_); c != EOF; c = fgetc(pipe_)) text += static_cast<char>(c);
    const int status = pclose(pipe_);
    pipe_ = nullptr;
    return text + "exit " + std::to_string(WEXITSTATUS(status));
  }

 private:
  std::FILE* pipe_;
};

std::string python(const FakeBroker& broker) {
  return std::string(PYTHON) + " -B " + PUBLISH_PY + " " + broker.address() + " blocks";
}

TEST(Examples, PublishSendsEveryLineAndWaits) {
  FakeBroker broker;
  Program program("printf 'a\\nb\\n\\n' | " + std::string(EXAMPLE_PUBLISH) + " " +
                  broker.address() + " blocks");
  const auto peer = broker.accept();
  peer->greet();
  EXPECT_THAT(peer->records(3).payloads, ElementsAre("a", "b", ""));
  peer->ack({kEpoch, 3});
  EXPECT_EQ(program.output(),
            "3 records acknowledged, through " + to_string({kEpoch, 3}) + "\nexit 0");
}

TEST(Examples, PublishFailsWhenItIsRefused) {
  FakeBroker broker;
  Program program("printf 'a\\n' | " + std::string(EXAMPLE_PUBLISH) + " " + broker.address() +
                  " blocks 2>&1");
  const auto peer = broker.accept();
  peer->hello();
  peer->reject(wire::RejectCode::unknown_stream, "no stream blocks");
  const std::string output = program.output();
  EXPECT_THAT(output, HasSubstr("no stream blocks"));
  EXPECT_THAT(output, HasSubstr("exit 1"));
}

TEST(Examples, HaltStopsTheNodeUntilResume) {
  FakeBroker broker;
  Program program(std::string(EXAMPLE_HALT) + " " + broker.address() + " blocks 5");
  const auto peer = broker.accept();
  Greeting greeting;
  greeting.halted = true;
  peer->greet(greeting);
  EXPECT_TRUE(peer->quiet());
  peer->resume({});
  EXPECT_EQ(peer->records(5).payloads.back(), "record 5");
  peer->ack({kEpoch, 5});
  const std::string output = program.output();
  EXPECT_THAT(output, HasSubstr("halt: max_bytes  full\n"));
  EXPECT_THAT(output, HasSubstr("resume\n"));
  EXPECT_THAT(output, HasSubstr("5 records acknowledged\nclosed\nexit 0"));
}

TEST(Examples, ThePythonProducerSendsWhatTheStreamDoesNotHold) {
  FakeBroker broker;
  Program program("printf 'a\\nb\\nc\\n' | " + python(broker));
  const auto peer = broker.accept();
  Greeting greeting;
  greeting.held = greeting.safe = {kEpoch, 1};
  EXPECT_TRUE(peer->greet(greeting).resumes());
  const Sent sent = peer->records(2);
  EXPECT_EQ(sent.first, (Position{kEpoch, 2}));
  EXPECT_THAT(sent.payloads, ElementsAre("b", "c"));
  peer->ack({kEpoch, 3});
  EXPECT_THAT(program.output(), HasSubstr("3 records acknowledged"));
}

TEST(Examples, ThePythonProducerHaltsResumesAndReconnects) {
  FakeBroker broker;
  Program program("printf 'a\\nb\\nc\\n' | " + python(broker) + " 2>&1");
  auto peer = broker.accept();
  Greeting greeting;
  greeting.held = {kEpoch - 5, 7};  // an older epoch
  peer->greet(greeting);
  EXPECT_EQ(peer->records(3).previous, (Position{kEpoch - 5, 7}));
  peer->halt();
  EXPECT_TRUE(peer->quiet());
  peer->resume({kEpoch, 1});
  EXPECT_THAT(peer->records(2).payloads, ElementsAre("b", "c"));
  peer->close();
  peer = broker.accept();
  greeting.held = greeting.safe = {kEpoch, 2};
  peer->greet(greeting);
  EXPECT_THAT(peer->records(1).payloads, ElementsAre("c"));
  peer->ack({kEpoch, 3});
  EXPECT_THAT(program.output(), HasSubstr("3 records acknowledged"));
}

TEST(Examples, ThePythonProducerStopsWhenItIsRefusedForGood) {
  FakeBroker broker;
  Program program("printf 'a\\n' | " + python(broker) + " 2>&1");
  const auto peer = broker.accept();
  peer->hello();
  peer->reject(wire::RejectCode::fenced, "a newer producer has the stream");
  EXPECT_THAT(program.output(), HasSubstr("refused with code 5"));
}

}  // namespace
}  // namespace spillway::client
