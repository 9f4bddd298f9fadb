#include "tests/fault/child.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

namespace spillway::journal {

namespace {

constexpr std::uintmax_t kRoom = std::uintmax_t{1} << 30;

[[noreturn]] void run(const std::function<void()>& body) {
  const bool failed_before = testing::Test::HasFailure();
  body();
  std::fflush(nullptr);
  ::_exit(!failed_before && testing::Test::HasFailure() ? 1 : 0);
}

}  // namespace

std::filesystem::path in_memory() {
  std::error_code error;
  const std::filesystem::path shared = "/dev/shm";
  const auto space = std::filesystem::space(shared, error);
  const bool good = !error && space.available >= kRoom && ::access(shared.c_str(), W_OK) == 0;
  return good ? shared : std::filesystem::temp_directory_path();
}

void in_child(const std::function<void()>& body) {
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  ASSERT_GE(pid, 0);
  if (pid == 0) run(body);
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status)) << "killed by signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

Victim::Victim(const std::function<void(Victim&)>& body) {
  std::fflush(nullptr);
  if (::pipe(pipe_) != 0) ADD_FAILURE() << "no pipe";
  pid_ = ::fork();
  if (pid_ == 0) {
    ::close(pipe_[0]);
    run([&] { body(*this); });
  }
  ::close(pipe_[1]);
}

Victim::~Victim() { ::close(pipe_[0]); }

void Victim::report(unsigned long number) {
  EXPECT_EQ(::write(pipe_[1], &number, sizeof number), static_cast<ssize_t>(sizeof number));
}

unsigned long Victim::kill_after(unsigned long acked) {
  unsigned long last = 0;
  unsigned long number = 0;
  while (last < acked && ::read(pipe_[0], &number, sizeof number) == sizeof number) last = number;
  ::kill(pid_, SIGKILL);
  while (::read(pipe_[0], &number, sizeof number) == sizeof number) last = number;
  int status = 0;
  ::waitpid(pid_, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status)) << "ended by itself with " << WEXITSTATUS(status);
  return last;
}

}  // namespace spillway::journal
