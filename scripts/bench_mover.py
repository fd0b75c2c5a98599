#!/usr/bin/env python3
"""Moving messages from a wait queue to the senders' queue: the original note's way beside ours.

    scripts/bench_mover.py [--messages 10000 100000] [--note-max 5000] [--json] [--stub] [--set KEY=VALUE ...]

Every row runs against the same emulator (fauxqs) in the same run. The note's way is written anew
after what it does: a client for every message, one send for each, no waiting receive, a delete for
ten. Its second row keeps one client. Ours is `nightgate drain` on messages that a gateway put into
its own queues. Beyond --note-max messages the note's way is measured on so many.

With --stub the same rows once more beside a server that answers every request at once
(scripts/sqs_stub.mjs): what they cost is the mover's own. --only-stub for these rows alone.

Requests are counted by the emulator. CPU is that of the mover's own process. `until moved` ends
with the last message settled, `until exit` with the process.

Needs what scripts/test.sh installs for the tests of SQS. NIGHTGATE_BIN is the binary (default:
cargo builds it).
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = Path(tempfile.gettempdir()) / "nightgate-aws"
PYTHON = TOOLS / "boto/bin/python3"
REGION = "ap-northeast-2"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
PREFIX, TARGET = "bench", "bench-target"
PATIENCE_S = 600
BODY = "{} 고객님, 주문하신 상품이 내일 오전에 도착합니다. 문 앞에 두고 갈까요? 답장으로 알려 주세요."


class Emulator:
    """fauxqs, or the stub that answers at once, on a free port, ended with this process."""

    def __init__(self, stub: bool = False):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        script = [ROOT / "crates/gateway/tests/aws/run/fauxqs.mjs", TOOLS]
        if stub:
            script = [ROOT / "scripts/sqs_stub.mjs"]
        self.process = subprocess.Popen(
            ["node", *script, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = f"http://127.0.0.1:{port}"
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.1)
        sys.exit("the emulator does not answer")

    def counts(self) -> dict:
        """Requests since the last call."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def connect(url: str):
    import boto3

    return boto3.client(
        "sqs",
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def note_way(url: str, shared: bool, source: str, target: str):
    """What the note's mover does, until a receive is empty. Runs in a process of its own."""
    kept = connect(url)
    client = (lambda: kept) if shared else (lambda: connect(url))
    moved = 0
    reader = client()
    while True:
        batch = reader.receive_message(
            QueueUrl=source, MaxNumberOfMessages=10, AttributeNames=["All"]
        ).get("Messages", [])
        if not batch:
            break
        for one in batch:
            encoded_again = json.dumps(one["Body"])
            client().send_message(QueueUrl=target, MessageBody=encoded_again)
            moved += 1
        done = [{"Id": one["MessageId"], "ReceiptHandle": one["ReceiptHandle"]} for one in batch]
        answer = reader.delete_message_batch(QueueUrl=source, Entries=done)
        if len(answer.get("Successful", [])) < len(done):
            raise RuntimeError("not all were deleted")
    print(json.dumps({"moved": moved}))


def measured(command: list, env: dict, follow) -> dict:
    """Runs a command; how long it took, its CPU, and when `follow` last saw a message moved."""
    began, last, moved = time.perf_counter(), 0.0, 0
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=env, text=True)
    for line in process.stdout:
        count = follow(json.loads(line))
        if count:
            moved, last = moved + count, time.perf_counter() - began
    _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - began
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"{command[:3]} failed: {status}")
    return {"moved": moved, "s": last, "exit_s": took, "cpu_s": usage.ru_utime + usage.ru_stime}


def run_note(world, shared: bool, count: int) -> dict:
    source = world.client.create_queue(QueueName=f"wait-{time.monotonic_ns()}")["QueueUrl"]
    for start in range(0, count, 10):
        entries = [
            {"Id": str(n), "MessageBody": BODY.format(n)}
            for n in range(start, min(start + 10, count))
        ]
        world.client.send_message_batch(QueueUrl=source, Entries=entries)
    world.emulator.counts()
    way = ["--way", "shared" if shared else "note", world.emulator.url, source, world.target]
    command = [sys.executable, __file__, *way]
    return beside(world, lambda: measured(command, dict(os.environ), lambda line: line["moved"]))


def beside(world, run) -> dict:
    """What a run took, and what the emulator spent meanwhile."""
    before = world.emulator.cpu_s()
    row = run()
    return {**row, "emulator_cpu_s": world.emulator.cpu_s() - before}


