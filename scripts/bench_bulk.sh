#!/usr/bin/env bash
# How fast the release binary takes messages in by the stream, and what it costs; beside it, in the
# same run and on the same disk, what nothing could be faster than.
#
#   scripts/bench_bulk.sh [LINES]      1,000,000 unless told otherwise
#
#   BENCH_DIR       where data is written (default: a new folder under TMPDIR)
#   NIGHTGATE_BIN   the binary (default: built by cargo build --release)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

lines="${1:-1000000}"
if [[ -z "${NIGHTGATE_BIN:-}" ]]; then
    cargo build --release --quiet --locked --package nightgate
    NIGHTGATE_BIN="${CARGO_TARGET_DIR:-target}/release/nightgate"
fi
dir="$(mktemp -d "${BENCH_DIR:-${TMPDIR:-/tmp}}/nightgate-bench.XXXXXX")"
pid=
end() {
    [[ -z "$pid" ]] || kill -KILL "$pid" 2>/dev/null || true
    rm -rf "$dir"
}
trap end EXIT

seconds() { date +%s.%N; }
since() { awk -v from="$1" -v to="$(seconds)" 'BEGIN { printf "%.2f", to - from }'; }
# what, how long it took
rate() {
    awk -v what="$1" -v took="$2" -v lines="$lines" \
        'BEGIN { printf "%-42s %8.2f s %10d lines/s\n", what, took, lines / (took + 1e-9) }'
}

# Ids and recipients come in no order, as they do from producers. Held: nothing leaves meanwhile.
python3 - "$lines" >"$dir/lines.ndjson" <<'PYTHON'
import json, random, sys
count = int(sys.argv[1])
pick = random.Random(8)
body = "Your parcel has left our house and will be with you tomorrow. " * 3
for _ in range(count):
    print(json.dumps({
        "id": f"{pick.getrandbits(96):024x}", "recipient": f"+8210{pick.randrange(10**8):08d}",
        "channel": "sms", "purpose": "informational", "campaign": f"c-{pick.randrange(20)}",
        "send_at": "2040-01-01T08:00:00+09:00", "body": body,
    }))
PYTHON
printf '%s lines, %s bytes, %s processors\n' \
    "$lines" "$(stat -c %s "$dir/lines.ndjson")" "$(nproc)"

from="$(seconds)"
wc -l <"$dir/lines.ndjson" >"$dir/count"
rate "limit: count the lines" "$(since "$from")"
from="$(seconds)"
dd if="$dir/lines.ndjson" of="$dir/probe" bs=512K oflag=dsync status=none
rate "limit: write them, synced every 512 KiB" "$(since "$from")"
rm "$dir/probe"

printf '[data]\ndir = "%s/data"\n' "$dir" >"$dir/nightgate.toml"
"$NIGHTGATE_BIN" serve --config "$dir/nightgate.toml" --listen 127.0.0.1:0 2>"$dir/log" >/dev/null &
pid=$!
address=
for _ in $(seq 100); do
    address="$(sed -n 's/.*nightgate serves.*address=\([0-9.:]*\).*/\1/p' "$dir/log")"
    [[ -n "$address" ]] && break
    sleep 0.1
done
[[ -n "$address" ]] || { cat "$dir/log" >&2; exit 1; }

from="$(seconds)"
curl --silent --show-error --fail --noproxy '*' --request POST --upload-file "$dir/lines.ndjson" \
    --header 'content-type: application/x-ndjson' --header 'expect:' \
    "http://$address/v1/messages/bulk?answers=problems" >"$dir/answers"
took="$(since "$from")"
rate "nightgate: decided, held, receipted" "$took"
tail -n 1 "$dir/answers"
ticks="$(getconf CLK_TCK)"
# Fields 14 and 15, counted behind the name in parentheses.
awk -v ticks="$ticks" '{ sub(/.*\) /, ""); printf "CPU: user %.2f s, system %.2f s\n", $12 / ticks, $13 / ticks }' \
    "/proc/$pid/stat"
awk '/^VmHWM/ { printf "peak memory: %.1f MiB\n", $2 / 1024 }' "/proc/$pid/status"
du -sh "$dir/data" | awk '{ print "data: " $1 }'
grep -q "\"held\":$lines," "$dir/answers" || { echo "not all lines were held" >&2; exit 1; }
