"""What a line costs with 1, 100 and 1,000 log rules, and with the loop that tries every rule on every line.

    python -m benchmarks.logmatch [--lines 20000] [--rules 1 10 100 1000]

The lines are those of `benchmarks.windows`. The rules are of the kinds people write: a word and a parsed field, a word
alone, a regular expression, an exclusion; most of them match few lines or none. "matching" is all that happens to a
line before it is in a window (`engine.logql.joint`); "loop" is each rule's own pipeline on each line, as rules are
evaluated alone; "step" is `Shard.step` with everything: windows, evaluation of the rules, evidence.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks import violations as data
from engine import logql
from engine.core.expression import Extract, Selector
from engine.core.labels import decode
from engine.core.messages import LogBatch, RuleInput
from engine.core.rules import RuleGroup, parse_rules
from engine.core.step import Shard

RULES_PER_GROUP = 50
LOOP_OPERATIONS = 2_000_000
_KINDS: tuple[Callable[[int], str], ...] = (
    lambda n: f'|= "orders/{n}" | json | status="500"',
    lambda n: f'|= "user{n} locked out"',
    lambda n: f'|~ "error [0-9]+ in module{n}"',
    lambda n: f'|= "refund" != "u1{n}" | json | user=~"u{n}.*"',
    lambda n: f'|= "level\\":\\"fatal" | json | service="service{n}"',
)


def expression(number: int) -> str:
    """The expression of a rule."""
    return f'sum by (user) (count_over_time({{job="shop"}} {_KINDS[number % len(_KINDS)](number)} [60s])) > 10'


def groups(count: int) -> list[RuleGroup]:
    """So many rules, fifty in a group."""
    text = ["groups:"]
    for number in range(count):
        if number % RULES_PER_GROUP == 0:
            text += [f"  - name: g{number}", "    interval: 15s", "    rules:"]
        text += [f"      - alert: A{number}", f"        expr: {json.dumps(expression(number))}"]
    found, problems = parse_rules("\n".join(text), "bench.yml", logql.compile)
    if problems:
        raise SystemExit("\n".join(map(str, problems)))
    return found


def cpu_s(run: Callable[[], object]) -> float:
    """CPU seconds of a run."""
    started = time.process_time()
    run()
    return time.process_time() - started


def matching_s(selectors: Sequence[Selector], batches: Sequence[LogBatch]) -> float:
    """All rules at once, the matcher made before."""
    join = selectors[0].join
    if join is None:
        raise TypeError("log selectors can be joined")
    match = join([selector.extract for selector in selectors if selector.extract])
    labels = decode(data.STREAM)

    def run() -> None:
        for batch in batches:
            for stream in batch.streams:
                match(labels, stream.entries)

    return cpu_s(run)


def loop_s(selectors: Sequence[Selector], batches: Sequence[LogBatch]) -> float:
    """Each rule on each line."""
    extracts: list[Extract] = [selector.extract for selector in selectors if selector.extract]
    labels = decode(data.STREAM)

    def run() -> None:
        for batch in batches:
            for stream in batch.streams:
                for entry in stream.entries:
                    for extract in extracts:
                        extract(labels, entry)

    return cpu_s(run)


def step_s(rules: Sequence[RuleGroup], batches: Sequence[LogBatch]) -> float:
    """The whole core."""
    shard = Shard(rules)
    inputs = [RuleInput(0, batch) for batch in batches]

    def run() -> None:
        for message in inputs:
            shard.step(message)

    return cpu_s(run)


def main() -> None:
    """Measure and print the curve."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--lines", type=int, default=20_000)
    options.add_argument("--rules", type=int, nargs="+", default=[1, 10, 100, 1000])
    chosen = options.parse_args()
    batches = list(data.batches(chosen.lines))
    table = Table(title="CPU per line, in microseconds")
    for column in ("rules", "matching", "times the cost of one rule", "step", "loop over all rules", "loop/matching"):
        table.add_column(column, justify="right")
    first = 0.0
    for count in chosen.rules:
        rules = groups(count)
        selectors = list({one.key: one for group in rules for one in group.selectors}.values())
        few = batches[: max(1, LOOP_OPERATIONS // count // data.BATCH_LINES)]
        matching = matching_s(selectors, batches) / chosen.lines * 1e6
        step = step_s(rules, batches) / chosen.lines * 1e6
        loop = loop_s(selectors, few) / min(chosen.lines, len(few) * data.BATCH_LINES) * 1e6
        first = first or matching
        table.add_row(
            f"{count:,}",
            f"{matching:.2f}",
            f"{matching / first:.1f}",
            f"{step:.2f}",
            f"{loop:.2f}",
            f"{loop / matching:.1f}",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
