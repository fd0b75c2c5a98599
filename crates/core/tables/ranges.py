"""Derives crates/core/src/ranges/table.rs from the numbering plans of the namba crate.

    python3 crates/core/tables/ranges.py ~/.cargo/registry/src/*/namba-0.1.0 libphonenumber-9.0.36
    cargo fmt -p nightgate-core

For every calling code and length of number it walks all patterns of the code's plans at once, digit
by digit, and finds the fewest leading digits behind which law, clocks and (of +1) validity are the
same for whatever follows. Run it again when the version of the plans changes, look at SEVERAL (the
script stops when a code outside of it has more than one answer), then run the tests of the core.
"""

import re._constants as sc
import re._parser as sp
import struct
import sys
from functools import lru_cache
from pathlib import Path

# Calling codes of several countries or clocks: lengths of national numbers worth a table.
SEVERAL = {
    1: (10, 10), 7: (10, 10), 34: (9, 9), 39: (6, 11), 44: (9, 10), 47: (8, 8), 52: (10, 10),
    55: (10, 10), 56: (9, 9), 61: (9, 9), 62: (7, 11), 64: (8, 8), 243: (7, 10), 262: (9, 9),
    290: (4, 4), 299: (6, 6), 351: (9, 9), 358: (5, 9), 590: (9, 9), 593: (8, 8), 599: (7, 8),
    689: (8, 8), 691: (7, 7), 976: (8, 10),
}
# Digits with which a trunk prefix other than "0" can begin; checked against the patterns below.
TRUNK_OTHER = {
    1: ["1"], 7: ["8"], 36: ["06"], 44: ["0", "180020"], 54: ["0", "1", "2", "3"],
    55: ["0", "90"], 61: ["0", "183"], 86: ["0", "11", "12", "179"], 241: ["0"],
    261: ["0", "2", "4", "5", "6", "7", "8", "9"], 298: ["10"], 352: ["15"], 370: ["0", "8"],
    375: ["0", "8"], 378: ["8", "9"], 423: ["0", "1001"], 506: ["19"],
    672: ["0", "1", "2", "5", "8"], 692: ["1"], 993: ["8"],
}
# A line of the table is worth this many ranges more to ask about.
LINE_COST = 60
# In the order in which the plans try them, after `general` and before the two lines.
SERVICES = "premium toll shared voip personal pager uan voicemail".split()
RULES = "general fixed mobile toll premium shared personal voip pager uan voicemail nointl".split()
HEADER = '''\
//! How many leading digits of a number decide what the numbering plans say of it. Derived by
//! `crates/core/tables/ranges.py` from the patterns of the plans: change it there, not here.

use std::ops::RangeInclusive;

/// The plans that these tables were derived from, as `namba::DATA_VERSION` names them.
pub(super) const DERIVED_FROM: &str = "{version}";
'''


class Postcard:
    """Reads the plans: variable-length integers and length-prefixed text."""

    def __init__(self, data):
        assert data[:8] == b"NAMBA\0\x01N"
        self.data, self.at = data, 8

    def int(self):
        shift = value = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def raw(self):
        size = self.int()
        self.at += size
        return self.data[self.at - size : self.at]

    def text(self):
        return self.raw().decode()

    def rule(self):
        rule = {"pattern": self.text(), "lengths": list(self.raw())}
        self.raw(), self.raw()
        return rule

    def formats(self):
        for _ in range(self.int()):
            self.raw(), self.raw()
            for _ in range(self.int()):
                self.raw()
            self.raw(), self.raw()

    def plan(self):
        plan = {"region": self.text(), "code": self.int()}
        self.raw(), self.raw()
        trunk = self.text()
        self.raw()
        plan["trunk"] = self.text() or trunk
        self.raw()
        plan["primary"] = self.data[self.at]
        self.at += 1
        plan["lead"] = self.text()
        plan.update((name, self.rule()) for name in RULES)
        self.formats(), self.formats()
        return plan

    def plans(self):
        plans = [self.plan() for _ in range(self.int())]
        assert self.at == len(self.data)
        return sorted(plans, key=lambda plan: not plan["primary"])


