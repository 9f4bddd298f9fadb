#!/usr/bin/env python3
"""Each house rule must catch what it is there for, and let the nearest harmless thing pass."""

import unittest

import tidy


def messages(path, text):
    if path.endswith(".h"):
        text = "#pragma once\n" + text
    return [message for _, _, message in tidy.check_file(path, text + "\n")]


class Rules(unittest.TestCase):
    def caught(self, path, text, word):
        found = messages(path, text)
        self.assertEqual(len(found), 1, f"{path}: {text!r}: {found}")
        self.assertIn(word, found[0])

    def passes(self, path, text):
        self.assertEqual(messages(path, text), [], f"{path}: {text!r}")

    def test_dependencies_between_folders_point_one_way(self):
        self.caught("recovery/x.cc", '#include "journal/journal.h"', "recovery/ must not")
        self.caught("journal/x.cc", '#include "recovery/stream.h"', "journal/ must not")
        self.caught("wire/x.h", '#include "broker/run.h"', "wire/ must not")
        self.caught("client/x.cc", '#include "journal/journal.h"', "client/ must not")
        self.caught("base/x.cc", '#include "wire/frame.h"', "base/ must not")
        self.caught("metrics/x.cc", '#  include "broker/log/log.h"', "metrics/ must not")
        self.caught("journal/x.cc", "#include <recovery/stream.h>", "journal/ must not")
        self.caught("tests/recovery/x.cc", '#include "journal/journal.h"', "tests of recovery/")
        self.passes("broker/x.cc", '#include "journal/journal.h"')
        self.passes("client/x.cc", '#include "wire/frame.h"')
        self.passes("tests/simulation/x.cc", '#include "recovery/stream.h"')
        self.passes("recovery/x.cc", '// #include "journal/journal.h"')

    def test_our_headers_are_included_from_the_root(self):
        self.caught("base/x.cc", '#include "block.h"', "root of the project")

    def test_rocksdb_stays_in_the_journal(self):
        for path in ("recovery/x.cc", "broker/run.cc", "tests/integration/x.cc", "base/x.h"):
            self.caught(path, "#include <rocksdb/db.h>", "RocksDB")
        for path in ("journal/x.cc", "tests/journal/x_test.cc", "tests/fault/x.h"):
            self.passes(path, "#include <rocksdb/db.h>")

    def test_machines_know_no_network_logger_thread_file_or_metric(self):
        for header in ("boost/asio.hpp", "boost/asio/steady_timer.hpp", "spdlog/spdlog.h",
                       "prometheus/counter.h", "thread", "fstream", "sys/socket.h"):
            self.caught("recovery/x.cc", f"#include <{header}>", header)
        self.passes("recovery/x.cc", "#include <boost/container/small_vector.hpp>")

    def test_the_base_and_the_protocol_do_no_network_io(self):
        self.caught("base/x.h", "#include <boost/asio/buffer.hpp>", "network")
        self.caught("wire/x.cc", "#include <boost/beast.hpp>", "network")
        self.passes("client/x.cc", "#include <boost/asio/io_context.hpp>")

    def test_machines_read_no_clock_and_draw_no_numbers(self):
        self.caught("recovery/x.cc", "auto t = std::chrono::steady_clock::now();", "steady_clock")
        self.caught("recovery/x.cc", "std::random_device seed;", "random_device")
        self.passes("recovery/x.cc", "// steady_clock::now() is the caller's")
        self.passes("broker/x.cc", "auto t = std::chrono::steady_clock::now();")

    def test_coroutines_are_out_with_and_without_braces(self):
        for code in ("co_await f(P{1});", "co_await g([s] { return s; });", "co_return;"):
            self.caught("broker/x.cc", "int f() { " + code + " }", "co_")
        self.passes("broker/x.cc", "// co_await f(P{1}) is what g++ 12 miscompiles")

    def test_nothing_is_left_for_later(self):
        for word in ("TO" "DO", "FIX" "ME"):
            self.caught("base/x.cc", f"int x;  // {word}: think", word)
            self.caught("base/README.md", f"{word} describe", word)
        self.passes("base/x.cc", "int todos;")

    def test_tests_wait_for_events_not_for_time(self):
        self.caught("tests/broker/x_test.cc", "std::this_thread::sleep_for(1ms);", "sleep_for")
        self.caught("tests/broker/x_test.cc", "usleep(10);", "usleep")
        self.caught("tests/integration/x.py", "time.sleep(1)", "time.sleep")
        self.passes("tests/broker/x_test.cc", "condition.wait_for(lock, 1s, ready);")
        self.passes("tests/broker/x_test.cc", 'TEST(Disk, FallsAsleep) { run("sleep(1)"); }')

    def test_no_test_is_skipped(self):
        self.caught("tests/base/x_test.cc", "GTEST_SKIP();", "GTEST_SKIP")
        self.caught("tests/base/x_test.cc", "TEST(A, DISABLED_Works) {}", "DISABLED_Works")

    def test_files_outside_tests_are_short(self):
        self.passes("base/x.cc", "\n".join(["int x;"] * 500))
        self.caught("base/x.cc", "\n".join(["int x;"] * 501), "501 lines")
        self.passes("tests/base/x_test.cc", "\n".join(["int x;"] * 501))

    def test_lines_are_short_counted_in_characters(self):
        self.passes("base/x.cc", "//" + "é" * 98)
        self.caught("base/x.cc", "//" + "x" * 99, "101 columns")
        self.passes("base/README.md", "x" * 200)

    def test_text_is_clean(self):
        self.caught("base/x.cc", "int x; ", "blanks")
        self.caught("base/x.cc", "\tint x;", "tab")
        self.assertEqual(len(tidy.check_file("base/x.cc", "int x;")), 1)

    def test_headers_guard_themselves_and_keep_their_names(self):
        self.assertIn("#pragma once", tidy.check_file("base/x.h", "int x;\n")[0][2])
        self.caught("base/x.h", "using namespace std;", "using namespace")

    def test_invariant_is_the_one_macro(self):
        self.caught("base/x.h", "#define MAX(a, b) 1", "MAX")
        self.passes("base/invariant.h", "#define INVARIANT(condition) 1")

    def test_files_are_named_in_snake_case(self):
        self.caught("base/CamelCase.cc", "int x;", "snake_case")

    def test_strings_and_comments_are_not_code(self):
        self.passes("base/x.cc", 'auto a = R"(co_await f(P{1}))";\nauto b = "co_await";')
        self.passes("base/x.cc", "/* co_await\n   co_return */\nint x = 1'000'000;")
        self.caught("base/x.cc", "char c = '\"'; co_return; // \"", "co_return")


