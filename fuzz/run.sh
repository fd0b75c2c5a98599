#!/usr/bin/env bash
# Fuzzes one target for so many seconds, with coverage and without a nightly compiler:
#
#   fuzz/run.sh TARGET [SECONDS] [libFuzzer flags]
#
# The flags are those cargo-fuzz sets for `--sanitizer none`; with a nightly, `cargo fuzz run TARGET`
# adds the address sanitizer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
target="$1" seconds="${2:-60}"
shift $(($# < 2 ? $# : 2))
host="$(rustc -vV | sed -n 's/^host: //p')"
[[ -d "corpus/$target" ]] || cargo run --locked --quiet --example seeds
coverage="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
coverage+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
coverage+=" -Cllvm-args=-sanitizer-coverage-pc-table"
coverage+=" -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
# With a target named, build scripts and macros are built without them.
RUSTFLAGS="$coverage" cargo build --locked --release --target "$host" --bin "$target"
mkdir -p "artifacts/$target"
exec "${CARGO_TARGET_DIR:-target}/$host/release/$target" -max_total_time="$seconds" \
    -rss_limit_mb=512 -timeout=10 -artifact_prefix="artifacts/$target/" "$@" "corpus/$target"
