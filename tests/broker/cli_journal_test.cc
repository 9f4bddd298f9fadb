#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <future>
#include <map>

#include "journal/journal.h"
#include "tests/broker/cli_support.h"
#include "tests/wire/make_block.h"
#include "wire/batch.h"

namespace spillway::cli {
namespace {

namespace json = boost::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

BlockPtr block_of(Offset first, Position position, const std::vector<wire::RecordFields>& records) {
  std::string bytes;
  std::vector<wire::RecordShape> shapes;
  wire::BatchView batch;
  batch.epoch = position.epoch;
  batch.first_sequence = position.sequence;
  for (const auto& fields : records) {
    wire::append_record(bytes, fields, {position.epoch, position.sequence + batch.count++});
  }
  batch.records = bytes_of(bytes);
  wire::PartState parts;
  std::optional<wire::NewestMark> mark;
  EXPECT_FALSE(wire::scan_records(batch, 1 << 20, parts, shapes, mark));
  return wire::make_block(first, batch, shapes, 1'700'000'000'000, (first - 1) * 100);
}

wire::RecordFields record(std::string_view payload) {
  wire::RecordFields fields;
  fields.payload = bytes_of(payload);
  return fields;
}

class JournalTools : public testing::Test {
 protected:
  // Stream "s": 7/1 "one", 7/2 "two", 7/3 in two parts, 7/5 not text; then 9/1 "new".
  void SetUp() override {
    auto part = record("th");
    part.part = 0;
    auto rest = record("ree");
    rest.part = 1;
    rest.last_part = true;
    journal::Commit commit;
    commit.stream = "s";
    commit.append = {
        block_of(1, {7, 1}, {record("one"), record("two"), part, rest, record("\xff\xfe")}),
        block_of(6, {9, 1}, {record("new")})};
    journal::LedgerEntry entry;
    entry.id = 1;
    entry.sink = "copy";
    entry.first = {5, 1};
    entry.last = {5, 9};
    entry.count = 9;
    entry.reason = LossReason::limit;
    entry.time_ms = 1'700'000'000'000;
    commit.ledger = {entry};

    journal::Options options;
    options.data_dir = data_;
    options.streams = {"s"};
    options.min_free_disk = 0;
    auto journal = journal::Journal::open(options, {});
    ASSERT_TRUE(journal) << journal.error().message;
    commit.generation = (*journal)->recovered().at(0).generation;
    std::promise<journal::Outcome> done;
    (*journal)->commit(commit, [&done](journal::Outcome outcome) { done.set_value(outcome); });
    ASSERT_EQ(done.get_future().get(), journal::Outcome::ok);
  }

  Ran journal(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "journal");
    arguments.insert(arguments.end(), {"--data-dir", data_.string()});
    Backend backend;
    backend.check_journal = [this](
                                const std::filesystem::path& data_dir,
                                const config::Config*) -> Result<broker::offline::JournalReport> {
      EXPECT_EQ(data_dir, data_);
      return report_;
    };
    backend.repair_journal = [this](const std::filesystem::path&, const config::Config*,
                                    bool apply) -> Result<broker::offline::RepairReport> {
      if (!report_.beyond_repair.empty()) return Error{report_.beyond_repair};
      broker::offline::RepairReport done;
      done.found = report_;
      if (!report_.findings.empty()) done.steps = {"mend it"};
      done.applied = apply && !done.steps.empty();
      if (done.applied) done.kept = "kept/here";
      return done;
    };
    return run_command(arguments, backend);
  }
  void find_damage() {
    report_.findings = {{"hole", "s", "7/2 to 7/3 (2 records) are missing or damaged"}};
    report_.streams = {{"s", 4, {{2, 3, {7, 2}, {7, 3}}}}};
  }

  TemporaryFolder folder_;
  const std::filesystem::path data_ = folder_.path() / "data";
  broker::offline::JournalReport report_;
};

TEST_F(JournalTools, status_shows_what_is_held_and_what_was_let_go) {
  const auto ran = journal({"status"});
  EXPECT_EQ(ran.code, kOk) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("stream s: 6 records, 7/1 to 9/1"));
  EXPECT_THAT(ran.out, HasSubstr("not delivered: 5/1 to 5/9, 9 records, limit, sink copy"));
  const auto said = json::parse(journal({"status", "--json"}).out);
  const auto& stream = said.at("streams").at(0);
  EXPECT_EQ(stream.at("records").to_number<int>(), 6);
  EXPECT_EQ(stream.at("first").as_string(), "7/1");
  EXPECT_EQ(stream.at("last").as_string(), "9/1");
  EXPECT_TRUE(stream.at("damage").is_null());
  EXPECT_EQ(stream.at("ledger").at(0).at("reason").as_string(), "limit");
  EXPECT_TRUE(json::parse(journal({"status", "--ledger", "0", "--json"}).out)
                  .at("streams")
                  .at(0)
                  .at("ledger")
                  .as_array()
                  .empty());
}