class World:
    """The emulator, the queues, and the binary with its settings."""

    def __init__(self, binary: str, settings: list, stub: bool = False):
        self.emulator = Emulator(stub)
        self.client = connect(self.emulator.url)
        for kind in ["ready", "wait", "buried"]:
            self.client.create_queue(
                QueueName=f"{PREFIX}-main-{kind}", Attributes={"MessageRetentionPeriod": "1209600"}
            )
        self.target = self.client.create_queue(QueueName=TARGET)["QueueUrl"]
        self.folder = tempfile.TemporaryDirectory(prefix="nightgate-mover-")
        self.binary, self.settings = binary, settings
        config = Path(self.folder.name) / "nightgate.toml"
        config.write_text(
            f'[aws]\nregion = "{REGION}"\nendpoint = "{self.emulator.url}"\n'
            f'[data]\ndir = "{self.folder.name}/data"\n'
            f'[hold]\nstore = "sqs"\n[hold.sqs]\nprefix = "{PREFIX}"\n'
            f'[receipts]\nstore = "lines"\n'
            f'[lane.main]\nsink = "sqs"\n[lane.main.sqs]\nqueue = "{TARGET}"\n'
            f'[log]\nlevel = "warn"\n'
        )
        self.config = str(config)
        self.env = {**os.environ, **KEYS}

    def command(self, *arguments) -> list:
        settings = [part for one in self.settings for part in ("--set", one)]
        return [self.binary, *arguments, "--config", self.config, *settings]

    def run(self, *arguments):
        subprocess.run(self.command(*arguments), env=self.env, check=True, capture_output=True)

    def seed(self, count: int):
        """A gateway whose lane is paused takes messages in that may leave at once."""
        self.run("lanes", "pause", "main")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        serving = subprocess.Popen(
            self.command("serve", "--listen", address),
            env=self.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self.post(address, count)
        finally:
            serving.send_signal(signal.SIGTERM)
            serving.wait()
        self.run("lanes", "resume", "main")

    def post(self, address: str, count: int):
        began = time.perf_counter()
        tag = time.monotonic_ns()
        for start in range(0, count, 5000):
            lines = [
                json.dumps(
                    {
                        "id": f"{tag}-{n}",
                        "recipient": f"010-{1000 + n // 10000:04d}-{n % 10000:04d}",
                        "channel": "sms",
                        "purpose": "informational",
                        "body": BODY.format(n),
                    }
                )
                for n in range(start, min(start + 5000, count))
            ]
            request = urllib.request.Request(
                f"http://{address}/v1/messages/bulk",
                data="\n".join(lines).encode() + b"\n",
                headers={"content-type": "application/x-ndjson"},
            )
            while True:
                try:
                    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                        answer.read()
                    break
                except urllib.error.URLError as error:
                    if not isinstance(error.reason, ConnectionRefusedError):
                        raise
                    if time.perf_counter() - began > PATIENCE_S:
                        sys.exit("the gateway does not answer")
                    time.sleep(0.1)


def run_ours(world, count: int) -> dict:
    world.seed(count)
    world.emulator.counts()
    # Receipts are lines on standard output as well: those of a tick alone count.
    command = world.command("drain", "--json")
    return beside(world, lambda: measured(command, world.env, Ticks().follow))


class Ticks:
    """Lines of `drain --json`: each tick that moved something, and then their sum."""

    def __init__(self):
        self.seen = 0

    def follow(self, line: dict) -> int:
        new = line.get("delivered", 0) if "remaining" in line else 0
        if new and new == self.seen:
            return 0
        self.seen += new
        return new


def build() -> str:
    cargo = ["cargo", "build", "--profile", "quick", "--features", "full", "--package", "nightgate"]
    subprocess.run(cargo, cwd=ROOT, check=True)
    return str(Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "quick/nightgate")


def finish(row: dict, name: str, asked: int, counts: dict) -> dict:
    connections = counts.pop("connections")
    requests = sum(counts.values())
    moved = row["moved"]
    return {
        "what": name,
        "messages": asked,
        "moved": moved,
        "per_second": moved / row["s"],
        "per_second_to_exit": moved / row["exit_s"],
        "requests_per_message": requests / moved,
        "connections": connections,
        "cpu_s_per_million": row["cpu_s"] / moved * 1e6,
        "emulator_cpu_s_per_million": row["emulator_cpu_s"] / moved * 1e6,
        "requests": counts,
    }


def show(rows: list):
    print("| | messages | a second, until moved | until exit | requests each | connections | "
          "CPU s a million | of the emulator |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        part = "" if row["moved"] == row["messages"] else f" (measured on {row['moved']:,})"
        print(
            f"| {row['what']} | {row['messages']:,}{part} | {row['per_second']:,.0f} | "
            f"{row['per_second_to_exit']:,.0f} | {row['requests_per_message']:.3f} | "
            f"{row['connections']} | {row['cpu_s_per_million']:,.0f} | "
            f"{row['emulator_cpu_s_per_million']:,.0f} |"
        )


def main():
    if sys.argv[1:2] == ["--way"]:
        way, url, source, target = sys.argv[2:]
        return note_way(url, way == "shared", source, target)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--note-max", type=int, default=5_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only-ours", action="store_true")
    parser.add_argument("--stub", action="store_true", help="also beside a server that answers at once")
    parser.add_argument("--only-stub", action="store_true")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    asked = parser.parse_args()
    binary = os.environ.get("NIGHTGATE_BIN") or build()
    servers = [False] * (not asked.only_stub) + [True] * (asked.stub or asked.only_stub)
    rows = [row for stub in servers for row in compare(asked, binary, stub)]
    print(json.dumps(rows, indent=2)) if asked.json else show(rows)


def compare(asked, binary: str, stub: bool) -> list:
    """The ways beside each other on fauxqs, or beside the stub, which costs them no waiting."""
    world = World(binary, asked.settings, stub)
    rows = []
    try:
        for count in asked.messages:
            part = count if count <= 10_000 else min(count, asked.note_max)
            ways = {
                "the note's way": lambda: run_note(world, False, part),
                "the same with one client": lambda: run_note(world, True, part),
                "`nightgate drain`": lambda: run_ours(world, count),
            }
            for name, way in ways.items():
                if asked.only_ours and not name.startswith("`"):
                    continue
                row = way()
                name += ", stub" if stub else ""
                rows.append(finish(row, name, count, world.emulator.counts()))
                if not asked.json:
                    print(json.dumps(rows[-1]), file=sys.stderr)
    finally:
        world.emulator.end()
    return rows


if __name__ == "__main__":
    if Path(sys.executable) != PYTHON and PYTHON.exists():
        os.execv(PYTHON, [str(PYTHON), *sys.argv])
    main()
