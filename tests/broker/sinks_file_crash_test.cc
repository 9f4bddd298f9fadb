// The file sink under kill -9: a writer process dies again and again, and the file holds each
// record exactly once, in order.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <random>
#include <sstream>
#include <thread>

#include "broker/sinks/file_sink.h"
#include "tests/broker/sinks_support.h"

namespace spillway::broker::test {
namespace {

using config::Framing;

constexpr Offset kRecords = 600;

// Record `offset` of the stream: some are skips, some are in three parts.
bool is_skip(Offset offset) { return offset % 40 == 20; }
std::uint64_t part_of(Offset offset) { return offset % 40; }  // 10, 11, 12: parts of one record
std::string payload_of(Offset offset) {
  const std::size_t length = offset % 97 == 0 ? 40000 : offset * 37 % 300;
  return "record " + std::to_string(offset) + " " + std::string(length, 'x');
}

BlockPtr block_at(Offset first, Offset last) {
  if (is_skip(first)) {
    return skip_of(first, 1);
  }
  BlockMaker maker(first);
  for (Offset offset = first; offset <= last && !is_skip(offset); ++offset) {
    const std::uint64_t part = part_of(offset) - 10;
    if (part < 3) {
      maker.part(part, payload_of(offset), part == 2);
    } else {
      maker.record(payload_of(offset));
    }
  }
  return maker.make();
}

std::string expected_content(Framing framing, Offset through) {
  std::string text;
  std::string record;
  for (Offset offset = 1; offset <= through; ++offset) {
    if (is_skip(offset)) {
      continue;
    }
    record += payload_of(offset);
    if (part_of(offset) == 10 || part_of(offset) == 11) {
      continue;
    }
    if (framing == Framing::length_prefixed) {
      const auto length = static_cast<std::uint32_t>(record.size());
      text.append(reinterpret_cast<const char*>(&length), 4);  // little-endian machines only
      text += record;
    } else {
      text += record + "\n";
    }
    record.clear();
  }
  return text;
}

// Where two contents part; equal ones give nothing. Short, whatever the contents are.
std::string difference(const std::string& is, const std::string& should) {
  if (is == should) {
    return {};
  }
  const auto [at, ignored] = std::mismatch(is.begin(), is.end(), should.begin(), should.end());
  const auto place = static_cast<std::size_t>(at - is.begin());
  const std::size_t from = place - std::min<std::size_t>(place, 40);
  return std::to_string(is.size()) + " bytes instead of " + std::to_string(should.size()) +
         ", and from " + std::to_string(place) + " on other ones, after: " + is.substr(from, 60);
}

// Dies in the n-th call, with a part of its bytes written.
class DeadlyDisk final : public Disk {
 public:
  DeadlyDisk(int calls, std::uint64_t seed) : left_(calls), random_(seed) {}
  ssize_t pwritev(int fd, const iovec* pieces, int count, off_t offset) override {
    if (--left_ == 0) {
      const iovec one{pieces->iov_base, random_() % (pieces->iov_len + 1)};
      static_cast<void>(Disk::pwritev(fd, &one, 1, offset));
      die();
    }
    return Disk::pwritev(fd, pieces, count, offset);
  }
  int fdatasync(int fd) override {
    if (--left_ == 0) {
      die();
    }
    return Disk::fdatasync(fd);
  }
  int ftruncate(int fd, off_t length) override {
    if (--left_ == 0) {
      die();
    }
    return Disk::ftruncate(fd, length);
  }

 private:
  [[noreturn]] static void die() {
    ::kill(::getpid(), SIGKILL);
    for (;;) {
      ::pause();
    }
  }

