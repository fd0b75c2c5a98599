#!/usr/bin/env python3
"""Three gateways over one Redis on a bad evening, judged by what arrived.

    scripts/prove_gateways.py [--messages 1000000] [--rate 10000] [--json]

A master with a replica, watched by three Sentinels; each write is on the replica before it is answered. All
messages are handed in while everything is paused; then the lanes are resumed so that the house's closing
for advertising falls into the middle of the drain. Meanwhile one gateway is killed, the master is killed (and
comes back as a replica), and one gateway is stopped before the closing and continued after it.

Judged at the receiving end, by its own clock, and in the hold: nothing acknowledged is missing, nothing arrives
twice but informational messages whose outcome was not known, no lane exceeds its rate, no permit is
overstepped, and no advertising arrives after the closing. The first violation of each is printed; the
exit code is their number.

NIGHTGATE_BIN is the binary (default: cargo builds it). Takes some four minutes with a million messages.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from gateways_rig import Gateway, One, Receiver, build, hand_in, wait

SEOUL = ZoneInfo("Asia/Seoul")
RECIPIENTS = 1_000
LEASE_S, GUARD_S = 10, 30
# Seconds from the resumption: the closing's guard, a gateway's end, the master's end and return.
CLOSES, KILL, MASTER_KILL, MASTER_BACK = 75, 15, 30, 38
# Around the closing.
STOP_BEFORE, CONTINUE_AFTER = 6, 14
# The longest that informational messages may take once all is well again.
DRAIN_S = 900
# What arrives within so many seconds is compared with the rate.
WINDOWS_S = (1, 5, 30)
CONFIG = """
[rules]
builtin = ["kr"]
packs = ["house.toml"]
[lane.info]
purposes = ["informational"]
sink = "webhook"
rate = {rate}
burst = {burst}
slow_start = "0s"
[lane.info.webhook]
url = "{url}"
timeout = "3s"
connect_timeout = "1s"
batch_max = 250
[lane.ads]
purposes = ["advertising"]
sink = "webhook"
rate = {rate}
burst = {burst}
slow_start = "0s"
[lane.ads.webhook]
url = "{url}"
timeout = "3s"
connect_timeout = "1s"
batch_max = 250
[release]
lease_ttl = "{lease}s"
[hold]
store = "redis"
[receipts]
store = "redis"
[consent]
store = "redis"
[log]
level = "warn"
"""
HOUSE = """
[pack]
id = "house"
title = "The closing of this evening"
jurisdiction = "*"
clock = "Asia/Seoul"
[[rule]]
id = "house.closing"
purpose = ["advertising"]
channels = ["email"]
open.every_day = ["{opens:%H:%M}-{closes:%H:%M}"]
outside = "hold"
guard = "{guard}s"
citation = "this script"
confidence = "house"
"""


def line(n: int) -> str:
    ad = n % 2 == 0
    recipient = f"r{n % RECIPIENTS}@mail.example" if ad else f"010-1234-{n % 10_000:04d}"
    return json.dumps(
        {
            "id": f"{'ad' if ad else 'info'}-{n}",
            "recipient": recipient,
            "channel": "email" if ad else "sms",
            "purpose": "advertising" if ad else "informational",
            "campaign": f"c{n % 5}",
            "body": f"(광고) {n}번째 소식입니다. 오늘 하루만 드리는 혜택을 확인해 보세요. " * 2,
        },
        ensure_ascii=False,
    )


def consents(gateway):
    grant = lambda n: {
        "recipient": f"r{n}@mail.example", "scope": "general", "at": "2026-11-01T12:00:00+09:00",
    }
    gateway.json("POST", "/v1/consents", [grant(n) for n in range(RECIPIENTS)])


def told(text: str):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Evening:
    """The servers, three gateways and the receiving end, and what happens to them."""

    def __init__(self, binary: str, folder: str, messages: int, rate: int):
        self.binary, self.folder, self.messages, self.rate = binary, folder, messages, rate
        self.burst = rate // 4
        # A start and a hand-in of some 15,000 a second fit before the lanes are resumed.
        ahead = 30 + messages / 15_000 + CLOSES + GUARD_S
        first = datetime.fromtimestamp(time.time() + ahead, SEOUL)
        self.closing = first.replace(second=0, microsecond=0) + timedelta(minutes=1)
        self.house()
        self.last = self.closing.timestamp() - GUARD_S
        self.world, self.receiver = One(watched=True), Receiver(folder)
        told_of = {"url": self.receiver.url, "rate": rate, "burst": self.burst, "lease": LEASE_S}
        config = f"{self.world.config}replicas = 1\n{CONFIG.format(**told_of)}"
        self.gateways = [Gateway(binary, folder, n, config) for n in range(3)]
        self.known = set()

    def house(self):
        opens = self.closing - timedelta(hours=6)
        text = HOUSE.format(opens=opens, closes=self.closing, guard=GUARD_S)
        Path(self.folder, "house.toml").write_text(text)

    def at(self, instant: float, what: str, run=None):
        time.sleep(max(0.0, instant - time.time()))
        if run:
            run()
        told(f"{what}; {self.receiver.count():,} arrived")

    def run(self):
        one = self.gateways[0]
        consents(one)
        one.json("POST", "/v1/lanes/all/pause")
        hand_in(self.gateways, (line(n) for n in range(self.messages)), self.known)
        begins = self.last - CLOSES
        told(f"{len(self.known):,} acknowledged")
        if time.time() > begins:
            sys.exit("the hand-in took too long here: try fewer --messages")
        master = self.world.servers[0]
        resume = lambda: one.json("POST", "/v1/lanes/all/resume")
        self.at(begins, "resumed", resume)
        self.at(begins + KILL, "a gateway was killed", self.gateways[1].process.kill)
        self.at(begins + MASTER_KILL, "the master was killed", master.kill)
        self.at(begins + MASTER_BACK, "it is back", master.start)
        self.at(self.last - STOP_BEFORE, "a gateway was stopped", lambda: self.gateways[2].signal("STOP"))
        self.at(self.last, "the house closes for advertising, less its guard")
        self.at(self.last + CONTINUE_AFTER, "continued", lambda: self.gateways[2].signal("CONT"))
        wait("all informational messages left", self.drained, 1.0, DRAIN_S)
        time.sleep(2 * LEASE_S)
        told(f"the end; {self.receiver.count():,} arrived")

    def drained(self) -> bool:
        total = lambda lane: self.gateways[0].json("GET", f"/v1/hold?lane={lane}")["total"]
        return total("info")["held"] + total("info")["leased"] + total("ads")["leased"] == 0

    def exported(self) -> dict:
        """What the hold still has: the state of each id."""
        out = Path(self.folder, "held.ndjson")
        config = str(Path(self.folder, "gateway-0.toml"))
        command = [self.binary, "hold", "export", "--config", config, "--out", str(out)]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True)
        with open(out) as file:
            lines = (json.loads(line) for line in file)
            return {line["message"]["id"]: line["state"] for line in lines}

    def end(self):
        for one in self.gateways:
            one.end()
        self.receiver.end()
        self.world.end()


class Verdict:
    """What went wrong: the first of each kind, and how often."""

    def __init__(self):
        self.first, self.counts = {}, Counter()

    def wrong(self, kind: str, about: str):
        self.first.setdefault(kind, about)
        self.counts[kind] += 1


def events(gateway, id: str) -> list:
    """Receipts of one message, by their events."""
    status, text = gateway.ask("GET", f"/v1/receipts?message={id}")
    assert status == 200, text
    return [json.loads(line)["event"] for line in text.splitlines()]


def judge(evening) -> tuple:
    """The verdict, and figures."""
    verdict, times, at = Verdict(), Counter(), {"info": [], "ads": []}
    closing = evening.closing.timestamp()
    for instant, message in evening.receiver.arrivals():
        id = message["id"]
        ad = message["purpose"] == "advertising"
        times[id] += 1
        at["ads" if ad else "info"].append(instant)
        if ad and instant >= closing:
            verdict.wrong("after the closing", f"{id} {instant - closing:.3f} s after it")
        if instant > datetime.fromisoformat(message["not_after"]).timestamp():
            verdict.wrong("after its permit", id)
    held = evening.exported()
    figures = {"acknowledged": len(evening.known), "arrived": len(times)}
    figures |= {f"in the hold: {state}": n for state, n in Counter(held.values()).items()}
    for id in evening.known - times.keys() - held.keys():
        verdict.wrong("lost", f"{id}: receipts {events(evening.gateways[0], id)}")
    for id in times.keys() - evening.known:
        verdict.wrong("never acknowledged", id)
    # Whoever had it never said what came of it, and the closing came before it was looked at anew.
    open_ = [id for id in times.keys() & held.keys() if held[id] != "buried"]
    figures["arrived, and held until receipts are read at its next turn"] = len(open_)
    for id in open_:
        said = events(evening.gateways[0], id)
        if said[-1] != "attempted":
            verdict.wrong("arrived and held as if it had not", f"{id}: receipts {said}")
    twice = [id for id, count in times.items() if count > 1]
    figures["arrived twice"] = len(twice)
    for id in twice:
        said = events(evening.gateways[0], id)
        if id.startswith("ad"):
            verdict.wrong("advertising twice", f"{id}: receipts {said}")
        elif "unknown" not in said or said.count("attempted") < times[id]:
            verdict.wrong("twice without a receipt that says why", f"{id}: receipts {said}")
    for lane, instants in at.items():
        figures |= pace(verdict, lane, sorted(instants), evening)
    return verdict, figures


def pace(verdict, lane: str, instants: list, evening) -> dict:
    """The most that arrived within each window, beside what rate and burst allow."""
    figures = {}
    for window in WINDOWS_S:
        most = first = 0
        for last, instant in enumerate(instants):
            while instants[first] <= instant - window:
                first += 1
            most = max(most, last - first + 1)
        # What left in time may be a quarter of a second on its way.
        allowed = evening.rate * (window + 0.25) + evening.burst
        figures[f"{lane}, most in {window} s (rate and burst: {evening.rate * window + evening.burst:,})"] = most
        if most > allowed:
            verdict.wrong("too fast", f"{lane}: {most} within {window} s, {allowed:.0f} allowed")
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--rate", type=int, default=10_000, help="of each of the two lanes")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    binary = build()
    with tempfile.TemporaryDirectory(prefix="nightgate-evening-") as folder:
        evening = Evening(binary, folder, asked.messages, asked.rate)
        try:
            evening.run()
            verdict, figures = judge(evening)
        finally:
            evening.end()
    if asked.json:
        print(json.dumps({"figures": figures, "wrong": verdict.counts, "first": verdict.first}))
    else:
        for name, value in figures.items():
            print(f"{name}: {value:,}")
        for kind, count in verdict.counts.items():
            print(f"WRONG {kind}, {count:,} times; the first: {verdict.first[kind]}")
        print("nothing wrong" if not verdict.counts else "")
    sys.exit(len(verdict.counts))


if __name__ == "__main__":
    main()
