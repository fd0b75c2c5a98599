#!/usr/bin/env bash
# How fast the release binary takes messages in by the stream, and what it costs; beside it, in the
# same run and on the same disk, what nothing could be faster than.
#
#   scripts/bench_bulk.sh [LINES]      1,000,000 unless told otherwise
#
# Advertising to recipients who agreed, due tomorrow: each line is parsed, its consent looked up, its
# opening found, held and receipted.
#
#   CONSENTS        recipients in the consent book (default: 1,000,000)
#   BENCH_DIR       where data is written (default: a new folder under TMPDIR)
#   NIGHTGATE_BIN   the binary (default: built by cargo build --release)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

lines="${1:-1000000}"
consents="${CONSENTS:-1000000}"
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
tomorrow="$(date -u -d '+20 hours' +%FT%TZ)"
agreed="$(date -u -d '-30 days' +%FT%TZ)"
{
    echo recipient,scope,at
    seq -f "+8210%08.0f,general,$agreed" 0 "$((consents - 1))"
} >"$dir/consents.csv"
cat >"$dir/lines.py" <<'PYTHON'
import json, random, sys
count, consents = int(sys.argv[1]), int(sys.argv[2])
pick = random.Random(int(sys.argv[4]))
body = "Your parcel has left our house and will be with you tomorrow. " * 3
for _ in range(count):
    print(json.dumps({
        "id": f"{pick.getrandbits(96):024x}", "recipient": f"+8210{pick.randrange(consents):08d}",
        "channel": "sms", "purpose": "advertising", "campaign": f"c-{pick.randrange(20)}",
        "send_at": sys.argv[3], "body": body,
    }))
PYTHON
python3 "$dir/lines.py" "$lines" "$consents" "$tomorrow" 8 >"$dir/lines.ndjson"
python3 "$dir/lines.py" "$lines" "$consents" "$tomorrow" 9 >"$dir/more.ndjson"
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
from="$(seconds)"
"$NIGHTGATE_BIN" consent import "$dir/consents.csv" --config "$dir/nightgate.toml" >"$dir/imported" 2>&1
awk -v took="$(since "$from")" -v all="$consents" \
    'BEGIN { printf "%-42s %8.2f s %10d consents/s\n", "consents imported before", took, all / took }'
"$NIGHTGATE_BIN" serve --config "$dir/nightgate.toml" --listen 127.0.0.1:0 2>"$dir/log" >/dev/null &
pid=$!
address=
for _ in $(seq 100); do
    address="$(sed -n 's/.*nightgate serves.*address=\([0-9.:]*\).*/\1/p' "$dir/log")"
    [[ -n "$address" ]] && break
    sleep 0.1
done
[[ -n "$address" ]] || { cat "$dir/log" >&2; exit 1; }

# what, file
send() {
    local from took
    # What was written before must not share the disk with what is measured.
    sync
    from="$(seconds)"
    curl --silent --show-error --fail --noproxy '*' --request POST --upload-file "$2" \
        --header 'content-type: application/x-ndjson' --header 'expect:' \
        "http://$address/v1/messages/bulk?answers=problems" >"$dir/answers"
    took="$(since "$from")"
    rate "$1" "$took"
    tail -n 1 "$dir/answers"
    grep -q "\"held\":$lines," "$dir/answers" || { echo "not all lines were held" >&2; exit 1; }
}
send "nightgate, just started" "$dir/lines.ndjson"
send "nightgate: decided, held, receipted" "$dir/more.ndjson"
ticks="$(getconf CLK_TCK)"
# Fields 14 and 15, counted behind the name in parentheses.
awk -v ticks="$ticks" '{ sub(/.*\) /, ""); printf "CPU of both: user %.2f s, system %.2f s\n", $12 / ticks, $13 / ticks }' \
    "/proc/$pid/stat"
awk '/^VmHWM/ { printf "peak memory: %.1f MiB\n", $2 / 1024 }' "/proc/$pid/status"
du -sh "$dir/data" | awk '{ print "data: " $1 }'
