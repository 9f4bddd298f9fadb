// The file sink: what it writes, when it acknowledges, and what it refuses to touch.
#include <gtest/gtest.h>
#include <unistd.h>

#include <condition_variable>
#include <fstream>
#include <mutex>
#include <sstream>

#include "broker/sinks/file_sink.h"
#include "broker/sinks/file_writer.h"
#include "tests/broker/sinks_support.h"

namespace spillway::broker::test {
namespace {

using config::Framing;

class FileSinkTest : public SinkTest {
 protected:
  std::filesystem::path path() const { return folder / "out"; }
  std::filesystem::path position_path() const { return folder / "out.position"; }
  config::FileSink options(Framing framing = Framing::lines) const { return {path(), framing}; }

  std::string content() const {
    std::ifstream file(path(), std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }
  void append(std::string_view text) const {
    std::ofstream(path(), std::ios::binary | std::ios::app) << text;
  }

  // One attempt that writes `blocks` and awaits the acknowledgement of `through`.
  void deliver(const std::vector<BlockPtr>& blocks, Offset through,
               Framing framing = Framing::lines) {
    FileSink sink(io, options(framing), events);
    sink.connect(hint(1));
    ASSERT_TRUE(await_event("connected 1"));
    sink.send(Attempt{1}, blocks);
    ASSERT_TRUE(await_event("acked 1 " + std::to_string(through)));
    stop(sink);
    events.log.clear();
    events.acked_through = 0;
  }
  // What a connect says.
  std::string connect_says(Framing framing = Framing::lines) {
    FileSink sink(io, options(framing), events);
    events.log.clear();
    sink.connect(hint(1));
    EXPECT_TRUE(await([&] { return !events.log.empty(); }));
    std::string said = events.log.empty() ? "" : events.log.back();
    stop(sink);
    events.log.clear();
    return said;
  }
};

TEST_F(FileSinkTest, LinesAreWrittenInOrderAndAcknowledged) {
  deliver({block_of(1, {"one", "two"}), block_of(3, {"", "four"})}, 4);
  EXPECT_EQ(content(), "one\ntwo\n\nfour\n");
}

TEST_F(FileSinkTest, LengthsStandBeforeThePayloadLittleEndian) {
  deliver({block_of(1, {"a\nb", ""})}, 2, Framing::length_prefixed);
  EXPECT_EQ(content(), std::string("\x03\0\0\0a\nb\0\0\0\0", 11));
}

TEST_F(FileSinkTest, ANewFileHoldsNothingAndALaterConnectSaysWhatItHolds) {
  EXPECT_EQ(connect_says(), "connected 1 none");
  deliver({block_of(1, {"one", "two"})}, 2);
  EXPECT_EQ(connect_says(), "connected 1 7/2");
  deliver({block_of(3, {"three"})}, 3);
  EXPECT_EQ(connect_says(), "connected 1 7/3");
  EXPECT_EQ(content(), "one\ntwo\nthree\n");
}

TEST_F(FileSinkTest, WhatLiesBeyondThePositionIsCutOffAtTheNextConnect) {
  deliver({block_of(1, {"one"})}, 1);
  append("two\nthr");
  EXPECT_EQ(connect_says(), "connected 1 7/1");
  EXPECT_EQ(content(), "one\n");
}

TEST_F(FileSinkTest, ATornSlotLeavesTheOneBeforeIt) {
  deliver({block_of(1, {"one"})}, 1);
  deliver({block_of(2, {"two"})}, 2);
  // Every store fills the slot that is older: damage each in turn, on a copy of the state.
  const auto saved = folder / "saved";
  int said_two = 0;
  for (const std::streamoff slot : {0, 4096}) {
    std::filesystem::copy_file(position_path(), saved,
                               std::filesystem::copy_options::overwrite_existing);
    {
      std::fstream file(position_path(), std::ios::binary | std::ios::in | std::ios::out);
      file.seekp(slot + 30);
      file.put('\x7f');
    }
    const std::string said = connect_says();
    EXPECT_TRUE(said == "connected 1 7/2" || said == "connected 1 7/1") << said;
    said_two += said == "connected 1 7/2" ? 1 : 0;
    std::filesystem::copy_file(saved, position_path(),
                               std::filesystem::copy_options::overwrite_existing);
    std::ofstream(path(), std::ios::binary) << "one\ntwo\n";
  }
  EXPECT_GE(said_two, 1);
}

TEST_F(FileSinkTest, PartsAreJoinedAndTakenWithTheLastOne) {
  deliver({BlockMaker(1).record("a").part(0, "b").make(),
           BlockMaker(3).part(1, "c").part(2, "d", true).record("e").make()},
          5);
  EXPECT_EQ(content(), "a\nbcd\ne\n");
}

TEST_F(FileSinkTest, TheLengthOfARecordInPartsIsThatOfAllOfThem) {
  const std::string large(600000, 'x');
  deliver(
      {BlockMaker(1).part(0, large).make(), BlockMaker(2).part(1, "yz", true).record("a").make()},
      3, Framing::length_prefixed);
  const std::string text = content();
  ASSERT_EQ(text.size(), 4 + large.size() + 2 + 4 + 1);
  std::uint32_t length = 0;
  std::memcpy(&length, text.data(), 4);
  EXPECT_EQ(length, large.size() + 2);
  EXPECT_EQ(text.substr(4 + large.size()), std::string("yz\x01\0\0\0a", 7));
}

TEST_F(FileSinkTest, AnUnfinishedRecordIsNotAcknowledgedAndNotThereAfterAReconnect) {
  FileSink sink(io, options(), events);
  sink.connect(hint(1));
  ASSERT_TRUE(await_event("connected 1"));
  sink.send(Attempt{1}, {BlockMaker(1).record("a").part(0, "b").make()});
  ASSERT_TRUE(await_event("acked 1 1"));
  sink.close(Attempt{1});
  sink.connect(hint(2));
  ASSERT_TRUE(await_event("connected 2 7/1"));
  EXPECT_EQ(content(), "a\n");
  sink.send(Attempt{2}, {BlockMaker(2).part(0, "b").part(1, "c", true).make()});
  events.acked_through = 0;
  ASSERT_TRUE(await_event("acked 2 3"));
  EXPECT_EQ(content(), "a\nbc\n");
  stop(sink);
}

TEST_F(FileSinkTest, ARecordThatItsProducerNeverFinishedLeavesNoTrace) {
  const std::string large(600000, 'x');
  deliver({BlockMaker(1).record("a").part(0, large).make(), block_of(3, {"b"})}, 3);
  EXPECT_EQ(content(), "a\nb\n");
}

TEST_F(FileSinkTest, ASkipMovesThePositionWithoutData) {
  deliver({skip_of(1, 4)}, 4);
  EXPECT_EQ(content(), "");
  EXPECT_EQ(connect_says(), "connected 1 7/4");
  deliver({block_of(5, {"five"}), skip_of(6, 2)}, 7);
  EXPECT_EQ(content(), "five\n");
  EXPECT_EQ(connect_says(), "connected 1 7/7");
}

TEST_F(FileSinkTest, ANewlineIsRejectedAfterWhatIsBeforeItAndBeforeWhatIsBehind) {
  FileSink sink(io, options(), events);
  sink.connect(hint(1));
  ASSERT_TRUE(await_event("connected 1"));
  sink.send(Attempt{1}, {block_of(1, {"one", "t\nwo", "three"}), block_of(4, {"four"})});
  ASSERT_TRUE(await_event("rejected 1 2-2"));
  EXPECT_EQ(events.acked_through, 1U);
  EXPECT_EQ(content(), "one\n");
  stop(sink);
}

TEST_F(FileSinkTest, ARejectedRecordInPartsIsTakenBackFromTheFile) {
  FileSink sink(io, options(), events);
  sink.connect(hint(1));
  ASSERT_TRUE(await_event("connected 1"));
  const std::string large(600000, 'x');
  sink.send(Attempt{1}, {BlockMaker(1).record("one").part(0, large).part(1, "\n").make()});
  ASSERT_TRUE(await_event("acked 1 1"));
  sink.send(Attempt{1}, {BlockMaker(4).part(2, "end", true).record("next").make()});
  ASSERT_TRUE(await_event("rejected 1 2-4"));
  EXPECT_EQ(content(), "one\n");
  stop(sink);
}

TEST_F(FileSinkTest, ADataFileWithoutItsPositionFileIsNotTouched) {
  append("precious\n");
  const std::string said = connect_says();
  EXPECT_TRUE(said.starts_with("lost 1 refused: ")) << said;
  EXPECT_NE(said.find("missing or damaged"), std::string::npos) << said;
  EXPECT_EQ(content(), "precious\n");
}

TEST_F(FileSinkTest, ADamagedPositionFileIsNoReasonToGuess) {
  deliver({block_of(1, {"one"})}, 1);
  std::ofstream(position_path(), std::ios::binary) << std::string(8192, '\x5a');
  EXPECT_TRUE(connect_says().starts_with("lost 1 refused: "));
  EXPECT_EQ(content(), "one\n");
}

TEST_F(FileSinkTest, ACutFileIsRefused) {
  deliver({block_of(1, {"one", "two"})}, 2);
  std::filesystem::resize_file(path(), 4);
  const std::string said = connect_says();
  EXPECT_TRUE(said.starts_with("lost 1 refused: ")) << said;
  EXPECT_NE(said.find("4 bytes long, and held 8"), std::string::npos) << said;
}

TEST_F(FileSinkTest, AMissingFileIsRefusedAndNotMadeAnew) {
  deliver({block_of(1, {"one", "two"})}, 2);
  std::filesystem::remove(path());
  EXPECT_TRUE(connect_says().starts_with("lost 1 refused: "));
  EXPECT_FALSE(std::filesystem::exists(path()));
}

TEST_F(FileSinkTest, AnotherFileInItsPlaceIsRefused) {
  deliver({block_of(1, {"one", "two"})}, 2);
  std::ofstream(path(), std::ios::binary) << "something else of some length\n";
  const std::string said = connect_says();
  EXPECT_TRUE(said.starts_with("lost 1 refused: ")) << said;
  EXPECT_NE(said.find("changed or replaced"), std::string::npos) << said;
}

TEST_F(FileSinkTest, RemovingBothFilesBeginsANewOne) {
  deliver({block_of(1, {"one"})}, 1);
  std::filesystem::remove(path());
  std::filesystem::remove(position_path());
  EXPECT_EQ(connect_says(), "connected 1 none");
}

TEST_F(FileSinkTest, AnotherFramingIsRefused) {
  deliver({block_of(1, {"one"})}, 1);
  EXPECT_TRUE(connect_says(Framing::length_prefixed).starts_with("lost 1 refused: "));
  EXPECT_EQ(connect_says(), "connected 1 7/1");
}

TEST_F(FileSinkTest, AFileThatIsRemovedWhileOpenTakesNoMoreRecords) {
  FileSink sink(io, options(), events);
  sink.connect(hint(1));
  ASSERT_TRUE(await_event("connected 1"));
  sink.send(Attempt{1}, {block_of(1, {"one"})});
  ASSERT_TRUE(await_event("acked 1 1"));
  std::filesystem::rename(path(), folder / "rotated");
  sink.send(Attempt{1}, {block_of(2, {"two"})});
  ASSERT_TRUE(await_event("lost 1 refused"));
  EXPECT_EQ(events.acked_through, 1U);
  stop(sink);
}

TEST_F(FileSinkTest, TwoSinksDoNotShareAFile) {
  FileSink first(io, options(), events);
  first.connect(hint(1));
  ASSERT_TRUE(await_event("connected 1"));
  FileSink second(io, options(), events);
  second.connect(hint(2));
  ASSERT_TRUE(await_event("lost 2 refused"));
  first.close(Attempt{1});
  stop(first);
  second.connect(hint(3));
  ASSERT_TRUE(await_event("connected 3"));
  stop(second);
}

TEST_F(FileSinkTest, AMissingFolderIsAFailedConnectWithItsReason) {
  FileSink sink(io, {folder / "nowhere" / "out", Framing::lines}, events);
  sink.connect(hint(1));
  ASSERT_TRUE(await_event("lost 1 connect_failed"));
  const std::string said = events.log.back();
  EXPECT_NE(said.find("mkdir -p " + (folder / "nowhere").string()), std::string::npos) << said;
  stop(sink);
}

TEST_F(FileSinkTest, AFolderInItsPlaceIsRefused) {
  std::filesystem::create_directory(path());
  EXPECT_TRUE(connect_says().starts_with("lost 1 refused"));
}

TEST_F(FileSinkTest, StoppingASinkThatNeverConnectedIsFine) {
  FileSink sink(io, options(), events);
  stop(sink);
  EXPECT_TRUE(events.log.empty());
}

TEST_F(FileSinkTest, EventsOfAnEndedAttemptAreNotSent) {
  FileSink sink(io, options(), events);
  sink.connect(hint(1));
  sink.close(Attempt{1});
  sink.connect(hint(2));
  sink.send(Attempt{1}, {block_of(1, {"old"})});
  ASSERT_TRUE(await_event("connected 2"));
  EXPECT_FALSE(events.has("connected 1"));
  stop(sink);
  EXPECT_EQ(content(), "");
}

// Fails with an errno, hangs until released, or writes only so much, when told.
class FaultyDisk final : public Disk {
 public:
  ssize_t pwritev(int fd, const iovec* pieces, int count, off_t offset) override {
    if (const int error = fault()) {
      errno = error;
      return -1;
    }
    if (short_writes) {
      const iovec one{pieces->iov_base, std::min<std::size_t>(pieces->iov_len, 3)};
      return Disk::pwritev(fd, &one, 1, offset);
    }
    return Disk::pwritev(fd, pieces, count, offset);
  }
  int fdatasync(int fd) override {
    if (const int error = fault()) {
      errno = error;
      return -1;
    }
    return Disk::fdatasync(fd);
  }

