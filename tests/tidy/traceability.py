#!/usr/bin/env python3
"""The table of tests/README.md, "Which test catches a breach", names tests that there are, for each
guarantee and each rule of durability. Prints a line per offence; exits with 1 if any."""
import re
import sys
from pathlib import Path

HEADING = "## Which test catches a breach"
PROMISES = [f"G{n}" for n in range(1, 13)] + [f"D{n}" for n in range(1, 9)]
KINDS = ("unit", "simulation", "fault and integration")


def rows(document):
    """{promise: [the cell of each kind]}"""
    section = document.split(HEADING, 1)[1].split("\n## ", 1)[0]
    found = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if re.fullmatch(r"[GD]\d+", cells[0]):
            found[cells[0]] = cells[2:]
    return found


def read(root, pattern):
    return [(path, path.read_text()) for path in sorted(root.glob(pattern))]


def tests(root):
    """Every name that ctest knows: Suite.Test, and scenario file.sentence."""
    names = set()
    for _, text in read(root / "tests", "*/*_test.cc"):
        names.update(f"{suite}.{name}" for suite, name in
                     re.findall(r"^TEST(?:_F|_P)?\((\w+),\s*(\w+)\)", text, re.MULTILINE))
    for path, text in read(root / "tests" / "integration", "*.py"):
        names.update(f"{path.stem}.{name}" for name in
                     re.findall(r"^def ([a-z0-9_]+)\(run\):", text, re.MULTILINE))
    return names


def checks(root):
    """Every string of a check of the simulation."""
    texts = set()
    for _, text in read(root / "tests" / "simulation", "*.cc"):
        for call in re.findall(r"\brequire\((.*?)\);", text, re.DOTALL):
            texts.update(re.findall(r'"((?:[^"\\]|\\.)*)"', re.sub(r'"\s*\n\s*"', "", call)))
    return texts


def offences(root):
    table = rows((root / "tests" / "README.md").read_text())
    known_tests, known_checks = tests(root), checks(root)
    for promise in PROMISES:
        if promise not in table:
            yield f"{promise} has no row"
            continue
        for kind, cell in zip(KINDS, table[promise] + [""] * len(KINDS)):
            pattern, known = ((r'"([^"]+)"', known_checks) if kind == "simulation"
                              else (r"`([^`]+)`", known_tests))
            names = re.findall(pattern, cell)
            if not names:
                yield f"{promise}: nothing under {kind}"
            for name in names:
                if name not in known:
                    yield f"{promise}: there is no {name}"


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2]
    found = list(offences(root))
    for offence in found:
        print(offence)
    print(f"{len(PROMISES)} promises, {len(found)} offences")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
