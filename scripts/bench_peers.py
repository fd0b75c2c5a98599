#!/usr/bin/env python3
"""The shelf store beside the strongest peers: the same work, in turns, on the same disk.

    scripts/bench_peers.py [--messages 1000000] [--rounds 5] [--peers FOLDER] [--out FILE]

Each round runs everybody once, in an order that turns by one from round to round, and probes the
disk before each. The store runs in the bench's process; the peers are servers behind a socket with
Python clients, so their rows carry a road that ours does not (docs/PERFORMANCE.md has our whole
road). Printed: the median of each figure with its least and most, and ratios of medians.

FOLDER has the programs that drive the peers, one a peer (default: ../shared/peers beside this
repository). They need redis-server, beanstalkd and PostgreSQL 15 from Debian, and a Python with
`redis hiredis psycopg[binary]`, named by PEERS_PYTHON (default: this one). BENCH_DIR says which
disk (default: the temporary folder). NIGHT is the built bench (default: cargo builds it).
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What each peer is asked: the fastest variant that keeps what it acknowledged, and Redis that may
# lose a second of it.
PEERS = {
    "postgresql copy + skip locked": ["peer_pgskip.py", "--lead", "22"],
    "redis, fsync always": ["peer_redis.py", "--lead", "20", "--variant", "always-lease"],
    "redis, fsync every second": ["peer_redis.py", "--lead", "20", "--variant", "everysec-lease"],
    "beanstalkd": ["peer_beanstalkd.py", "--lead", "50"],
}
CLIENTS = ["--clients", "2", "--workers", "2"]
OURS = "nightgate shelf store"
PATIENCE_S = 900
FIGURES = {
    "hold_rate": "held a second",
    "release_rate": "released a second",
    "hold_cpu": "CPU s a million, hold",
    "release_cpu": "CPU s a million, release",
    "cpu": "CPU s a million, both",
    "written": "bytes written for each of payload",
    "disk": "bytes of disk a message",
    "memory": "MB of memory, held",
    "open_s": "s to open after kill -9",
    "first_ms": "ms to the first message",
    "sync_us": "us of one 4 KiB sync before",
    "write_mb": "MB/s written and synced before",
}


def probe(folder: Path) -> dict:
    """What the disk does just now: it changes by the minute on shared machines."""
    sync, wrote = [], 0
    block, large = os.urandom(4096), os.urandom(512 * 1024)
    path = folder / "probe"
    with open(path, "wb", buffering=0) as file:
        for _ in range(500):
            began = time.perf_counter()
            file.write(block)
            os.fdatasync(file.fileno())
            sync.append(time.perf_counter() - began)
        began = time.perf_counter()
        for _ in range(256):
            file.write(large)
            os.fdatasync(file.fileno())
            wrote += len(large)
        took = time.perf_counter() - began
    path.unlink()
    return {"sync_us": statistics.median(sync) * 1e6, "write_mb": wrote / took / 1e6}


def ours(night: str, messages: int, env: dict) -> dict:
    """One night of the store: hold, SIGKILL, open, release."""
    said = run([night, "all", str(messages), "peers"], env)
    hold, release = (json.loads(line) for line in said.splitlines() if line.startswith("{"))
    if release["lost"] or release["twice"]:
        sys.exit(f"lost or doubled: {release}")
    return {
        "hold_rate": hold["rate"],
        "release_rate": release["rate"],
        "hold_cpu": hold["cpu_per_million"],
        "release_cpu": release["cpu_per_million"],
        "cpu": hold["cpu_per_million"] + release["cpu_per_million"],
        "written": hold["write_amplification"],
        "disk": hold["disk_bytes_each"],
        "memory": max(hold["anon_mb"], release["anon_mb"]),
        "open_s": release["open_s"],
        "first_ms": release["first_ms"],
    }


def peer(program: list, messages: int, folder: Path, env: dict) -> dict:
    """The same of a peer, server and clients together."""
    python = os.environ.get("PEERS_PYTHON", sys.executable)
    asked = [python, str(folder / program[0]), "--n", str(messages), *CLIENTS, *program[1:]]
    said = [line for line in run(asked, env).splitlines() if line.startswith("{")]
    told = json.loads(said[-1])
    if told["lost"] or told["dups"]:
        print(f"  {program}: {told['lost']} lost, {told['dups']} twice", file=sys.stderr)
    hold = told["hold_server_cpu_per_M"] + told["hold_client_cpu_per_M"]
    return {
        "hold_rate": told["hold_rate"],
        "release_rate": told["release_rate"],
        "hold_cpu": hold,
        "release_cpu": told["rel_cpu_per_M"],
        "cpu": hold + told["rel_cpu_per_M"],
        "disk": told["disk_b_per_msg"],
        "memory": told["idle_pss_mb"],
        "open_s": told["crash_restart_s"],
        "first_ms": told["first_s"] * 1e3,
    }


def run(command: list, env: dict) -> str:
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=True
        )
    except subprocess.CalledProcessError as failed:
        sys.exit(f"{' '.join(command)} failed:\n{failed.stdout}{failed.stderr}")
    return done.stdout


def built() -> str:
    """The bench, built as it is released."""
    command = ["cargo", "bench", "--locked", "--package", "nightgate", "--bench", "night"]
    told = subprocess.run(
        [*command, "--no-run", "--message-format=json"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
    )
    made = (json.loads(line) for line in told.stdout.splitlines())
    found = [one["executable"] for one in made if one.get("executable")]
    return found[-1]


def middle(rows: list, figure: str) -> str:
    values = [row[figure] for row in rows if figure in row]
    if not values:
        return "-"
    return f"{statistics.median(values):,.4g} ({min(values):,.4g} - {max(values):,.4g})"


def tell(all_rows: dict) -> None:
    for figure, means in FIGURES.items():
        print(f"\n{means}")
        own = [row[figure] for row in all_rows[OURS] if figure in row]
        for name, rows in all_rows.items():
            values = [row[figure] for row in rows if figure in row]
            ratio = ""
            if name != OURS and own and values and statistics.median(values):
                ratio = f"   ours / theirs {statistics.median(own) / statistics.median(values):.2f}"
            print(f"  {name:<32} {middle(rows, figure)}{ratio}")


def main() -> None:
    words = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument("--messages", type=int, default=1_000_000)
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--peers", type=Path, default=ROOT.parent / "shared" / "peers")
    words.add_argument("--out", type=Path, help="every figure of every round, as JSON lines")
    asked = words.parse_args()
    if not (asked.peers / "common.py").exists():
        sys.exit(f"{asked.peers} has no peers: name their folder with --peers")
    night = os.environ.get("NIGHT") or built()
    folder = Path(tempfile.mkdtemp(prefix="nightgate-bench.", dir=os.environ.get("BENCH_DIR")))
    env = {**os.environ, "BENCH_DIR": str(folder), "PEERS_ROOT": str(folder / "peers")}
    (folder / "peers").mkdir()
    # PostgreSQL runs as a user of its own.
    folder.chmod(0o755)
    everybody = {OURS: lambda: ours(night, asked.messages, env)}
    for name, program in PEERS.items():
        everybody[name] = lambda program=program: peer(program, asked.messages, asked.peers, env)
    all_rows = {name: [] for name in everybody}
    names = list(everybody)
    try:
        for number in range(asked.rounds):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                row = {**probe(folder), **everybody[name]()}
                all_rows[name].append(row)
                print(f"round {number + 1}, {name}: {row}", file=sys.stderr, flush=True)
                if asked.out:
                    with open(asked.out, "a") as file:
                        print(json.dumps({"round": number + 1, "who": name, **row}), file=file)
        tell(all_rows)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
