#!/usr/bin/env bash
# The long versions of what CI runs for a minute, and their figures. scripts/test --long calls this
# with the folder of the programs. Takes about an hour.
set -uo pipefail
cd "$(dirname "$0")/.."
bin=$(realpath "$1")
logs=$(mktemp -d)
failed=0
export SPILLWAY_BIN=$bin

# section NAME FIGURES COMMAND...: runs it, prints the lines of its output that match FIGURES.
section() {
  local name=$1 figures=$2
  shift 2
  local log=$logs/${name// /-} begin=$SECONDS verdict=ok
  "$@" >"$log" 2>&1 || verdict="FAILED with $?"
  [[ $verdict == ok ]] || failed=1
  echo "== $name: $verdict, $((SECONDS - begin)) s ($log)"
  grep -E "$figures" "$log" | tail -8
}

in_halves() {
  "$bin/simulation" --seeds 500000 --from 1000001 &
  local other=$!
  "$bin/simulation" --seeds 500000 --from 1500001
  local here=$?
  wait "$other" && return "$here"
}

section "simulation" "seeds/s|steps|every transition|never|FAILED" in_halves
section "power cuts of the journal" "cuts|OK|FAILED" \
  env SPILLWAY_POWER_SEED=100 SPILLWAY_POWER_SEEDS=16 \
  "$bin/fault_test" --gtest_filter='*PowerCut*'
section "flipped bits" "OK|FAILED" \
  env SPILLWAY_FLIPS=1000 "$bin/fault_test" --gtest_filter='FlippedBit*'
section "power cuts of the broker" "ok|FAILED|cut" python3 tests/integration/power.py --rounds 10
section "kill" "rounds|ok|FAILED" python3 tests/integration/kill.py \
  all_that_was_published_survives_kills_of_broker_producer_and_receiver --rounds 500
section "10 GiB of backlog" "records of|^most|ok|FAILED" \
  env SPILLWAY_BACKLOG_GIB=10 python3 tests/integration/bounds.py \
  a_backlog_takes_the_disk_that_readme_says_and_little_memory
section "mutants" "SURVIVED|HANGS|mutants," tests/mutants/mutants.py run
if command -v clang++-14 >/dev/null; then
  section "fuzzing" "executions|ERROR" sh -c \
    "python3 tests/fuzz/fuzz.py frame batch journal --runs 10000000 &&
     python3 tests/fuzz/fuzz.py config count http --runs 1000000"
else
  echo "== fuzzing: left out, install clang-14 and libclang-rt-14-dev"
fi
echo "== what brokers took"
ctest_log=$bin/../Testing/Temporary/LastTest.log  # of the run before this one, if there was any
[[ -e $ctest_log ]] || ctest_log=/dev/null
python3 tests/integration/maxima.py "$ctest_log" "$logs"/*
exit "$failed"