  int left_;
  std::mt19937_64 random_;
};

struct Message {
  char kind;  // 'h': a connect reports held, 'a': acknowledged
  Offset offset;
};

// The whole life of a writer process: from held on, blocks of random sizes until all is
// acknowledged.
[[noreturn]] void write_all_records(const std::filesystem::path& path, Framing framing, int calls,
                                    std::uint64_t seed, int report) {
  boost::asio::io_context io;
  const auto work = boost::asio::make_work_guard(io);
  static Recorder events;
  static DeadlyDisk disk(calls, seed);
  std::mt19937_64 random(seed + 1);
  auto* const sink = new FileSink(io, {path, framing}, events, disk);  // never destroyed: _exit
  const auto tell = [&](char kind, Offset offset) {
    const Message message{kind, offset};
    if (::write(report, &message, sizeof(message)) != sizeof(message)) {
      ::_exit(3);
    }
  };
  events.on_event = [&](const std::string& line) {
    if (line.starts_with("connected")) {
      Offset next = 1;
      if (const auto held = parse_position(line.substr(line.rfind(' ') + 1))) {
        next = held->sequence + 1;
      }
      tell('h', next - 1);
      if (next > kRecords) {
        ::_exit(0);
      }
      while (next <= kRecords) {
        const BlockPtr block = block_at(next, std::min<Offset>(kRecords, next + random() % 9));
        sink->send(Attempt{1}, {block});
        next = block->last() + 1;
        if (random() % 3 == 0) {
          std::this_thread::yield();  // lets groups of different sizes form
        }
      }
    } else if (line.starts_with("acked")) {
      tell('a', events.acked_through);
      if (events.acked_through == kRecords) {
        ::_exit(0);
      }
    } else {
      ::_exit(4);
    }
  };
  sink->connect(hint(1));
  io.run();
  ::_exit(5);
}

class FileCrashTest : public SinkTest, public testing::WithParamInterface<Framing> {
 protected:
  std::string content() const {
    std::ifstream file(folder / "out", std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }

  // Runs a writer until it dies or is done. Kills it after `messages` reports, if that comes first.
  bool run_writer(int calls, std::uint64_t seed, std::uint64_t messages) {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      ::close(ends[0]);
      write_all_records(folder / "out", GetParam(), calls, seed, ends[1]);
    }
    ::close(ends[1]);
    Message message{};
    std::uint64_t count = 0;
    while (::read(ends[0], &message, sizeof(message)) == sizeof(message)) {
      EXPECT_GE(message.offset, acknowledged_) << "an acknowledged record is gone";
      if (message.kind == 'a') {
        acknowledged_ = message.offset;
      }
      if (++count == messages) {
        ::kill(child, SIGKILL);
      }
    }
    ::close(ends[0]);
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    if (WIFEXITED(status)) {
      EXPECT_EQ(WEXITSTATUS(status), 0);
      return true;
    }
    EXPECT_EQ(WTERMSIG(status), SIGKILL);
    // Whatever is there begins with everything that was acknowledged.
    const std::string held = expected_content(GetParam(), acknowledged_);
    EXPECT_EQ(difference(content().substr(0, held.size()), held), "");
    return false;
  }

  Offset acknowledged_ = 0;
};

TEST_P(FileCrashTest, DyingInEachOfItsSystemCallsLosesAndRepeatsNothing) {
  // The first calls of a life open the files; the calls of a group follow.
  int rounds = 0;
  for (int calls = 1; calls <= 40; ++calls) {
    ++rounds;
    if (run_writer(calls, static_cast<std::uint64_t>(calls), 0)) {
      break;
    }
  }
  while (!run_writer(1000000, 99, 0)) {
  }
  EXPECT_EQ(difference(content(), expected_content(GetParam(), kRecords)), "");
  RecordProperty("rounds", rounds);
}

TEST_P(FileCrashTest, BeingKilledAtRandomMomentsLosesAndRepeatsNothing) {
  // A fast disk lets more lives come to their end: how many files it takes is not known before.
  int kills = 0;
  for (std::uint64_t seed = 1; kills < 50; ++seed) {
    std::mt19937_64 random(seed);
    std::filesystem::remove(folder / "out");
    std::filesystem::remove(folder / "out.position");
    acknowledged_ = 0;
    for (;;) {
      const bool by_call = random() % 2 == 0;
      const int calls = by_call ? 3 + static_cast<int>(random() % 12) : 1000000;
      if (run_writer(calls, random(), by_call ? 0 : 1 + random() % 4)) {
        break;
      }
      ++kills;
    }
    ASSERT_EQ(difference(content(), expected_content(GetParam(), kRecords)), "") << "seed " << seed;
  }
  RecordProperty("kills", kills);
}

INSTANTIATE_TEST_SUITE_P(Framings, FileCrashTest,
                         testing::Values(Framing::lines, Framing::length_prefixed),
                         [](const auto& framing) {
                           return framing.param == Framing::lines ? "Lines" : "LengthPrefixed";
                         });

}  // namespace
}  // namespace spillway::broker::test