TEST_F(JournalTools, check_finds_nothing_in_a_sound_journal) {
  const auto ran = journal({"check"});
  EXPECT_EQ(ran.code, kOk) << ran.out;
  EXPECT_THAT(ran.out, HasSubstr("intact and in order"));
}

TEST_F(JournalTools, check_says_what_is_lost_and_what_can_be_saved) {
  find_damage();
  const auto ran = journal({"check"});
  EXPECT_EQ(ran.code, kFailed);
  EXPECT_THAT(ran.out, AllOf(HasSubstr("stream s: 7/2 to 7/3"), HasSubstr("4 records are intact"),
                             HasSubstr("spillway journal repair")));
  const auto said = json::parse(journal({"check", "--json"}).out);
  EXPECT_FALSE(said.at("ok").as_bool());
  EXPECT_EQ(said.at("findings").at(0).at("kind").as_string(), "hole");
  const auto& stream = said.at("streams").at(0);
  EXPECT_EQ(stream.at("intact").to_number<int>(), 4);
  EXPECT_EQ(stream.at("lost").at(0).at("last").as_string(), "7/3");
  EXPECT_EQ(stream.at("lost").at(0).at("records").to_number<int>(), 2);
}

TEST_F(JournalTools, repair_only_plans_unless_it_is_told_to_apply) {
  EXPECT_THAT(journal({"repair"}).out, HasSubstr("nothing to repair"));
  find_damage();
  const auto plan = journal({"repair"});
  EXPECT_EQ(plan.code, kOk);
  EXPECT_THAT(plan.out, AllOf(HasSubstr("to do: mend it"), HasSubstr("--apply")));
  const auto done = journal({"repair", "--apply"});
  EXPECT_EQ(done.code, kOk);
  EXPECT_THAT(done.out, AllOf(HasSubstr("done: mend it"), HasSubstr("rm -r kept/here")));
  const auto said = json::parse(journal({"repair", "--apply", "--json"}).out);
  EXPECT_TRUE(said.at("applied").as_bool());
  EXPECT_EQ(said.at("kept").as_string(), "kept/here");
  report_.beyond_repair = "of another version";
  EXPECT_EQ(journal({"repair", "--apply"}).code, kFailed);
  EXPECT_THAT(journal({"check"}).out, HasSubstr("no repair: of another version"));
}

TEST_F(JournalTools, cat_writes_payloads_with_parts_put_together) {
  EXPECT_EQ(journal({"cat", "s"}).out, "one\ntwo\nthree\n\xff\xfe\nnew\n");
  const std::string prefixed = journal({"cat", "s", "--framing", "length_prefixed"}).out;
  EXPECT_EQ(prefixed,
            std::string("\3\0\0\0one\3\0\0\0two\5\0\0\0three\2\0\0\0\xff\xfe\3\0\0\0new", 20 + 16));
}

TEST_F(JournalTools, cat_keeps_to_its_bounds) {
  EXPECT_EQ(journal({"cat", "s", "--from", "7/2", "--to", "7/4"}).out, "two\nthree\n");
  EXPECT_EQ(journal({"cat", "s", "--from", "8/1"}).out, "new\n");
  EXPECT_EQ(journal({"cat", "s", "--count", "2"}).out, "one\ntwo\n");
  EXPECT_EQ(journal({"cat", "s", "--to", "6/1"}).out, "");
  EXPECT_EQ(journal({"cat", "s", "--from", "two"}).code, kUsage);
}

TEST_F(JournalTools, cat_as_json_writes_one_record_a_line) {
  const auto out = journal({"cat", "s", "--json"}).out;
  std::istringstream lines(out);
  std::vector<json::value> records;
  for (std::string line; std::getline(lines, line);) records.push_back(json::parse(line));
  ASSERT_EQ(records.size(), 6u);
  EXPECT_EQ(records[0].at("position").as_string(), "7/1");
  EXPECT_EQ(records[0].at("payload").as_string(), "one");
  EXPECT_EQ(records[3].at("part").to_number<int>(), 1);
  EXPECT_TRUE(records[3].at("last_part").as_bool());
  EXPECT_EQ(records[4].at("payload_base64").as_string(), "//4=");
}

TEST_F(JournalTools, a_stream_or_folder_that_is_not_there_fails) {
  EXPECT_EQ(journal({"cat", "other"}).code, kFailed);
  EXPECT_EQ(run_command({"journal", "status", "--data-dir", "/nonexistent"}).code, kFailed);
  EXPECT_EQ(run_command({"journal", "status"}).code, kUsage);
}

TEST_F(JournalTools, looking_changes_nothing) {
  std::map<std::string, std::filesystem::file_time_type> before;
  std::map<std::string, std::filesystem::file_time_type> after;
  const auto look = [this](auto& out) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(data_)) {
      out[entry.path().string()] = entry.last_write_time();
    }
  };
  look(before);
  journal({"status"});
  journal({"check"});
  journal({"cat", "s"});
  look(after);
  EXPECT_EQ(before, after);
}

}  // namespace
}  // namespace spillway::cli
