#!/usr/bin/env bash
# Checks the project: `./ci.sh` everything, in the order below; `./ci.sh JOB...` only those jobs.
#
#   fmt     formatting of both workspaces
#   clippy  lints, warnings are errors: the workspace at once, each package alone, the core's features
#   doc     documentation, warnings are errors
#   no_std  the core alone for targets without an operating system
#   fuzz    the fuzz targets build (skipped where there is no nightly toolchain)
#   sim     the simulator's examples, and a hundred runs drawn from seeds that the commit names
#   test    the README's test command
#
# On demand:
#
#   sim32   the simulator's scenarios built for 32 bits: they must have the histories of every other machine
#
# Needs rustup's cargo and a C compiler; fetches what else it uses. Builds under CARGO_TARGET_DIR, by default ./target.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

readonly jobs=(fmt clippy doc no_std fuzz sim test)
readonly packages=(ppspp-core ppspp-mio ppspp-sim ppspp-cli ppspp-bench)
readonly bare_targets=(thumbv7em-none-eabihf wasm32-unknown-unknown)

export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-never}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
export CARGO_INCREMENTAL="${CARGO_INCREMENTAL:-0}"

fail() {
    echo "ci.sh: $*" >&2
    exit 1
}

have_rustup() {
    command -v rustup >/dev/null
}

# Makes `cargo $1` work, from the rustup component $2.
need_component() {
    cargo "$1" --version >/dev/null 2>&1 && return
    have_rustup || fail "cargo $1 is missing and there is no rustup to add it with: install the component $2"
    rustup component add "$2"
}

need_target() {
    have_rustup || fail "there is no rustup to add the target $1 with: install rustup"
    rustup target add "$1" || fail "the target $1 cannot be added: check the network or the toolchain"
}

job_fmt() {
    need_component fmt rustfmt
    cargo fmt --all --check
    cargo fmt --manifest-path fuzz/Cargo.toml --check
}

job_clippy() {
    need_component clippy clippy
    cargo clippy --workspace --all-targets --locked -- -D warnings
    # Alone, a package does without the features that its siblings turn on in shared dependencies.
    for package in "${packages[@]}"; do
        cargo clippy --package "$package" --all-targets --locked -- -D warnings
    done
    cargo clippy --package ppspp-core --all-targets --features arbitrary --locked -- -D warnings
}

job_doc() {
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
}

job_no_std() {
    for target in "${bare_targets[@]}"; do
        need_target "$target"
        cargo build --package ppspp-core --no-default-features --target "$target" --locked
    done
}

job_fuzz() {
    if ! cargo +nightly --version >/dev/null 2>&1; then
        echo "skipped: the fuzz targets need a nightly toolchain, and none is installed"
        return
    fi
    # As cargo-fuzz does, without needing it: coverage feedback and the address sanitizer, for an explicit target, so
    # that build scripts are left out.
    local host
    host="$(cargo +nightly --version --verbose | sed -n 's/^host: //p')"
    local flags="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
    flags+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
    flags+=" -Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address -Cdebug-assertions -Ccodegen-units=1"
    RUSTFLAGS="$flags" cargo +nightly build --manifest-path fuzz/Cargo.toml --target-dir "$CARGO_TARGET_DIR/fuzz" \
        --target "$host" --release --bins --locked
}

# Tests of sockets and disks make namespaces of their own with these; elsewhere than on Linux they say that they did not.
need_namespaces() {
    [[ "$(uname -s)" == Linux && "$(id -u)" == 0 ]] || return 0
    command -v ip >/dev/null && command -v tc >/dev/null && command -v unshare >/dev/null && return 0
    command -v apt-get >/dev/null || return 0
    apt-get update -qq && apt-get install -y -qq iproute2 util-linux >/dev/null
}

job_test() {
    need_namespaces
    cargo test --workspace --locked
}

job_sim() {
    local example commit first
    for example in own_rule sweep; do
        cargo run --release --quiet --package ppspp-sim --example "$example" --locked
    done
    commit="$(git rev-parse --short=7 HEAD 2>/dev/null || echo 0)"
    first=$((16#$commit))
    cargo run --release --quiet --package ppspp-sim --locked -- fuzz --seeds "$first..$((first + 100))" --minutes 5 --jobs 2
}

# Makes `cc -m32` link.
need_cc32() {
    echo 'int main(void) { return 0; }' | cc -m32 -x c -o /dev/null - 2>/dev/null && return
    command -v apt-get >/dev/null || fail "cc -m32 does not link: install a C compiler for 32 bits"
    apt-get update -qq && apt-get install -y -qq gcc-multilib >/dev/null
}

job_sim32() {
    if [[ "$(uname -sm)" != "Linux x86_64" ]]; then
        echo "skipped: programs of 32 bits run on Linux on x86-64"
        return
    fi
    local target=i686-unknown-linux-gnu
    need_target "$target"
    need_cc32
    # tests/snapshot.txt holds the hash of every scenario's history.
    cargo test --package ppspp-sim --test scenarios --test determinism --target "$target" --locked
}

run() {
    local job="$1" begun="$SECONDS"
    echo "== $job"
    "job_$job"
    echo "== $job: done in $((SECONDS - begun)) s"
}

for job in "$@"; do
    declare -F "job_$job" >/dev/null || fail "there is no job $job: choose from ${jobs[*]} sim32"
done
if (($# == 0)); then
    set -- "${jobs[@]}"
fi
for job in "$@"; do
    run "$job"
done
