#!/usr/bin/env bash
# Passes all tests. `./test.sh` runs every stage; `./test.sh STAGE …` only those named.
set -euo pipefail
cd "$(dirname "$0")"

# All but what goes beyond the machine, which takes long to build, and has a stage of its own.
local=(--workspace --exclude tidepost-zenoh --locked)
# The library optimised.
optimised=(--package tidepost --profile optimised --locked)

format() { cargo fmt --all --check; }
lints() { cargo clippy "${local[@]}" --all-targets --all-features -- -D warnings; }
docs() { RUSTDOCFLAGS="-D warnings" cargo doc "${local[@]}" --no-deps; }
# With debug assertions and overflow checks.
debug() { cargo test "${local[@]}"; }
# With all features, so that what chooses among the engine's protocols is built and tested. The engine takes minutes to build, so that
# lints and docs are checked as the tests are built, not with builds of their own.
network() { over_network; }
over_network() {
    RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS=-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__ RUSTDOC="$PWD/.ci/rustdoc" \
        cargo test --package tidepost-zenoh --all-features --locked "$@"
}
# Over routers of the network's engine as they are, which take two minutes to build. Where all else was slow, they are not built.
routers() {
    if [ ! -x target/zenohd/bin/zenohd ]; then
        if [ "$SECONDS" -gt 800 ]; then
            skipped="; skipped: routers, because zenohd is not built after more than 13 minutes (\`./test.sh routers\` does)"
            return
        fi
        CARGO_PROFILE_DEV_DEBUG=0 cargo install zenohd --version 1.10.2 --locked --debug --no-default-features \
            --features zenoh/transport_tcp --root target/zenohd --quiet
    fi
    over_network --test network -- routers
}
# At full speed. What does not depend on that has had its tests in the stage before.
release() { cargo test "${optimised[@]}" --lib --test faults --test patterns; }
# Every optional kernel feature taken away.
fallbacks() {
    TIDEPOST_WITHOUT=membarrier,populate,noexec-seal cargo test "${optimised[@]}" --test faults -- \
        --skip the_busy_path # pages are not there from the start without `populate`
    echo "skipped: the_busy_path, because it counts page faults, and without \`populate\` there are some"
}
# The algorithms under the model checker, in a build of their own.
models() {
    if [ -n "${ahead_pid:-}" ]; then
        wait "$ahead_pid" || true
        if [ -f target/models.status ]; then
            cat target/models.log
            return "$(cat target/models.status)"
        fi
    fi
    check_models
}
# The checker maps memory for each interleaving: two threads of one process that do so take as long as one after the other, and twice
# the processors' time. Two processes do not.
check_models() {
    local -x RUSTFLAGS="--cfg loom" RUST_TEST_THREADS=1
    local models=(cargo test --profile optimised --locked --target-dir target/loom --lib) half status=0
    "${models[@]}" --no-run || return
    "${models[@]}" sync::model > target/loom/half.log 2>&1 &
    half=$!
    "${models[@]}" model -- --skip sync::model || status=$?
    wait "$half" || status=$?
    cat target/loom/half.log
    return "$status"
}
demo() { cargo run --profile optimised --locked -- demo; }

# Most tests wait for processes of theirs most of the time. Meanwhile this, which yields to everything else, builds what later stages
# need, and checks the models. What it fails to build they build themselves, and say why.
ahead() {
    exec > target/ahead.log 2>&1
    renice -n 19 -p "$BASHPID"
    cargo test "${optimised[@]}" --lib --test faults --test patterns --no-run || true
    cargo build --profile optimised --locked || true
    local status=0
    check_models > target/models.log 2>&1 || status=$?
    echo "$status" > target/models.status
}
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * $(nproc)))}

stages=("$@")
[ ${#stages[@]} -gt 0 ] || stages=(format lints docs debug network release fallbacks models demo routers)
for stage in "${stages[@]}"; do
    start=$SECONDS
    echo "== $stage"
    if [ "$stage" = debug ] && [ $# -eq 0 ]; then
        cargo test "${local[@]}" --no-run
        rm -f target/models.status
        ahead < /dev/null &
        ahead_pid=$!
        trap 'pkill -P "$ahead_pid" || true; kill "$ahead_pid" 2> /dev/null || true' EXIT
    fi
    "$stage"
    echo "== $stage: $(awk "BEGIN { printf \"%.1f\", ($SECONDS - $start) / 60 }") min"
done
echo "== all stages passed: ${stages[*]}${skipped:-}"