  // The n-th call from now fails (1: the next one), all others succeed.
  void fail(int n, int error) {
    const std::scoped_lock lock(mutex_);
    fail_in_ = n;
    error_ = error;
  }
  void hang(bool on) {
    {
      const std::scoped_lock lock(mutex_);
      hang_ = on;
    }
    changed_.notify_all();
  }
  void await_hanging() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return hanging_; });
  }
  bool short_writes = false;

 private:
  int fault() {
    std::unique_lock lock(mutex_);
    if (hang_) {
      hanging_ = true;
      changed_.notify_all();
      changed_.wait(lock, [&] { return !hang_; });
      hanging_ = false;
    }
    return fail_in_ > 0 && --fail_in_ == 0 ? error_ : 0;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  int fail_in_ = 0;
  int error_ = 0;
  bool hang_ = false;
  bool hanging_ = false;
};

TEST_F(FileSinkTest, ShortWritesAreContinued) {
  FaultyDisk disk;
  disk.short_writes = true;
  FileSink sink(io, options(), events, disk);
  sink.connect(hint(1));
  ASSERT_TRUE(await_event("connected 1"));
  const std::string large(20000, 'x');
  sink.send(Attempt{1}, {block_of(1, {"one", large, "three"})});
  ASSERT_TRUE(await_event("acked 1 3"));
  EXPECT_EQ(content(), "one\n" + large + "\nthree\n");
  stop(sink);
}

TEST_F(FileSinkTest, EveryFailingCallEndsTheAttemptAndTheNextOneGoesOnExactly) {
  // Calls of one group: write data, sync data, write position, sync position.
  for (int call = 1; call <= 4; ++call) {
    for (const int error : {ENOSPC, EIO}) {
      FaultyDisk disk;
      std::filesystem::remove(path());
      std::filesystem::remove(position_path());
      events.log.clear();
      events.acked_through = 0;
      FileSink sink(io, options(), events, disk);
      sink.connect(hint(1));
      ASSERT_TRUE(await_event("connected 1"));
      sink.send(Attempt{1}, {block_of(1, {"one"})});
      ASSERT_TRUE(await_event("acked 1 1"));
      disk.fail(call, error);
      sink.send(Attempt{1}, {block_of(2, {"two"})});
      ASSERT_TRUE(await_event(error == ENOSPC ? "lost 1 refused" : "lost 1 broken"));
      EXPECT_EQ(events.acked_through, 1U);
      sink.connect(hint(2));
      ASSERT_TRUE(await_event("connected 2"));
      // A position that failed to sync may be there all the same: then it was made durable now.
      if (events.last_is("connected 2 7/1")) {
        sink.send(Attempt{2}, {block_of(2, {"two"})});
        ASSERT_TRUE(await_event("acked 2 2"));
      } else {
        EXPECT_TRUE(events.last_is("connected 2 7/2")) << events.log.back();
        EXPECT_EQ(call, 4);
      }
      EXPECT_EQ(content(), "one\ntwo\n");
      stop(sink);
    }
  }
}

TEST_F(FileSinkTest, AHangingDiskHoldsUpNeitherCloseNorTheNextAttempt) {
  FaultyDisk disk;
  FileSink sink(io, options(), events, disk);
  sink.connect(hint(1));
  ASSERT_TRUE(await_event("connected 1"));
  disk.hang(true);
  sink.send(Attempt{1}, {block_of(1, {"one"})});
  disk.await_hanging();
  sink.close(Attempt{1});
  sink.connect(hint(2));
  disk.hang(false);
  ASSERT_TRUE(await_event("connected 2"));
  // The group that hung was finished before: the new attempt knows of it.
  EXPECT_TRUE(events.last_is("connected 2 7/1")) << events.log.back();
  EXPECT_FALSE(events.has("acked"));
  stop(sink);
}

TEST_F(FileSinkTest, StopReturnsWhileTheDiskHangsAndItsCallbackComesAfterwards) {
  FaultyDisk disk;
  FileSink sink(io, options(), events, disk);
  sink.connect(hint(1));
  ASSERT_TRUE(await_event("connected 1"));
  disk.hang(true);
  sink.send(Attempt{1}, {block_of(1, {"one"})});
  disk.await_hanging();
  bool stopped = false;
  sink.stop([&] { stopped = true; });
  io.poll();
  EXPECT_FALSE(stopped);
  disk.hang(false);
  EXPECT_TRUE(await([&] { return stopped; }));
}

TEST_F(FileSinkTest, ASinkIsDestroyedWhileItsDiskHangs) {
  // The disk must outlive a worker that was left behind: its last word says that it is done.
  static FaultyDisk disk;
  {
    FileSink sink(io, options(), events, disk);
    sink.connect(hint(1));
    ASSERT_TRUE(await_event("connected 1"));
    disk.hang(true);
    sink.send(Attempt{1}, {block_of(1, {"one"})});
    disk.await_hanging();
  }
  events.log.clear();
  disk.hang(false);
  // Whoever can open the file after it knows that the worker has closed it, and has let go.
  FileSink next(io, options(), events);
  std::uint64_t attempt = 2;
  while (!events.has("connected")) {
    next.connect(hint(attempt));
    const std::size_t before = events.log.size();
    ASSERT_TRUE(await([&] { return events.log.size() > before; }));
    ++attempt;
  }
  EXPECT_FALSE(events.has("acked"));
  stop(next);
}

}  // namespace
}  // namespace spillway::broker::test
