#!/bin/sh
# Runs the exactness suite on every adapter of this host, or on the one that ISOTICK_ADAPTER names by
# index or name, then the benches. Writes results/ beside this script; exits with 1 when anything
# disagreed or failed.
set -u
cd "$(dirname "$0")" || exit 2
rm -rf results
mkdir results
export NODEVICE_SELECT=1
failed=0
outcomes=""
with_criterion=yes
if [ "${1:-}" = "--no-criterion" ]; then with_criterion=no; fi

# suite NAME [VARIABLE=VALUE ...]: the tests that need nothing but this folder.
suite() {
    name=$1
    shift
    if env "$@" ./exactness-suite exactness:: faults:: live:: stored:: >"results/suite-$name.txt" 2>&1
    then outcome=passed
    else outcome=FAILED; failed=1
    fi
    if [ "$name" != cpu ]
    then env "$@" ./gpu-suite >"results/kernels-$name.txt" 2>&1 || { outcome=FAILED; failed=1; }
    fi
    passed=$(sed -n 's/^test result: .* \([0-9][0-9]*\) passed;.*/\1/p' "results/suite-$name.txt")
    # A suite that ran nothing has shown nothing.
    if [ "${passed:-0}" -eq 0 ]; then outcome=FAILED; failed=1; fi
    see=""
    if [ "$outcome" = FAILED ]; then see=", see results/suite-$name.txt"; fi
    if [ -n "$see" ] && [ "$name" != cpu ]; then see="$see and results/kernels-$name.txt"; fi
    echo "exactness suite, $name: $outcome (${passed:-0} tests)$see"
    outcomes="$outcomes${outcomes:+,}{\"adapter\":\"$name\",\"outcome\":\"$outcome\",\"passed\":${passed:-0}}"
}

# measure NAME ARGUMENTS...: a bench, its table and its figures.
measure() {
    name=$1
    shift
    if ./isotick bench "$@" --json "results/bench-$name.json" >"results/bench-$name.txt" 2>&1
    then echo "bench, $name: results/bench-$name.txt"
    else echo "bench, $name: FAILED, see results/bench-$name.txt"; failed=1
    fi
}

# criterion NAME: the criterion benches.
criterion() {
    if [ "$with_criterion" = no ]; then return; fi
    if CRITERION_HOME="results/criterion-$1" ./criterion-kernels --bench >"results/criterion-$1.txt" 2>&1
    then echo "criterion, $1: results/criterion-$1.txt"
    else echo "criterion, $1: FAILED, see results/criterion-$1.txt"; failed=1
    fi
}

./isotick devices >results/devices.txt || failed=1
./isotick devices --json >results/devices.json || failed=1
cat results/devices.txt
adapters=$(awk -v wanted="${ISOTICK_ADAPTER:-}" '
    /^adapter [0-9]+:/ {
        index_ = $2
        sub(":", "", index_)
        name = $0
        sub(/^adapter [0-9]+: /, "", name)
        is_number = wanted ~ /^[0-9]+$/
        is_wanted = is_number ? wanted == index_ : index(tolower(name), tolower(wanted))
    }
    $1 == "used" && $2 !~ /^never/ && is_wanted { print index_ }' results/devices.txt)

if [ -z "$adapters" ] && [ -n "${ISOTICK_ADAPTER:-}" ]; then
    echo "ISOTICK_ADAPTER=$ISOTICK_ADAPTER names none of these adapters that can be used" >&2
    failed=1
elif [ -z "$adapters" ]; then
    echo "no GPU adapter: the suite runs on the CPU engine alone"
    suite cpu
    measure cpu all --engine cpu
    criterion cpu
else
    for adapter in $adapters; do
        suite "adapter-$adapter" "ISOTICK_ADAPTER=$adapter" ISOTICK_REQUIRE_GPU=1
    done
    for adapter in $adapters; do
        ISOTICK_ADAPTER=$adapter
        export ISOTICK_ADAPTER
        # Software adapters are for correctness: small sizes will do.
        if grep -q "^adapter $adapter: .*, software)\$" results/devices.txt
        then measure "adapter-$adapter" all --engine gpu --quick
        else measure "adapter-$adapter" all --engine gpu
        fi
        criterion "adapter-$adapter"
        unset ISOTICK_ADAPTER
    done
fi

cat >results/summary.json <<JSON
{"date":"$(date -u +%Y-%m-%dT%H:%M:%SZ)","machine":"$(uname -srm)","isotick":"$(./isotick --version)",
 "suites":[$outcomes],"failed":$failed}
JSON
exit $failed
