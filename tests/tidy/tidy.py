#!/usr/bin/env python3
"""The house rules that a compiler does not check. Prints a line per offence; exits with 1 if any.

    tidy.py [ROOT]     checks the tree at ROOT (default: the tree that this file is in)

A rule is a function of a File that yields (line, message); tidy_test.py feeds each one bad
snippets.
CONTRIBUTING.md says why the rules are there.
"""

import os
import re
import sys
from pathlib import Path

SKIPPED_FOLDERS = {".git", "build", "__pycache__"}
TEXT = {".h", ".cc", ".py", ".cmake", ".txt", ".md", ".toml", ".proto", ".json", ".yml", ".sh", ""}
MAX_LINES = 500
MAX_COLUMNS = 100

# Folder -> the folders of ours that it may include. Dependencies point one way.
MAY_INCLUDE = {
    "base": {"base"},
    "wire": {"wire", "base"},
    "journal": {"journal", "base"},
    "recovery": {"recovery", "base"},
    "metrics": {"metrics", "base"},
    "client": {"client", "wire", "base"},
    "examples": {"client", "wire", "base"},
    "broker": {"broker", "client", "recovery", "journal", "metrics", "wire", "base"},
}
OUR_FOLDERS = set(MAY_INCLUDE) | {"tests"}

NETWORK = r"(boost/(asio|beast)|sys/socket|netinet/|arpa/)"
THREADS_AND_FILES = r"(thread|mutex|condition_variable|future|fstream|iostream|filesystem)$"
# (what is included, who must not, or with `only` who alone may, why)
THIRD_PARTY = [
    (r"rocksdb/", "only", ("journal", "tests/journal", "tests/fault", "tests/bench"),
     "RocksDB is a secret of journal/"),
    (r"prometheus/", "only", ("metrics", "tests/metrics"),
     "prometheus-cpp is a secret of metrics/"),
    (r"(spdlog|fmt)/", "only", ("broker", "tests/broker", "tests/integration"),
     "only the broker logs"),
    (NETWORK, "not", ("base", "wire", "journal", "recovery", "metrics"),
     "this folder does no network I/O"),
    (THREADS_AND_FILES, "not", ("recovery",), "the machines have no threads and no files"),
]


class File:
    def __init__(self, path, text):
        self.path = str(path)  # relative to the root, with slashes
        self.name = os.path.basename(self.path)
        self.suffix = os.path.splitext(self.name)[1]
        self.text = text
        self.lines = text.split("\n")
        if self.lines and self.lines[-1] == "":
            self.lines.pop()
        self.is_cpp = self.suffix in (".h", ".cc")
        self.is_test = self.path.startswith("tests/")
        self.code = without_comments(text).split("\n") if self.is_cpp else self.lines

    def is_in(self, *folders):
        return any(self.path.startswith(folder + "/") for folder in folders)

    def find(self, pattern, lines=None):
        for number, line in enumerate(self.code if lines is None else lines, 1):
            for match in re.finditer(pattern, line):
                yield number, match


CPP_TOKEN = re.compile(
    r'R"([^(\s]*)\(.*?\)\1"'  # raw string
    r'|"(?:\\.|[^"\\\n])*"'  # string
    r"|(?<![0-9A-Fa-f])'(?:\\.|[^'\\\n])+'"  # character; 1'000 is a number
    r"|//[^\n]*|/\*.*?\*/",
    re.DOTALL)


def without_comments(text):
    """C++ with comments and string contents blanked; lines stay where they are."""
    def blank(match):
        token = match.group(0)
        line_start = text.rfind("\n", 0, match.start()) + 1
        before = text[line_start:match.start()]
        if token[0] == '"' and re.fullmatch(r"\s*#\s*include\s*", before):
            return token
        inside = "".join("\n" if c == "\n" else " " for c in token)
        return inside if token.startswith("/") else '"' + inside[1:-1] + '"'
    return CPP_TOKEN.sub(blank, text)


def includes(file):
    """(line, file included, whether with quotes)"""
    for number, match in file.find(r'^\s*#\s*include\s*(["<])([^">]+)[">]'):
        yield number, match.group(2), match.group(1) == '"'


def dependencies_point_one_way(file):
    if not file.is_cpp:
        return
    folder = file.path.split("/")[0]
    for number, included, quoted in includes(file):
        target = included.split("/")[0]
        if quoted and "/" not in included:
            yield number, f'"{included}" is not written from the root of the project'
        if target not in OUR_FOLDERS or "/" not in included:
            continue
        if folder in MAY_INCLUDE and target not in MAY_INCLUDE[folder]:
            yield number, f"{folder}/ must not include {target}/"
        if file.is_in("tests/journal", "tests/recovery", "tests/fault", "tests/base", "tests/wire"):
            tested = {"fault": "journal"}.get(file.path.split("/")[1], file.path.split("/")[1])
            if target not in MAY_INCLUDE[tested] | {"tests"}:
                yield number, f"the tests of {tested}/ must not include {target}/"


def third_party_stays_in_its_folder(file):
    if not file.is_cpp:
        return
    for number, included, quoted in includes(file):
        for pattern, kind, folders, why in THIRD_PARTY:
            if re.match(pattern, included) and file.is_in(*folders) == (kind == "not"):
                yield number, f"{included}: {why}"


def the_machines_know_no_clock(file):
    if file.is_cpp and file.is_in("recovery"):
        pattern = r"\w*_clock::now|\brandom_device\b|\btime\(|std::\w+_distribution"
        for number, match in file.find(pattern):
            yield number, f"{match.group(0)}: time and chance come in as arguments"


def no_coroutines(file):
    if file.is_cpp:
        for number, match in file.find(r"\bco_(await|return|yield)\b"):
            yield number, f"{match.group(0)}: g++ 12 destroys temporaries twice, use callbacks"


