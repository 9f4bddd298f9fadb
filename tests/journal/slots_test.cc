#include "journal/slots.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <fstream>

#include "tests/journal/harness.h"

namespace spillway::journal {
namespace {

constexpr std::size_t kSlot = 8192;

void flip_byte(const std::filesystem::path& path, std::streamoff at) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(at);
  const int c = file.get();
  file.seekp(at);
  file.put(static_cast<char>(c ^ 1));
}

TEST(Slots, HoldNothingUntilTheyAreWritten) {
  TempDir dir;
  const auto slots = Slots::open(dir.path() / "f", kSlot);
  ASSERT_TRUE(slots.has_value());
  EXPECT_FALSE(slots->contents().contents);
  EXPECT_FALSE(slots->contents().damaged);
}

TEST(Slots, ReadBackTheNewestContents) {
  TempDir dir;
  {
    auto slots = Slots::open(dir.path() / "f", kSlot);
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(slots->write("contents " + std::to_string(i)));
  }
  EXPECT_EQ(Slots::open(dir.path() / "f", kSlot)->contents().contents, "contents 4");
  EXPECT_EQ(Slots::peek(dir.path() / "f", kSlot)->contents, "contents 4");
}

TEST(Slots, FallBackToTheOlderContentsWhenTheNewestSlotIsTorn) {
  TempDir dir;
  {
    auto slots = Slots::open(dir.path() / "f", kSlot);
    ASSERT_TRUE(slots->write("first"));
    ASSERT_TRUE(slots->write("second"));  // counter 3: slot 1
  }
  flip_byte(dir.path() / "f", kSlot + 17);
  EXPECT_EQ(Slots::open(dir.path() / "f", kSlot)->contents().contents, "first");
}

TEST(Slots, SayThatBothAreDamagedInsteadOfThatNothingWasWritten) {
  TempDir dir;
  {
    auto slots = Slots::open(dir.path() / "f", kSlot);
    ASSERT_TRUE(slots->write("first"));
    ASSERT_TRUE(slots->write("second"));
  }
  flip_byte(dir.path() / "f", 17);
  flip_byte(dir.path() / "f", kSlot + 17);
  const auto slots = Slots::open(dir.path() / "f", kSlot);
  EXPECT_FALSE(slots->contents().contents);
  EXPECT_TRUE(slots->contents().damaged);
}

TEST(Slots, AreDamagedWhenTheyAreZeros) {
  TempDir dir;
  ASSERT_TRUE(Slots::open(dir.path() / "f", kSlot).has_value());
  std::ofstream(dir.path() / "f", std::ios::binary) << std::string(2 * kSlot, '\0');
  EXPECT_TRUE(Slots::peek(dir.path() / "f", kSlot)->damaged);
  auto slots = Slots::open(dir.path() / "f", kSlot);
  EXPECT_TRUE(slots->contents().damaged);
  EXPECT_TRUE(slots->write("first"));
  EXPECT_EQ(Slots::peek(dir.path() / "f", kSlot)->contents, "first");
}

TEST(Slots, HoldNothingAfterAFirstWriteThatWasCutShort) {
  TempDir dir;
  ASSERT_TRUE(Slots::open(dir.path() / "f", kSlot).has_value());
  flip_byte(dir.path() / "f", kSlot);  // what the power left of slot 1
  auto slots = Slots::open(dir.path() / "f", kSlot);
  EXPECT_FALSE(slots->contents().contents);
  EXPECT_FALSE(slots->contents().damaged);
  EXPECT_TRUE(slots->write("first"));
  EXPECT_EQ(Slots::peek(dir.path() / "f", kSlot)->contents, "first");
}

TEST(Slots, KeepTheFirstContentsWhenOneSlotIsDamaged) {
  for (const std::streamoff at : {std::streamoff{17}, std::streamoff{kSlot + 17}}) {
    TempDir dir;
    ASSERT_TRUE(Slots::open(dir.path() / "f", kSlot)->write("first"));
    flip_byte(dir.path() / "f", at);
    EXPECT_EQ(Slots::open(dir.path() / "f", kSlot)->contents().contents, "first");
  }
}

TEST(Slots, RefuseContentsThatDoNotFit) {
  TempDir dir;
  auto slots = Slots::open(dir.path() / "f", kSlot);
  EXPECT_TRUE(slots->write(std::string(slots->capacity(), 'x')));
  EXPECT_FALSE(slots->write(std::string(slots->capacity() + 1, 'x')));
  EXPECT_EQ(slots->contents().contents->size(), slots->capacity());
}

TEST(Slots, KeepTheirContentsWhenTheDeviceRefusesAWrite) {
  TempDir dir;
  auto slots = Slots::open(dir.path() / "f", kSlot);
  ASSERT_TRUE(slots->write("first"));
  struct rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit none { 0, before.rlim_max };
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &none), 0);
  EXPECT_FALSE(slots->write("second"));
  EXPECT_FALSE(Slots::open(dir.path() / "g", kSlot));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(slots->contents().contents, "first");
  EXPECT_EQ(Slots::peek(dir.path() / "f", kSlot)->contents, "first");
  EXPECT_TRUE(slots->write("second"));
  EXPECT_EQ(Slots::peek(dir.path() / "f", kSlot)->contents, "second");
}

// Of this file the system opens anything, and reads nothing at 0.
TEST(Slots, AreNotOpenedWhereTheDeviceFailsARead) {
  const auto slots = Slots::open("/proc/self/mem", kSlot);
  ASSERT_FALSE(slots);
  EXPECT_EQ(slots.error().message, "/proc/self/mem: cannot read it: Input/output error");
  EXPECT_TRUE(Slots::peek("/proc/self/mem", kSlot)->damaged);
}

TEST(Slots, NeverChangeTheirPlaceOnDiskOnceMade) {
  TempDir dir;
  auto slots = Slots::open(dir.path() / "f", kSlot);
  struct stat before, after;
  ASSERT_EQ(::stat((dir.path() / "f").c_str(), &before), 0);
  EXPECT_EQ(static_cast<std::size_t>(before.st_size), 2 * kSlot);
  EXPECT_GE(static_cast<std::size_t>(before.st_blocks) * 512, 2 * kSlot);
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(slots->write(std::string(kSlot / 2, 'x')));
  ASSERT_EQ(::stat((dir.path() / "f").c_str(), &after), 0);
  EXPECT_EQ(before.st_blocks, after.st_blocks);
  EXPECT_EQ(before.st_ino, after.st_ino);
}

TEST(Latch, IsReadBackAtTheNextOpen) {
  TempDir dir;
  {
    const auto journal = open_journal(options_in(dir.path()));
    EXPECT_FALSE(find(journal->recovered(), "s").latch);
    EXPECT_TRUE(write_latch(*journal, "halted"));
    EXPECT_TRUE(write_latch(*journal, "halted for two reasons"));
    EXPECT_FALSE(write_latch(*journal, std::string(kMaxLatchBytes + 1, 'x')));
  }
  const auto journal = open_journal(options_in(dir.path()));
  EXPECT_EQ(find(journal->recovered(), "s").latch, "halted for two reasons");
}

}  // namespace
}  // namespace spillway::journal
