#!/usr/bin/env python3
"""Breaks one line of the machines or of the journal at a time, and shows that the tests notice.

  mutants.py check     every mutation's text is there exactly once, and every sentence has one
  mutants.py run [--only NAME] [--jobs N] [--seeds N] [--build DIR]
                       builds each mutant and runs what must kill it; exit 1 if one survives,
                       or hangs

`run` needs a build of the targets simulation, recovery_test, journal_test and fault_test. Nothing
in the tree is changed: the mutated file and what is built of it live in a scratch folder. It begins
with what is not mutated: a test that fails there by itself would seem to kill everything.
"""
import argparse
import concurrent.futures
import difflib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLE = pathlib.Path(__file__).with_name("mutants.toml")
SENTENCES = pathlib.Path(__file__).with_name("README.md")  # of D1 to D8, numbered
GUARANTEES = [f"G{i}" for i in range(1, 13)]
ENOUGH = 40
SEEDS_OF_CI = 20000
PATIENCE_S = 300  # for one program
LIBRARIES = {"recovery": "libspillway_recovery.a", "journal": "libspillway_journal.a"}


class Hangs(Exception):
    """Ended after PATIENCE_S. That proves nothing: a machine can be slow."""


def rules():
    return re.findall(r"^\| (D\d\.\d+) \|", SENTENCES.read_text(), re.MULTILINE) + GUARANTEES


def table():
    return tomllib.loads(TABLE.read_text())["mutant"]


def check(mutants):
    errors = []
    known = rules()
    errors += [f"{rule}: numbered twice" for rule in set(known) if known.count(rule) > 1]
    errors += [f"D{i} has no sentences" for i in range(1, 9) if f"D{i}.1" not in known]
    names = [m["name"] for m in mutants]
    errors += [f"{name}: named twice" for name in set(names) if names.count(name) > 1]
    for m in mutants:
        count = (ROOT / m["file"]).read_text().count(m["text"])
        if count != 1:
            errors.append(f"{m['name']}: its text is in {m['file']} {count} times, not once")
        lines = difflib.ndiff(m["text"].split("\n"), m["replacement"].split("\n"))
        if (changed := sum(line.startswith("-") for line in lines)) != 1:
            errors.append(f"{m['name']}: changes {changed} lines, not one")
        unknown = set(m["breaks"]) - set(known)
        if unknown or not m["breaks"]:
            errors.append(f"{m['name']}: breaks no known rule: {sorted(unknown)}")
    broken = {rule for m in mutants for rule in m["breaks"]}
    errors += [f"no mutant breaks {rule}" for rule in known if rule not in broken]
    if len(mutants) < ENOUGH:
        errors.append(f"{len(mutants)} mutants, at least {ENOUGH} are wanted")
    return errors


