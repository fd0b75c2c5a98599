"""What `bench_gateways.py` and `prove_gateways.py` stand on: servers of Redis, gateways, a producer and
a receiving end, all on free loopback ports, all ended with this process.

Needs `redis-server` and `redis-cli` on the path.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import Process
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 120
TICK = os.sysconf("SC_CLK_TCK")


def free_port(low: bool = False) -> int:
    """A port nobody has; `low`: also the one 10,000 above it, for a cluster's bus."""
    while True:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        if not low:
            return port
        port = 20_000 + port % 12_000
        try:
            for each in (port, port + 10_000):
                with socket.socket() as one:
                    one.bind(("127.0.0.1", each))
            return port
        except OSError:
            continue


def wait(name: str, done, every: float = 0.05, patience_s: float = PATIENCE_S):
    """What `done` says, as soon as it says something."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        said = done()
        if said:
            return said
        time.sleep(every)
    raise TimeoutError(f"never came true: {name}")


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


class Server:
    """One `redis-server`, or a Sentinel, in a folder of its own."""

    def __init__(self, *options: str, clustered: bool = False, sentinel: str = ""):
        self.folder = tempfile.TemporaryDirectory(prefix="nightgate-redis-")
        self.port = free_port(low=clustered)
        self.name = f"127.0.0.1:{self.port}"
        command = ["redis-server"]
        if sentinel:
            Path(self.folder.name, "sentinel.conf").write_text(sentinel)
            command += ["sentinel.conf", "--sentinel"]
        else:
            command += ["--save", "", "--appendonly", "yes", "--maxmemory-policy", "noeviction"]
        command += ["--bind", "127.0.0.1", "--port", str(self.port), "--logfile", "log", *options]
        if clustered:
            command += ["--cluster-enabled", "yes", "--cluster-node-timeout", "3000"]
        self.command = command
        self.start()

    def start(self):
        """Starts it, also again on the files it left."""
        null = subprocess.DEVNULL
        self.process = subprocess.Popen(
            self.command, cwd=self.folder.name, stdout=null, stderr=null
        )
        wait("redis-server answers", lambda: "PONG" in self.ask("PING"))

    def ask(self, *words: str) -> str:
        command = ["redis-cli", "-p", str(self.port), *words]
        return subprocess.run(command, capture_output=True, text=True).stdout

    def told(self, section: str, key: str) -> str:
        lines = self.ask("INFO", section).splitlines()
        return next((line.split(":", 1)[1] for line in lines if line.startswith(key + ":")), "")

    def kill(self):
        self.process.kill()
        self.process.wait()


class One:
    """One server, or a master with a replica and three Sentinels that watch them."""

    def __init__(self, *options: str, watched: bool = False):
        self.servers = [Server(*options)]
        self.config = f'[redis]\nurl = "redis://{self.servers[0].name}"\n'
        self.sentinels = []
        if not watched:
            return
        master = self.servers[0]
        self.servers.append(Server(*options, "--replicaof", "127.0.0.1", str(master.port)))
        linked = lambda: self.servers[1].told("replication", "master_link_status") == "up"
        wait("the replica has the master", linked)
        told = (
            f"sentinel monitor main 127.0.0.1 {master.port} 2\n"
            "sentinel down-after-milliseconds main 2000\nsentinel failover-timeout main 10000\n"
        )
        self.sentinels = [Server(sentinel=told) for _ in range(3)]
        seen = lambda one: one.told("sentinel", "master0").endswith("slaves=1,sentinels=3")
        wait("the Sentinels know each other", lambda: all(map(seen, self.sentinels)))
        hosts = ",".join(one.name for one in self.sentinels)
        self.config = f'[redis]\nurl = "redis://{hosts}"\nmode = "sentinel"\nmaster = "main"\n'

    def end(self):
        for one in [*self.sentinels, *self.servers]:
            one.kill()


class Cluster(One):
    """Three masters."""

    def __init__(self, *options: str):
        self.sentinels = []
        self.servers = [Server(*options, clustered=True) for _ in range(3)]
        hosts = [one.name for one in self.servers]
        create = ["redis-cli", "--cluster", "create", *hosts, "--cluster-yes"]
        subprocess.run(create, check=True, stdout=subprocess.DEVNULL)
        whole = lambda one: "cluster_state:ok" in one.ask("CLUSTER", "INFO")
        wait("the cluster stands", lambda: all(map(whole, self.servers)))
        self.config = f'[redis]\nurl = "redis://{",".join(hosts)}"\nmode = "cluster"\n'


class Gateway:
    """One `nightgate serve`."""

    def __init__(self, binary: str, folder: str, number: int, config: str):
        self.address = ("127.0.0.1", free_port())
        path = Path(folder, f"gateway-{number}.toml")
        path.write_text(config)
        self.log = Path(folder, f"gateway-{number}.log")
        command = [binary, "serve", "--config", str(path)]
        command += ["--listen", f"127.0.0.1:{self.address[1]}"]
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=self.log.open("w")
        )
        wait("the gateway is ready", self.ready)

    def ready(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"the gateway ended at once: {self.log.read_text()}")
        try:
            return self.ask("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def ask(self, method: str, path: str, body=None, kind: str = "application/json"):
        """Status and body of one request."""
        with_it = http.client.HTTPConnection(*self.address, timeout=PATIENCE_S)
        try:
            with_it.request(method, path, body, {"content-type": kind} if body else {})
            answer = with_it.getresponse()
            return answer.status, answer.read()
        finally:
            with_it.close()

    def json(self, method: str, path: str, body=None):
        status, text = self.ask(method, path, json.dumps(body) if body is not None else None)
        if status != 200:
            raise RuntimeError(f"{method} {path}: {status} {text[:300]}")
        return json.loads(text)

    def bulk(self, lines: list, known=None) -> None:
        """Hands messages in until every one is acknowledged; `known` is told their ids."""
        text = "\n".join(lines).encode()
        tries = 0
        while True:
            status, answer = self.ask("POST", "/v1/messages/bulk", text, "application/x-ndjson")
            answers = [json.loads(line) for line in answer.splitlines()] if status == 200 else []
            taken = {a["id"] for a in answers if a.get("status") in ("accepted", "held", "duplicate")}
            if known is not None:
                known.update(taken)
            if len(taken) == len(lines):
                return
            strange = [a for a in answers if a.get("status") in ("refused", "invalid")]
            tries += 1
            if strange or tries > 200:
                raise RuntimeError(f"not taken: {status} {strange[:1] or answer[-300:]}")
            time.sleep(0.2)

    def signal(self, name: str):
        self.process.send_signal(getattr(signal, f"SIG{name}"))

    def end(self):
        self.signal("CONT")
        self.process.terminate()
        self.process.wait()


def hand_in(gateways: list, lines, known=None, chunk: int = 5_000):
    """Spreads lines over the gateways, two requests at a time each; calls what `lines(n)` makes."""
    turn, lock, failed = iter(lines), threading.Lock(), []

    def work(gateway):
        try:
            while not failed:
                with lock:
                    some = [line for _, line in zip(range(chunk), turn)]
                if not some:
                    return
                gateway.bulk(some, known)
        except Exception as error:  # told by whoever waits for the threads
            failed.append(error)

    threads = [threading.Thread(target=work, args=[one]) for one in gateways for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    if failed:
        raise failed[0]


class Receiver:
    """A webhook in a process of its own: notes each request with the time it had arrived whole."""

    def __init__(self, folder: str):
        self.path = Path(folder, "arrivals")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/in"
        self.process = Process(target=receive, args=[port, str(self.path)], daemon=True)
        self.process.start()
        wait("the receiver listens", lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)

    def count(self) -> int:
        """Messages that arrived."""
        with open(self.path, "rb") as file:
            return sum(int(line.split(b" ", 2)[1]) for line in file if line.startswith(b"@"))

    def arrivals(self):
        """(unix seconds, the message's object) each."""
        with open(self.path, "rb") as file:
            at = 0.0
            for line in file:
                if line.startswith(b"@"):
                    at = float(line[1:].split(b" ", 1)[0])
                else:
                    for message in json.loads(line)["messages"]:
                        yield at, message

    def end(self):
        self.process.kill()


def receive(port: int, path: str):
    out, lock = open(path, "wb", buffering=0), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            at = time.time()
            count = body.count(b'"idempotency_key":')
            with lock:
                out.write(b"@%.6f %d\n%s\n" % (at, count, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    ThreadingHTTPServer.daemon_threads = True
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


def build() -> str:
    """The binary: NIGHTGATE_BIN, or what cargo builds now."""
    if os.environ.get("NIGHTGATE_BIN"):
        return os.environ["NIGHTGATE_BIN"]
    cargo = ["cargo", "build", "--profile", "quick", "--features", "full", "--package", "nightgate"]
    subprocess.run(cargo, cwd=ROOT, check=True)
    return str(Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "quick/nightgate")