def nothing_is_left_for_later(file):
    for number, match in file.find(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b", file.lines):
        yield number, f"{match.group(0)}: do it or open an issue"


def tests_do_not_sleep(file):
    if file.path == "tests/bench/generator.cc":
        return  # it keeps a rate: what it waits for is a time
    if file.is_test and file.is_cpp:
        for number, match in file.find(r"\b(sleep_for|sleep_until|usleep|nanosleep|sleep)\s*\("):
            yield number, f"{match.group(1)}: wait for the event, not for a time"
    if file.is_test and file.suffix == ".py" and "tidy" not in file.name:
        for number, match in file.find(r"\btime\.sleep\b|\bfrom time import .*sleep"):
            yield number, f"{match.group(0)}: wait for the event, not for a time"


def no_test_is_skipped(file):
    if file.is_cpp:
        for number, match in file.find(r"\b(GTEST_SKIP|DISABLED_\w+)"):
            yield number, f"{match.group(1)}: a test that does not run is not a test"


def files_are_short(file):
    code = file.is_cpp or file.suffix == ".py" or file.is_in("scripts")
    if code and not file.is_test and len(file.lines) > MAX_LINES:
        yield len(file.lines), f"{len(file.lines)} lines, {MAX_LINES} at most: one job each"


def lines_are_short(file):
    if file.is_cpp or file.suffix in (".py", ".proto", ".cmake") or file.name == "CMakeLists.txt":
        for number, line in enumerate(file.lines, 1):
            if len(line) > MAX_COLUMNS:
                yield number, f"{len(line)} columns, {MAX_COLUMNS} at most"


def text_is_clean(file):
    if file.text and not file.text.endswith("\n"):
        yield len(file.lines), "no newline at the end"
    for number, line in enumerate(file.lines, 1):
        if "\t" in line or "\r" in line:
            yield number, "a tab or a carriage return"
        elif line != line.rstrip():
            yield number, "blanks at the end"


def headers_are_included_once(file):
    if file.suffix == ".h" and not any(line == "#pragma once" for line in file.lines):
        yield 1, "no #pragma once"


def no_macros(file):
    if file.is_cpp:
        for number, match in file.find(r"^\s*#\s*define\s+(\w+)"):
            if match.group(1) != "INVARIANT":
                yield number, f"{match.group(1)}: INVARIANT is the one macro"


def no_using_namespace_in_headers(file):
    if file.suffix == ".h":
        for number, _ in file.find(r"\busing namespace\b"):
            yield number, "using namespace in a header"


def files_are_named_in_snake_case(file):
    if file.suffix in (".h", ".cc", ".py") and not re.fullmatch(r"[a-z0-9_]+\.\w+", file.name):
        yield 1, "file names are snake_case"


RULES = [
    dependencies_point_one_way, third_party_stays_in_its_folder, the_machines_know_no_clock,
    no_coroutines, nothing_is_left_for_later, tests_do_not_sleep, no_test_is_skipped,
    files_are_short, lines_are_short, text_is_clean, headers_are_included_once, no_macros,
    no_using_namespace_in_headers, files_are_named_in_snake_case,
]


def check_file(path, text):
    """What is wrong with one file, as (path, line, message)."""
    file = File(path, text)
    return [(file.path, number, message) for rule in RULES for number, message in rule(file)]


def check_tree(files):
    """What is wrong with the tree as a whole. `files`: path -> text."""
    offences = []
    paths = set(files)
    folders = {os.path.dirname(path) for path in paths
               if path.endswith((".cc", ".h")) and not path.startswith(("tests/", "examples/"))}
    folders |= {folder.split("/")[0] for folder in folders if folder}
    for folder in sorted(folders):
        if f"{folder}/README.md" not in paths:
            offences.append((folder, 1, "no README.md: it is the design document of the folder"))

    places = paths | {str(parent) for path in paths for parent in Path(path).parents}
    for path in sorted(path for path in paths if path.endswith(".md")):
        for number, line in enumerate(files[path].split("\n"), 1):
            for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", line):
                place = os.path.normpath(os.path.join(os.path.dirname(path), target))
                if place not in places:
                    offences.append((path, number, f"the link to {target} leads nowhere"))

    # What is not built is not tested.
    for path in sorted(paths):
        if not path.endswith(".cc"):
            continue
        folder, built = os.path.dirname(path), False
        while folder and not built:
            name = os.path.relpath(path, folder)
            lists = files.get(f"{folder}/CMakeLists.txt", "")
            built = re.search(rf"(?<![\w/.]){re.escape(name)}(?!\w)", lists) is not None
            folder = os.path.dirname(folder)
        if not built:
            offences.append((path, 1, "no CMakeLists.txt names it"))
    return offences


def read_tree(root):
    files = {}
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if name not in SKIPPED_FOLDERS)
        for name in sorted(names):
            path = Path(folder, name)
            relative = path.relative_to(root).as_posix()
            is_data = (relative.startswith(("tests/data/", "tests/fuzz/corpus/"))
                       and path.suffix != ".md")
            if path.suffix in TEXT and not is_data:
                try:
                    files[relative] = path.read_text(encoding="utf-8")
                except UnicodeDecodeError:
                    continue  # not text after all
    return files


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[2]).resolve()
    files = read_tree(root)
    if "base/block.h" not in files:
        sys.exit(f"{root} is not the root of the project")
    offences = [offence for path, text in files.items() for offence in check_file(path, text)]
    offences += check_tree(files)
    for path, line, message in offences:
        print(f"{path}:{line}: {message}")
    print(f"{len(files)} files, {len(offences)} offences")
    sys.exit(1 if offences else 0)


if __name__ == "__main__":
    main()