class Tree(unittest.TestCase):
    def test_every_folder_with_code_has_its_design_document(self):
        files = {"wire/x.cc": "", "wire/CMakeLists.txt": "x.cc"}
        self.assertIn("README.md", tidy.check_tree(files)[0][2])
        files["wire/README.md"] = ""
        self.assertEqual(tidy.check_tree(files), [])

    def test_links_in_documents_lead_somewhere(self):
        files = {"README.md": "[a](wire/README.md) [b](https://example.org/x) [c](wire) [d](#e)",
                 "wire/README.md": "[up](../README.md#top)\n    [](const auto& x) {}"}
        self.assertEqual(tidy.check_tree(files), [])
        files["wire/README.md"] = "[gone](frames.md)"
        self.assertIn("frames.md leads nowhere", tidy.check_tree(files)[0][2])

    def test_every_source_is_built(self):
        files = {"tests/a/x_test.cc": "", "tests/a/CMakeLists.txt": "spillway_test(y_x_test.cc)"}
        self.assertIn("no CMakeLists.txt names it", tidy.check_tree(files)[0][2])
        files["tests/a/CMakeLists.txt"] = "spillway_test(a SOURCES x_test.cc)"
        self.assertEqual(tidy.check_tree(files), [])

    def test_a_source_may_be_built_from_a_folder_above(self):
        files = {"broker/README.md": "", "broker/cli/README.md": "", "broker/cli/x.cc": "",
                 "broker/CMakeLists.txt": "spillway_library(cli SOURCES cli/x.cc)"}
        self.assertEqual(tidy.check_tree(files), [])


if __name__ == "__main__":
    unittest.main()
