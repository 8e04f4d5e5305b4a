#!/usr/bin/env bash
# Passes all tests. `./test.sh` runs every stage; `./test.sh STAGE …` only those named.
set -euo pipefail
cd "$(dirname "$0")"

format() { cargo fmt --all --check; }
# All but what goes beyond the machine, which takes long to build, and has a stage of its own.
local=(--workspace --exclude tidepost-zenoh --locked)
lints() { cargo clippy "${local[@]}" --all-targets --all-features -- -D warnings; }
docs() { RUSTDOCFLAGS="-D warnings" cargo doc "${local[@]}" --no-deps; }
# With debug assertions and overflow checks.
debug() { cargo test "${local[@]}"; }
network() {
    cargo clippy --package tidepost-zenoh --locked --all-targets --all-features -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --package tidepost-zenoh --locked --all-features --no-deps
    cargo test --package tidepost-zenoh --locked
}
# The library as its users build it, with the fault tests at full speed. The tool has had its tests in the stage before.
release() { cargo test --package tidepost --profile optimised --locked; }
# Every optional kernel feature taken away.
fallbacks() {
    TIDEPOST_WITHOUT=membarrier,populate,noexec-seal cargo test --package tidepost --profile optimised --locked --test faults -- \
        --skip the_busy_path # pages are not there from the start without `populate`
    echo "skipped: the_busy_path, because it counts page faults, and without \`populate\` there are some"
}
# The algorithms under the model checker, in a build of their own.
models() { RUSTFLAGS="--cfg loom" cargo test --release --locked --target-dir target/loom --lib model; }
demo() { cargo run --release --locked -- demo; }

# Builds what later stages need while the tests of earlier ones mostly wait. What it lacks they build themselves, and say why.
ahead() {
    exec > target/ahead.log 2>&1
    renice -n 10 -p "$BASHPID"
    cargo test --package tidepost --profile optimised --locked --no-run
    RUSTFLAGS="--cfg loom" cargo test --release --locked --target-dir target/loom --lib --no-run
    cargo build --release --locked
}

# Most tests wait for processes of theirs most of the time.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * $(nproc)))}

stages=("$@")
[ ${#stages[@]} -gt 0 ] || stages=(format lints docs debug network release fallbacks models demo)
for stage in "${stages[@]}"; do
    start=$SECONDS
    echo "== $stage"
    if [ "$stage" = debug ] && [ $# -eq 0 ]; then
        cargo test "${local[@]}" --no-run
        mkdir -p target
        (ahead) < /dev/null &
        ahead_pid=$!
        trap 'pkill -P "$ahead_pid" || true; kill "$ahead_pid" 2> /dev/null || true' EXIT
    fi
    "$stage"
    echo "== $stage: $(awk "BEGIN { printf \"%.1f\", ($SECONDS - $start) / 60 }") min"
done
echo "== all stages passed: ${stages[*]}"