class Automaton:
    """A pattern as a nondeterministic automaton over digits; `$` is a letter of its own."""

    def __init__(self, pattern):
        self.free, self.edges = [], []
        start = self.new()
        self.end = self.chain(sp.parse(pattern), start)
        self.start = self.close({start})
        self.step = lru_cache(None)(self.step_once)

    def new(self):
        self.free.append([])
        self.edges.append([])
        return len(self.free) - 1

    def edge(self, at, letters):
        self.edges[at].append((frozenset(letters), self.new()))
        return len(self.free) - 1

    def chain(self, parts, at):
        for op, value in parts:
            at = self.part(op, value, at)
        return at

    def part(self, op, value, at):
        if op is sc.LITERAL:
            return self.edge(at, chr(value))
        if op is sc.IN:
            return self.edge(at, [letter for item in value for letter in self.letters(*item)])
        if op is sc.SUBPATTERN:
            return self.chain(value[3], at)
        if op is sc.AT and value is sc.AT_END:
            return self.edge(at, "$")
        if op is sc.BRANCH:
            end = self.new()
            for branch in value[1]:
                head = self.new()
                self.free[at].append(head)
                self.free[self.chain(branch, head)].append(end)
            return end
        assert op is sc.MAX_REPEAT and value[1] is not sc.MAXREPEAT, (op, value)
        least, most, inner = value
        for _ in range(least):
            at = self.chain(inner, at)
        end = self.new()
        for _ in range(most - least):
            self.free[at].append(end)
            at = self.chain(inner, at)
        self.free[at].append(end)
        return end

    @staticmethod
    def letters(op, value):
        if op is sc.LITERAL:
            return [chr(value)]
        if op is sc.RANGE:
            return [chr(letter) for letter in range(value[0], value[1] + 1)]
        assert (op, value) == (sc.CATEGORY, sc.CATEGORY_DIGIT), (op, value)
        return "0123456789"

    def close(self, states):
        states, work = set(states), list(states)
        while work:
            fresh = [state for state in self.free[work.pop()] if state not in states]
            states.update(fresh)
            work.extend(fresh)
        return frozenset(states)

    def step_once(self, states, letter):
        return self.close({to for at in states for on, to in self.edges[at] if letter in on})

    def accepts(self, states):
        return self.end in states or self.end in self.step_once(states, "$")


class Zones:
    """The table of clocks by leading digits."""

    def __init__(self, data):
        assert data[:8] == b"NAMBA\0\x01P"
        (count,) = struct.unpack("<I", data[8:12])
        pool, self.by = 12 + count * 15, {}
        for index in range(count):
            key, length, offset, size = struct.unpack_from("<QBIH", data, 12 + 15 * index)
            text = data[pool + offset : pool + offset + size].decode()
            self.by[str(key).zfill(length)] = text
        self.longest = max(map(len, self.by))
        self.inner = {key[:size] for key in self.by for size in range(len(key))}

    def of(self, digits):
        heads = (digits[:size] for size in range(min(len(digits), self.longest), 0, -1))
        return next((self.by[head] for head in heads if head in self.by), None)


automaton = lru_cache(None)(Automaton)
CUT = "cut"  # a trunk prefix may be here: such numbers never come to the table


