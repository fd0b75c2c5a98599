#!/usr/bin/env bash
# Every check and every test. Installs what is missing; a second run finds it all in place.
#
#   NIGHTGATE_TARGET_DIR   where CI builds (default: a fixed folder outside the clone, so that the
#                          next clone builds on it)
#   NIGHTGATE_TOOLS_DIR    where cargo-deny is kept (default: beside it)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

temp="${TMPDIR:-/tmp}"
tools="${NIGHTGATE_TOOLS_DIR:-$temp/nightgate-tools}"
venv="$temp/nightgate-venv"
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-never}"
if [[ "${CI:-}" == true ]]; then
    export CARGO_TARGET_DIR="${NIGHTGATE_TARGET_DIR:-$temp/nightgate-target}"
    export CARGO_INCREMENTAL=0
fi
export PATH="$tools/bin:$venv/bin:$PATH"

step() { printf '\n== %s (%ss)\n' "$*" "$SECONDS"; }

# faketime runs the built binary under another clock.
install_faketime() {
    command -v faketime >/dev/null && return
    local sudo=()
    [[ "$(id -u)" == 0 ]] || sudo=(sudo -n)
    "${sudo[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive \
        "${sudo[@]}" apt-get install -qq -y --no-install-recommends faketime libfaketime
}

# Schemathesis asks the built binary everything its OpenAPI page promises.
install_schemathesis() {
    [[ -x "$venv/bin/schemathesis" ]] && return
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check schemathesis
}

install_deny() {
    command -v cargo-deny >/dev/null && return
    # Its own target dir: its features would rebuild ours. Removed, since only the binary is used.
    # Its own profile links for minutes to run for less than one; ours does not.
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        CARGO_TARGET_DIR="$tools/target" cargo install --quiet --locked cargo-deny --root "$tools"
    rm -rf "$tools/target"
}

step "tools"
install_faketime
install_schemathesis
install_deny

step "format"
cargo fmt --all --check

step "lints"
cargo clippy --workspace --all-targets --locked -- -D warnings

step "licences, sources, bans"
cargo deny check bans licenses sources

step "docs"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet

# The tests come last: their closing lines are what a reader of the output looks for.
step "doc tests"
cargo test --workspace --doc --locked

step "tests"
if command -v cargo-nextest >/dev/null; then
    cargo nextest run --workspace --locked --no-fail-fast
else
    cargo test --workspace --lib --bins --tests --locked --no-fail-fast
fi
