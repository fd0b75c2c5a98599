#!/usr/bin/env python3
"""Gateways over one Redis, and over a cluster: what a message costs, by how many there are.

    scripts/bench_gateways.py [--messages 300000] [--gateways 1 2 4] [--servers one cluster] [--json]

Everything is in Redis: held messages, receipts, rates. Informational messages are handed in by bulk while
the lane is paused, then the lane is resumed and posts them to a webhook that keeps them. CPU is that of
the gateways and of the servers, a million messages, in each of the two parts; on two cores the time on
the wall says little. Then a gateway is started anew on the full hold.

NIGHTGATE_BIN is the binary (default: cargo builds it).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time

from gateways_rig import Cluster, Gateway, One, Receiver, build, cpu_s, hand_in, wait

BODY = (
    "{} 고객님, 주문하신 상품이 오늘 오후에 도착할 예정입니다. 문 앞에 두고 갈까요, 경비실에 맡길까요? "
    "답장을 주시면 기사님께 전해 드립니다. 배송 조회: https://example.com/t/{}"
)
LANE = """
[lane.main]
sink = "webhook"
rate = 0
[lane.main.webhook]
url = "{url}"
batch_max = 1000
[hold]
store = "redis"
[receipts]
store = "redis"
[consent]
store = "redis"
[log]
level = "warn"
"""


def line(n: int) -> str:
    recipient = f"010-{1000 + n // 10_000:04d}-{n % 10_000:04d}"
    return json.dumps(
        {
            "id": f"order-{n}",
            "recipient": recipient,
            "channel": "sms",
            "purpose": "informational",
            "campaign": f"c{n % 3}",
            "body": BODY.format(n, n * 7919 % 1_000_003),
        },
        ensure_ascii=False,
    )


def spent(gateways: list, world) -> tuple:
    ours = sum(cpu_s(one.process.pid) for one in gateways)
    return ours, sum(cpu_s(one.process.pid) for one in world.servers)


def part(name: str, gateways: list, world, messages: int, run) -> dict:
    before, began = spent(gateways, world), time.perf_counter()
    run()
    took, after = time.perf_counter() - began, spent(gateways, world)
    gateway, server = (after[i] - before[i] for i in (0, 1))
    each = 1e6 / messages
    return {
        f"{name}_s": took,
        f"{name}_gateways_cpu_us": gateway * each,
        f"{name}_redis_cpu_us": server * each,
    }


def measure(binary: str, servers: str, count: int, messages: int) -> dict:
    world = Cluster() if servers == "cluster" else One()
    with tempfile.TemporaryDirectory(prefix="nightgate-gateways-") as folder:
        receiver = Receiver(folder)
        config = world.config + LANE.format(url=receiver.url)
        gateways = [Gateway(binary, folder, n, config) for n in range(count)]
        memory = lambda: sum(int(one.told("memory", "used_memory")) for one in world.servers)
        empty = memory()
        row = {"servers": servers, "gateways": count, "messages": messages}
        try:
            gateways[0].json("POST", "/v1/lanes/main/pause")
            put = lambda: hand_in(gateways, (line(n) for n in range(messages)))
            row |= part("hold", gateways, world, messages, put)
            row["held_B"] = (memory() - empty) / messages
            began = time.perf_counter()
            gateways.append(Gateway(binary, folder, count, config))
            row["ready_again_s"] = time.perf_counter() - began
            gateways.pop().end()
            gateways[0].json("POST", "/v1/lanes/main/resume")
            total = lambda: gateways[0].json("GET", "/v1/hold")["total"]
            none = lambda: total()["held"] + total()["leased"] == 0
            row |= part("release", gateways, world, messages, lambda: wait("all left", none, 0.2))
            row["left_B"] = (memory() - empty) / messages
            logs = (one.told("persistence", "aof_current_size") for one in world.servers)
            row["logged_B"] = sum(map(int, logs)) / messages
            if receiver.count() != messages:
                sys.exit(f"{receiver.count()} arrived of {messages}")
        finally:
            for one in gateways:
                one.end()
            receiver.end()
            world.end()
    return row


def show(rows: list):
    print("| Redis | gateways | hold: CPU us a message, gateways + Redis | release | both | "
          "s on the wall | bytes in Redis a message held, after its end | s until another is ready |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        hold = row["hold_gateways_cpu_us"], row["hold_redis_cpu_us"]
        free = row["release_gateways_cpu_us"], row["release_redis_cpu_us"]
        print(
            f"| {row['servers']} | {row['gateways']} | {hold[0]:.1f} + {hold[1]:.1f} | "
            f"{free[0]:.1f} + {free[1]:.1f} | {sum(hold + free):.1f} | "
            f"{row['hold_s']:.1f} + {row['release_s']:.1f} | {row['held_B']:.0f}, {row['left_B']:.0f} | "
            f"{row['ready_again_s']:.2f} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=300_000)
    parser.add_argument("--gateways", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--servers", nargs="+", choices=["one", "cluster"], default=["one", "cluster"])
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    binary, rows = build(), []
    for servers in asked.servers:
        for count in asked.gateways:
            rows.append(measure(binary, servers, count, asked.messages))
            print(json.dumps(rows[-1]), file=sys.stderr)
    print(json.dumps(rows, indent=2)) if asked.json else show(rows)


if __name__ == "__main__":
    try:
        main()
    except FileNotFoundError as error:
        sys.exit(f"{error.filename}: install the packages redis-server and redis-tools")
    except subprocess.CalledProcessError as error:
        sys.exit(str(error))