class Tree:
    """Answers for every number of one calling code and length; equal branches are one node."""

    def __init__(self, code, length, plans, zones):
        self.code, self.plans, self.zones = str(code), plans, zones
        self.country = zones.of(f"{code}00000000")
        self.laws = [plan["region"] for plan in plans if plan["region"] != "001"]
        self.matchers, self.index, self.known, self.nodes = [], {}, {}, {}
        for number, plan in enumerate(plans):
            for name in RULES[:11]:
                if not plan[name]["lengths"] or length in plan[name]["lengths"]:
                    self.add((number, name), plan[name]["pattern"], False)
            if len(plans) > 1:
                self.add((number, "lead"), plan["lead"], True)
        self.add("trunk", plans[0]["trunk"], True)
        start = tuple(matcher.start for matcher, _ in self.matchers)
        self.root = self.walk(start, self.code, None, length)

    def add(self, name, pattern, prefix):
        if pattern:
            self.index[name] = len(self.matchers)
            self.matchers.append((automaton(pattern), prefix))

    def matches(self, name, states):
        if name not in self.index:
            return False
        state = states[self.index[name]]
        matcher, prefix = self.matchers[self.index[name]]
        return state is True if prefix else matcher.accepts(state)

    def kind(self, number, states):
        if not self.matches((number, "general"), states):
            return None
        for name in SERVICES:
            if self.matches((number, name), states):
                return name
        lines = [name for name in ("fixed", "mobile") if self.matches((number, name), states)]
        return "+".join(lines) or None

    def answer(self, states, zone):
        numbers = range(len(self.plans))
        by_lead = (number for number in numbers if self.matches((number, "lead"), states))
        by_kind = (number for number in numbers if self.kind(number, states))
        number = next(by_lead, None)
        number = next(by_kind, 0) if number is None else number
        kind, law = self.kind(number, states), self.plans[number]["region"]
        if len(self.laws) == 1 or kind is None or law == "001":
            law = self.laws[0] if self.laws else None
        if kind not in ("fixed", "fixed+mobile"):
            zone = self.country or zone
        return (law, zone, kind is not None if self.code == "1" else None)

    def step(self, states, digit):
        after = []
        for (matcher, prefix), state in zip(self.matchers, states):
            if not isinstance(state, bool):
                state = matcher.step(state, digit)
                if prefix and (not state or matcher.end in state):
                    state = bool(state)
            after.append(state)
        return tuple(after)

    def walk(self, states, lead, zone, left):
        if lead is not None and lead not in self.zones.inner:
            lead, zone = None, self.zones.of(lead)
        key = (states, lead, zone, left)
        if key not in self.known:
            self.known[key] = self.node(states, lead, zone, left)
        return self.known[key]

    def node(self, states, lead, zone, left):
        if self.matches("trunk", states):
            return CUT
        if left == 0:
            return self.answer(states, zone if lead is None else self.zones.of(lead))
        below = tuple(
            self.walk(self.step(states, digit), lead and lead + digit, zone, left - 1)
            for digit in "0123456789"
        )
        answers = {node for node in below if node != CUT}
        if not answers:
            return CUT
        if len(answers) == 1 and not isinstance(next(iter(answers)), Node):
            return answers.pop()
        return self.nodes.setdefault(below, Node(below))


class Node:
    """Ten branches that do not all lead to one answer."""

    def __init__(self, below):
        self.below = below
        self.height = 1 + max(height(node) for node in below)


def height(node):
    return node.height if isinstance(node, Node) else 0


def rules_of(trees):
    """The table lines of one calling code: (digits behind the code, how many more matter)."""
    deep = {}

    def visit(prefix, nodes):
        most = max(map(height, nodes))
        if most:
            deep[prefix] = most
            for digit in range(10):
                branches = [n.below[digit] if isinstance(n, Node) else n for n in nodes]
                visit(f"{prefix}{digit}", branches)

    def cheapest(prefix):
        best = None
        for more in range(1, deep[prefix] + 1):
            lines, ranges = [(prefix, more)], 10**more
            for inner in deep:
                if len(inner) == len(prefix) + more and inner.startswith(prefix):
                    inner_lines, inner_ranges = cheapest(inner)
                    lines, ranges = lines + inner_lines, ranges + inner_ranges
            cost = len(lines) * LINE_COST + ranges
            if best is None or cost < best[0]:
                best = (cost, lines, ranges)
        return best[1:]

    visit("", [tree.root for tree in trees])
    return cheapest("")


