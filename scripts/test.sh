#!/usr/bin/env bash
# Every check and every test. Installs what is missing; a second run finds it all in place.
#
#   NIGHTGATE_TARGET_DIR   where CI builds (default: a fixed folder outside the clone, so that the
#                          next clone builds on it)
#   NIGHTGATE_TOOLS_DIR    where cargo-deny and Valkey are kept (default: beside it)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

temp="${TMPDIR:-/tmp}"
tools="${NIGHTGATE_TOOLS_DIR:-$temp/nightgate-tools}"
# The tests look for Schemathesis here, and for emulators of SQS and another client of it there.
venv="$temp/nightgate-venv"
aws="$temp/nightgate-aws"
mongo="$temp/nightgate-mongo"
deny_version=0.20.2
schemathesis_version=4.32.5
ministack_version=1.5.33
boto3_version=1.44.5
fauxqs_version=2.4.1
local_aws_sqs_version=2.0.2
cfn_lint_version=1.58.0
nx_27017_version=0.8.1
neosqlite_version=1.17.2
secantusdb_version=0.7.0b3
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-never}"
if [[ "${CI:-}" == true ]]; then
    export CARGO_TARGET_DIR="${NIGHTGATE_TARGET_DIR:-$temp/nightgate-target}"
    export CARGO_INCREMENTAL=0
fi
export PATH="$tools/bin:$PATH"

step() { printf '\n== %s (%ss)\n' "$*" "$SECONDS"; }