def shell(command, folder, patience=PATIENCE_S):
    process = subprocess.Popen(
        command, shell=True, cwd=folder, text=True, errors="replace", start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        text, _ = process.communicate(timeout=patience)
        return process.returncode, text
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the shell, and what it runs
        process.communicate()
        raise Hangs from None


class Builder:
    """Recompiles one file as the build did, and links it with the build's other objects."""

    def __init__(self, build, scratch):
        self.build = build
        self.scratch = scratch
        commands = json.loads((build / "compile_commands.json").read_text())
        self.commands = {c["file"]: c["command"] for c in commands}

    def original(self, folder):
        return f"{folder}/{LIBRARIES[folder]}", self.build / folder / LIBRARIES[folder]

    def compile(self, m):
        source = ROOT / m["file"]
        mutated = self.scratch / source.name
        mutated.write_text(source.read_text().replace(m["text"], m["replacement"]))
        command = self.commands[str(source)].replace("-Werror", "-w").replace("-O2", "-O1")
        member = self.scratch / (source.name + ".o")
        command = re.sub(r" -M[TF] \S+| -MD", "", command)
        command = re.sub(r" -o \S+", f" -o {member}", command)
        command = command.replace(str(source), str(mutated))
        code, text = shell(command, self.build)
        if code != 0:
            raise RuntimeError(f"{m['name']} does not compile:\n{text[-2000:]}")
        archive, original = self.original(folder_of(m))
        library = self.scratch / original.name
        shutil.copy(original, library)
        subprocess.run(["ar", "r", str(library), str(member)], check=True, capture_output=True)
        return archive, library

    def link(self, program, archive, library):
        commands = subprocess.run(["ninja", "-t", "commands", f"bin/{program}"], cwd=self.build,
                                  check=True, capture_output=True, text=True).stdout
        out = self.scratch / program
        link = commands.strip().splitlines()[-1].replace(archive, str(library))
        link = link.replace(f"-o bin/{program}", f"-o {out}")
        link = re.split(r" && (?=cd |/usr/bin/cmake)", link)[0]  # nothing that comes after linking
        code, text = shell(link, self.build)
        if code != 0:
            raise RuntimeError(f"{program} does not link:\n{text[-2000:]}")
        return out


def folder_of(m):
    return m["file"].split("/")[0]


def programs_for(folder, seeds):
    """What must kill a mutant of `folder`: each with its arguments, and the programs and modules
    that it looks for beside itself. The quick one first."""
    gtest = "--gtest_brief=1 --gtest_fail_fast"
    if folder == "recovery":
        return [("recovery_test", gtest, (), ()), ("simulation", f"--seeds {seeds}", (), ())]
    return [("journal_test", gtest, (), ()),
            ("fault_test", gtest, ("power_workload",), ("libpower_shim.so",))]


def what_killed(program, text):
    for pattern in (r"seed \d+ failed.*", r"\[  FAILED  \] (\S+\.\S+)", r"invariant failed: .*",
                    r"never reached:\n.*"):
        if found := re.search(pattern, text):
            return f"{program}: {' '.join(found.group(0).split())[:120]}"
    lines = text.strip().splitlines()
    return f"{program}: {lines[-1][:120] if lines else 'died'}"


def run_one(folder, m, arguments):
    """What killed `m`, or what is not mutated when it is None."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as scratch:
        builder = Builder(arguments.build, pathlib.Path(scratch))
        archive, library = builder.compile(m) if m else builder.original(folder)
        for program, options, beside, modules in programs_for(folder, arguments.seeds):
            for name in modules:
                (builder.scratch / name).symlink_to(arguments.build / "bin" / name)
            for name in beside:
                builder.link(name, archive, library)
            out = builder.link(program, archive, library)
            code, text = shell(f"{out} {options}", scratch)
            if code != 0:
                return what_killed(program, text)
    return None


def judge(m, arguments):
    """Killed, survived, or hangs."""
    begin = time.monotonic()
    verdict, by = "survived", ""
    try:
        if killed := run_one(folder_of(m), m, arguments):
            verdict, by = "killed", f" by {killed}"
    except RuntimeError as error:
        print(error)
    except Hangs:
        verdict = "hangs"
    shown = verdict if verdict == "killed" else verdict.upper()
    seconds = time.monotonic() - begin
    print(f"{m['name']} ({', '.join(m['breaks'])}): {shown}{by} [{seconds:.0f} s]", flush=True)
    return verdict


def as_it_is(folder, arguments):
    """What fails of a folder that is not mutated."""
    try:
        return run_one(folder, None, arguments)
    except Hangs:
        return "hangs"


def run(mutants, arguments):
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        folders = sorted({folder_of(m) for m in mutants}) if not arguments.only else []
        for folder, failed in zip(folders,
                                  pool.map(lambda f: as_it_is(f, arguments), folders)):
            if failed:
                print(f"{folder}/ as it is: {failed}; so nothing would be proved")
                return 1
        verdicts = list(pool.map(lambda m: judge(m, arguments), mutants))
    print(f"{len(mutants)} mutants, {verdicts.count('killed')} killed, "
          f"{verdicts.count('survived')} survived, {verdicts.count('hangs')} hang")
    for m, verdict in zip(mutants, verdicts):
        if verdict != "killed":
            print(f"  {m['name']}: {verdict}")
    return 0 if set(verdicts) == {"killed"} else 1


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["check", "run"])
    parser.add_argument("--only", action="append", help="a mutant by name; may be given again")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many at a time")
    parser.add_argument("--seeds", type=int, default=SEEDS_OF_CI, help="as many as CI runs")
    parser.add_argument("--build", type=lambda p: pathlib.Path(p).resolve(),
                        default=ROOT / "build" / "release")
    arguments = parser.parse_args()
    mutants = table()
    errors = check(mutants)
    for error in errors:
        print(error)
    if errors or arguments.command == "check":
        print(f"{len(mutants)} mutants, {len(errors)} errors")
        return 1 if errors else 0
    if arguments.only:
        mutants = [m for m in mutants if m["name"] in arguments.only]
        if not mutants:
            sys.exit("no mutant has such a name")
    return run(mutants, arguments)


if __name__ == "__main__":
    sys.exit(main())