def check_trunk(code, pattern):
    """Stops when the pattern can match behind digits that TRUNK_OTHER does not name."""
    matcher = automaton(pattern)

    def visit(states, prefix):
        if any(prefix.startswith(trunk) for trunk in TRUNK_OTHER.get(code, ["0"])):
            return
        assert not prefix or matcher.end not in states, f"+{code}: {prefix} may be a trunk prefix"
        for digit in "0123456789":
            if after := matcher.step(states, digit):
                visit(after, prefix + digit)

    visit(matcher.start, "")


def main():
    crate, version = Path(sys.argv[1]), sys.argv[2]
    all_plans = Postcard((crate / "src/plans/artifacts/numbers.bin").read_bytes()).plans()
    zones = Zones((crate / "src/enrichment/artifacts/time_zones.bin").read_bytes())
    by_code, lines, total = {}, {}, 0
    for plan in all_plans:
        by_code.setdefault(plan["code"], []).append(plan)
    for code, plans in sorted(by_code.items()):
        check_trunk(code, plans[0]["trunk"] or "0")
        least, most = SEVERAL.get(code, (2, 15 - len(str(code))))
        trees = [Tree(code, length, plans, zones) for length in range(least, most + 1)]
        if code not in SEVERAL:
            answers = {tree.root for tree in trees} - {CUT}
            assert len(answers) == 1, f"+{code} has several answers: name it in SEVERAL"
            total += 1
            continue
        found, ranges = rules_of(trees)
        total += ranges * len(trees)
        for prefix, more in found:
            lines.setdefault(more, []).append(int(f"{code}{prefix}"))
    print(f"{sum(map(len, lines.values()))} lines, {total} ranges", file=sys.stderr)
    bare = [code for code, plans in sorted(by_code.items()) if not plans[0]["trunk"]]
    zero = [code for code in sorted(by_code) if code not in bare and code not in TRUNK_OTHER]
    write(version, bare, zero, lines)


def write(version, bare, zero, lines):
    def const(doc, name, kind, items):
        docs = "".join(f"/// {line}\n" for line in doc)
        head = f"pub(super) const {name}: [{kind}; {len(items)}] = "
        return f"\n{docs}{head}[{', '.join(map(str, items))}];\n"

    trunk = [
        "({}, &[{}])".format(code, ", ".join(f'"{prefix}"' for prefix in prefixes))
        for code, prefixes in sorted(TRUNK_OTHER.items())
    ]
    several = [f"({code}, {least}..={most})" for code, (least, most) in sorted(SEVERAL.items())]
    deeper = [f"({more}, &{sorted(leads)})" for more, leads in sorted(lines.items())]
    table = [
        HEADER.format(version=version),
        const(
            ["Calling codes without a trunk prefix: digits behind them are never cut off."],
            "TRUNKLESS", "u16", bare,
        ),
        const(["Calling codes whose trunk prefix starts with `0`."], "TRUNK_ZERO", "u16", zero),
        const(
            ["Other calling codes, with whatever digits the plans may cut off or rewrite."],
            "TRUNK_OTHER", "(u16, &[&str])", trunk,
        ),
        const(
            [
                "Calling codes of several countries or clocks, with the lengths of national numbers",
                "for which [`DEEPER`] holds. All others have one answer whatever the digits.",
            ],
            "SEVERAL", "(u16, RangeInclusive<usize>)", several,
        ),
        const(
            [
                "How many more digits behind these leading digits tell law, clocks and (of `+1`)",
                "validity; looked up again with those digits until nothing is found.",
            ],
            "DEEPER", "(usize, &[u32])", deeper,
        ),
    ]
    path = Path(__file__).parent.parent / "src/ranges/table.rs"
    path.write_text("".join(table))


if __name__ == "__main__":
    main()