# libfaketime runs the built binary under another clock; redis-server is what a hold on Redis is tested
# on, as one, as replicas, as Sentinel and in clusters; Debian's Python comes without venv.
install_packages() {
    local missing=() sudo=()
    compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null || missing+=(libfaketime)
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    command -v npm >/dev/null || missing+=(nodejs npm)
    command -v redis-server >/dev/null || missing+=(redis-server)
    command -v redis-cli >/dev/null || missing+=(redis-tools)
    [[ ${#missing[@]} -gt 0 ]] || return 0
    [[ "$(id -u)" == 0 ]] || sudo=(sudo -n)
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends "${missing[@]}"
}

# Valkey as Debian packs it, unpacked beside the other tools and not installed: nobody wants another
# service. It is linked to what redis-tools is linked to. Releases older than Valkey have it in their
# backports, whose list is fetched into a folder of its own, from where this machine has its packages;
# /etc stays as it is.
install_valkey() {
    valkey-server --version >/dev/null 2>&1 && return
    local at from suite uri signed='' key=/usr/share/keyrings/debian-archive-keyring.gpg
    at="$(mktemp -d)"
    mkdir -p "$at/lists/partial" "$at/cache/archives/partial" "$at/root" "$tools/bin"
    # shellcheck source=/dev/null
    suite="$(. /etc/os-release && printf '%s' "$VERSION_CODENAME")"
    # shellcheck disable=SC2016
    uri="$(apt-get indextargets --no-release-info \
        --format '$(RELEASE) $(COMPONENT) $(CREATED_BY) $(REPO_URI)' |
        awk -v main="$suite main Packages" 'index($0, main) == 1 { uri = $4 } END { print uri }')"
    [[ ! -e "$key" ]] || signed="[signed-by=$key]"
    local apt=(apt-get -qq -o "Dir::Etc::SourceList=$at/sources.list" -o Dir::Etc::SourceParts=-
        -o "Dir::State::lists=$at/lists" -o "Dir::Cache=$at/cache" -o APT::Sandbox::User=root)
    for from in "$suite" "$suite-backports"; do
        echo "deb $signed $uri $from main" >"$at/sources.list"
        "${apt[@]}" update && (cd "$at" && "${apt[@]}" download valkey-tools 2>/dev/null) && break
    done
    dpkg -x "$at"/valkey-tools_*.deb "$at/root"
    # One program with several names, which does what it is called.
    cp "$at/root/usr/bin/valkey-check-rdb" "$tools/bin/valkey-server"
    rm -rf "$at"
    valkey-server --version
}

# Schemathesis asks the built binary everything its OpenAPI page promises.
install_schemathesis() {
    "$venv/bin/schemathesis" --version 2>/dev/null | grep -qF "$schemathesis_version" && return
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check \
        "schemathesis==$schemathesis_version"
}

# A folder each for Python: they want different versions of the same packages.
install_aws() {
    has_python "$aws/venv" ministack "$ministack_version" ||
        install_python "$aws/venv" "ministack==$ministack_version"
    has_python "$aws/boto" boto3 "$boto3_version" ||
        install_python "$aws/boto" "boto3==$boto3_version"
    has_python "$aws/cfn" cfn_lint "$cfn_lint_version" ||
        install_python "$aws/cfn" "cfn-lint==$cfn_lint_version"
    has_node fauxqs "$fauxqs_version" && has_node local-aws-sqs "$local_aws_sqs_version" ||
        npm install --prefix "$aws" --silent --no-audit --no-fund \
            "fauxqs@$fauxqs_version" "local-aws-sqs@$local_aws_sqs_version"
}

# Two servers that speak as MongoDB does: a real one cannot be had from any package registry.
install_mongo() {
    has_python "$mongo/venv" nx_27017 "$nx_27017_version" &&
        has_python "$mongo/venv" neosqlite "$neosqlite_version" &&
        has_python "$mongo/venv" secantusdb "$secantusdb_version" ||
        install_python "$mongo/venv" "nx-27017==$nx_27017_version" \
            "neosqlite==$neosqlite_version" "SecantusDB==$secantusdb_version"
}

has_python() {
    compgen -G "$1/lib/python3*/site-packages/$2-$3.dist-info" >/dev/null
}

install_python() {
    python3 -m venv --clear "$1"
    "$1/bin/pip" install --quiet --disable-pip-version-check "${@:2}"
}

has_node() {
    grep -qsF "\"version\": \"$2\"" "$aws/node_modules/$1/package.json"
}

install_deny() {
    command -v cargo-deny >/dev/null && return
    # Its own target dir: its features would rebuild ours. Removed, since only the binary is used.
    # Its own profile links for minutes to run for less than one; ours does not.
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        CARGO_TARGET_DIR="$tools/target" \
        cargo install --quiet --locked --version "$deny_version" --root "$tools" cargo-deny
    rm -rf "$tools/target"
}

step "tools"
install_packages
install_valkey
# The tests that want a Valkey start this one.
export NIGHTGATE_TEST_VALKEY="${NIGHTGATE_TEST_VALKEY:-$(command -v valkey-server)}"
install_schemathesis
install_aws
install_mongo
install_deny

step "format"
cargo fmt --all --check

step "lints"
cargo clippy --workspace --all-targets --features full --locked -- -D warnings

# Everything that a feature adds must be gone without it.
step "without features"
cargo check --workspace --locked

# A workspace of its own, so nothing above looks at it. Needs a C++ compiler, for libFuzzer.
step "fuzz targets"
cargo fmt --manifest-path fuzz/Cargo.toml --check
cargo check --manifest-path fuzz/Cargo.toml --all-targets --locked

step "licences, sources, bans"
cargo deny check bans licenses sources

# Fails on any finding, even one that only informs.
step "template for AWS"
"$aws/cfn/bin/cfn-lint" --non-zero-exit-code informational deploy/aws/*.yaml

step "docs"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --features full --no-deps --locked --quiet

# The tests come last: their closing lines are what a reader of the output looks for. The
# simulator's seeds are among them.
step "doc tests"
cargo test --workspace --features full --doc --locked

step "tests"
if command -v cargo-nextest >/dev/null; then
    cargo nextest run --workspace --features full --locked --no-fail-fast
else
    cargo test --workspace --features full --lib --bins --tests --locked --no-fail-fast
fi
