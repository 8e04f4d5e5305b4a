#!/usr/bin/env bash
# Passes all tests. `./test.sh` runs every stage; `./test.sh STAGE …` only those named.
set -euo pipefail
cd "$(dirname "$0")"

format() { cargo fmt --all --check; }
lints() { cargo clippy --workspace --all-targets --all-features --locked -- -D warnings; }
docs() { RUSTDOCFLAGS="-D warnings" cargo doc --workspace --all-features --no-deps --locked; }
# With debug assertions and overflow checks.
debug() { cargo test --workspace --exclude tidepost-zenoh --locked; }
# What goes beyond the machine: it takes long to build, and is a package of its own.
network() { cargo test --package tidepost-zenoh --locked; }
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

# Most tests wait for processes of theirs most of the time.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * $(nproc)))}

stages=("$@")
[ ${#stages[@]} -gt 0 ] || stages=(format lints docs debug network release fallbacks models demo)
for stage in "${stages[@]}"; do
    start=$SECONDS
    echo "== $stage"
    "$stage"
    echo "== $stage: $(awk "BEGIN { printf \"%.1f\", ($SECONDS - $start) / 60 }") min"
done
echo "== all stages passed: ${stages[*]}"
