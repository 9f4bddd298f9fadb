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
    commit.append = {
        block_of(1, {7, 1}, {record("one"), record("two"), part, rest, record("\xff\xfe")}),
        block_of(6, {9, 1}, {record("new")})};
    commit.state = "read by nobody here, but blocks without one are damage";
    journal::LedgerEntry entry;
    entry.id = 1;
    entry.sink = "copy";
    entry.first = {5, 1};
    entry.last = {5, 9};
    entry.count = 9;
    entry.reason = LossReason::limit;
    entry.time_ms = 1'700'000'000'000;
    commit.ledger = {entry};
    put(std::move(commit));
  }

  void put(journal::Commit commit) {
    commit.stream = "s";
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
    backend.repair_journal =
        [this](const std::filesystem::path&, const config::Config*, bool apply,
               const std::vector<std::string>&) -> Result<broker::offline::RepairReport> {
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
  std::string exported() const {
    std::ifstream file(folder_.path() / "exported", std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  Ran export_to_file(std::vector<std::string> arguments = {}) {
    arguments.insert(arguments.begin(), {"export", "--stream", "s", "--output",
                                         (folder_.path() / "exported").string()});
    return journal(arguments);
  }
  std::size_t files() const {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator(folder_.path()), {}));
  }
  void find_damage() {
    report_.findings = {{"hole", "s", "7/2 to 7/3 (2 records) are missing or damaged"}};
    report_.streams = {{"s", 4, {{2, 3, {7, 2}, {7, 3}}}}};
  }

  TempDir folder_;
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

TEST_F(JournalTools, repair_forgets_no_stream_without_the_configuration_that_names_the_others) {
  find_damage();
  const auto ran = journal({"repair", "--apply", "--forget-stream", "s"});
  EXPECT_EQ(ran.code, kUsage);
  EXPECT_THAT(ran.err, HasSubstr("needs --config"));
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

TEST_F(JournalTools, a_range_that_ends_before_it_begins_is_refused) {
  const auto ran = journal({"cat", "s", "--from", "9/1", "--to", "7/2"});
  EXPECT_EQ(ran.code, kUsage);
  EXPECT_THAT(ran.err, HasSubstr("--from 9/1 is later than --to 7/2"));
}

TEST_F(JournalTools, a_payload_that_is_no_line_is_named_and_needs_lengths) {
  journal::Commit commit;
  commit.append = {block_of(7, {9, 2}, {record("two\nlines"), record("after")})};
  put(std::move(commit));
  const auto cat = journal({"cat", "s"});
  EXPECT_EQ(cat.code, kFailed);
  EXPECT_THAT(cat.err, AllOf(HasSubstr("the record at 9/2 contains a newline"),
                             HasSubstr("--framing length_prefixed")));
  const auto refused = export_to_file();
  EXPECT_EQ(refused.code, kFailed);
  EXPECT_THAT(refused.err, AllOf(HasSubstr("9/2"), HasSubstr("nothing was written")));
  EXPECT_EQ(files(), 1u);
  EXPECT_EQ(export_to_file({"--framing", "length_prefixed", "--from", "9/1"}).code, kOk);
  EXPECT_EQ(exported(), std::string("\3\0\0\0new\x9\0\0\0two\nlines\5\0\0\0after", 7 + 13 + 9));
}

TEST_F(JournalTools, export_writes_what_cat_shows) {
  EXPECT_EQ(journal({"export", "--stream", "s"}).out, "one\ntwo\nthree\n\xff\xfe\nnew\n");
  EXPECT_EQ(journal({"export", "--stream", "s", "--from", "7/2", "--to", "7/4"}).out,
            "two\nthree\n");
  const auto ran = export_to_file();
  EXPECT_EQ(ran.code, kOk) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("wrote 5 records, 7/1 to 9/1, to "));
  EXPECT_EQ(exported(), "one\ntwo\nthree\n\xff\xfe\nnew\n");
}

TEST_F(JournalTools, export_replaces_a_file_only_when_it_is_told_to) {
  folder_.write("exported", "old");
  const auto refused = export_to_file();
  EXPECT_EQ(refused.code, kFailed);
  EXPECT_THAT(refused.err, HasSubstr("--force"));
  EXPECT_EQ(exported(), "old");
  const auto said = json::parse(export_to_file({"--force", "--to", "7/2", "--json"}).out);
  EXPECT_EQ(exported(), "one\ntwo\n");
  EXPECT_EQ(said.at("records").to_number<int>(), 2);
  EXPECT_EQ(said.at("last").as_string(), "7/2");
  EXPECT_TRUE(said.at("missing").as_array().empty());
  EXPECT_EQ(files(), 2u);
  EXPECT_EQ(journal({"export", "--stream", "s", "--json"}).code, kUsage);
  EXPECT_EQ(journal({"export", "--stream", "s", "--output", "/nonexistent/file"}).code, kFailed);
}

TEST_F(JournalTools, export_of_positions_that_are_not_held_says_what_is) {
  const auto why = [this](const std::string& option, const std::string& position) {
    const auto ran = journal({"export", "--stream", "s", option, position});
    EXPECT_EQ(ran.code, kUsage);
    EXPECT_EQ(ran.out, "");
    return ran.err;
  };
  const std::string held = "the journal holds 7/1 to 7/5, 9/1 to 9/1";
  EXPECT_THAT(why("--from", "8/1"), AllOf(HasSubstr("there is no epoch 8"), HasSubstr(held)));
  EXPECT_THAT(why("--from", "6/3"), AllOf(HasSubstr("it was trimmed"), HasSubstr(held)));
  EXPECT_THAT(why("--to", "7/6"), AllOf(HasSubstr("its epoch ends before"), HasSubstr(held)));
  EXPECT_THAT(why("--to", "9/2"), AllOf(HasSubstr("its epoch ends before"), HasSubstr(held)));
  EXPECT_THAT(why("--to", "10/1"), AllOf(HasSubstr("there is no epoch 10"), HasSubstr(held)));
  const auto trim = [this](Offset watermark) {
    journal::Commit commit;
    commit.watermark = watermark;
    put(std::move(commit));
  };
  trim(5);
  EXPECT_THAT(why("--from", "7/2"),
              AllOf(HasSubstr("it was trimmed"), HasSubstr("the journal holds 9/1 to 9/1")));
  EXPECT_EQ(journal({"export", "--stream", "s"}).out, "new\n");
  trim(6);
  EXPECT_THAT(why("--from", "9/1"), HasSubstr("which holds no records"));
  EXPECT_EQ(journal({"export", "--stream", "s"}).code, kOk);
}

TEST_F(JournalTools, a_record_that_is_only_half_in_the_range_is_left_out_and_noted) {
  const auto behind = journal({"export", "--stream", "s", "--from", "7/4", "--to", "7/5"});
  EXPECT_EQ(behind.out, "\xff\xfe\n");
  EXPECT_THAT(behind.err, HasSubstr("1 record in parts"));
  EXPECT_EQ(journal({"export", "--stream", "s", "--from", "7/2", "--to", "7/3"}).out, "two\n");
}

TEST_F(JournalTools, records_that_are_lost_are_said_to_be) {
  journal::Commit commit;
  commit.append = {block_of(7, {9, 2}, {record("last")})};
  put(std::move(commit));
  for (const auto& entry : std::filesystem::directory_iterator(data_ / "journal")) {
    if (entry.path().extension() == ".log") std::filesystem::resize_file(entry.path(), 0);
  }
  const auto ran = export_to_file();
  EXPECT_EQ(ran.code, kFailed);
  EXPECT_THAT(ran.err, HasSubstr("stream s: "));
  EXPECT_EQ(files(), 2u);
  const auto said = json::parse(export_to_file({"--json", "--force"}).out);
  EXPECT_FALSE(said.at("ok").as_bool());
  EXPECT_EQ(said.at("missing").as_array().size(), 1u);
}

TEST_F(JournalTools, ledger_shows_what_was_not_delivered) {
  const auto ran = journal({"ledger", "--stream", "s"});
  EXPECT_EQ(ran.code, kOk);
  EXPECT_THAT(ran.out, HasSubstr("not delivered: 5/1 to 5/9, 9 records, limit, sink copy"));
  journal::Commit commit;
  journal::LedgerEntry entry;
  entry.id = 2;
  entry.first = entry.last = {7, 1};
  entry.count = 1;
  commit.ledger = {entry};
  put(std::move(commit));
  const auto said = json::parse(journal({"ledger", "--stream", "s", "--json"}).out);
  EXPECT_EQ(said.at("stream").as_string(), "s");
  ASSERT_EQ(said.at("ledger").as_array().size(), 2u);
  EXPECT_EQ(said.at("ledger").at(0).at("first").as_string(), "7/1");
  EXPECT_EQ(said.at("ledger").at(1).at("count").to_number<int>(), 9);
  const auto newest =
      json::parse(journal({"ledger", "--stream", "s", "--count", "1", "--json"}).out);
  EXPECT_EQ(newest.at("ledger").as_array().size(), 1u);
  EXPECT_THAT(journal({"ledger", "--stream", "t"}).err, HasSubstr("it has s"));
}

TEST_F(JournalTools, a_dead_letter_in_parts_is_shown_as_one_payload) {
  auto part = record("th");
  part.part = 0;
  part.type = "number";
  auto rest = record("ree");
  rest.part = 1;
  rest.last_part = true;
  journal::Commit commit;
  commit.dead_letters = {
      {"copy", block_of(3, {7, 3}, {part, rest}), "too\nlong", 1'700'000'000'000}};
  put(std::move(commit));
  const auto letters = [this](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "dead-letters");
    arguments.insert(arguments.end(), {"--data-dir", data_.string()});
    return run_command(arguments);
  };
  EXPECT_THAT(letters({"list"}).out, HasSubstr("copy  7/3       2023-11-14 22:13:20Z"));
  EXPECT_THAT(letters({"list"}).out, HasSubstr("too long"));
  EXPECT_EQ(letters({"list", "--sink", "other"}).out, "there are no dead letters\n");
  EXPECT_EQ(letters({"list", "--stream", "t"}).code, kFailed);
  EXPECT_EQ(letters({"show", "7/3"}).out, "three");
  EXPECT_EQ(letters({"show", "7"}).code, kUsage);
  EXPECT_EQ(letters({"show", "7/4"}).code, kFailed);
  const auto said = json::parse(letters({"show", "7/3", "--json"}).out);
  EXPECT_EQ(said.at("record").at("payload").as_string(), "three");
  EXPECT_EQ(said.at("record").at("type").as_string(), "number");
  EXPECT_FALSE(said.at("record").as_object().contains("part"));
  EXPECT_EQ(said.at("reason").as_string(), "too\nlong");
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
  journal({"export", "--stream", "s"});
  journal({"ledger", "--stream", "s"});
  look(after);
  EXPECT_EQ(before, after);
}

}  // namespace
}  // namespace spillway::cli
