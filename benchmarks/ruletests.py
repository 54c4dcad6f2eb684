"""What a rule unit test costs: `sentinel test` beside `promtool test rules` on the same file, in the same run.

    python -m benchmarks.ruletests [--rounds N]

A thousand series, six hours of them every 15 s, and three rules: a sum of rates, a threshold that must hold for a time,
a quantile of a histogram. Every hour the file asks which alerts fire; the third hour is bad. Both programs must find
that all expectations hold, and each is timed as its user starts it, as a process of its own. Required: ours in a third
of promtool's time, by the wall clock and by the CPU.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from scripts import parts

HOURS, BAD_HOUR, INTERVAL_S = 6, 2, 15
POINTS_PER_HOUR = 3600 // INTERVAL_S
REQUIRED = 3.0
BUCKETS = (  # bound in seconds, share of the requests below it in calm and in bad hours
    ("0.05", 0.30, 0.10),
    ("0.1", 0.60, 0.20),
    ("0.25", 0.90, 0.40),
    ("0.5", 0.98, 0.60),
    ("1", 1.00, 0.80),
    ("2.5", 1.00, 0.90),
    ("5", 1.00, 1.00),
    ("10", 1.00, 1.00),
    ("30", 1.00, 1.00),
    ("+Inf", 1.00, 1.00),
)

RULES = """\
groups:
  - name: service
    rules:
      - alert: ErrorRateHigh
        expr: sum by (job) (rate(http_requests_total{code=~"5.."}[5m])) > 100
        labels: {severity: critical}
      - alert: QueueLong
        expr: max by (job) (queue_length) > 80
        for: 5m
        labels: {severity: warning}
      - alert: RequestsSlow
        expr: histogram_quantile(0.99, sum by (job, le) (rate(http_request_duration_seconds_bucket[5m]))) > 1
        labels: {severity: warning}
"""
ALERTS = {"ErrorRateHigh": "critical", "QueueLong": "warning", "RequestsSlow": "warning"}


def speeds(draw: random.Random, calm_per_s: float, bad_per_s: float) -> list[float]:
    """How fast a counter grows in every quarter of an hour."""
    return [
        (bad_per_s if quarter // 4 == BAD_HOUR else calm_per_s) * draw.uniform(0.8, 1.2) for quarter in range(HOURS * 4)
    ]


def counter(per_s: Sequence[float]) -> str:
    """The values of a counter that grows so fast."""
    words, value, points = [], 0, POINTS_PER_HOUR // 4
    for speed in per_s:
        step = round(speed * INTERVAL_S)
        words.append(f"{value}+{step}x{points - 1}")
        value += step * points
    return " ".join(words)


def gauge(draw: random.Random) -> str:
    """A queue that goes up and down, all of the bad hour above the threshold."""
    words = []
    for hour in range(HOURS):
        low, high = (85, 99) if hour == BAD_HOUR else (0, 40)
        words += [str(draw.randint(low, high)) for _ in range(POINTS_PER_HOUR)]
    return " ".join(words)


def series(draw: random.Random) -> Iterator[tuple[str, str]]:
    """600 request counters, 300 buckets and 100 gauges of one job."""
    for i in range(600):
        code, instance = ("500", "404", "200")[i % 3], f"10.0.{i // 60}.{i % 60}:8080"
        values = counter(speeds(draw, *(0.1, 2.0) if code == "500" else (5.0, 5.0)))
        yield f'http_requests_total{{job="api", instance="{instance}", code="{code}"}}', values
    for i in range(30):
        per_s = speeds(draw, 20.0, 20.0)
        for bound, *shares in BUCKETS:
            values = counter([speed * shares[q // 4 == BAD_HOUR] for q, speed in enumerate(per_s)])
            yield f'http_request_duration_seconds_bucket{{job="api", instance="10.1.0.{i}:8080", le="{bound}"}}', values
    for i in range(100):
        yield f'queue_length{{job="api", queue="q{i}"}}', gauge(draw)


def test_file() -> str:
    """The test file: data, and what must fire at the end of every hour."""
    draw = random.Random(7)
    lines = ["rule_files: [rules.yml]", f"evaluation_interval: {INTERVAL_S}s", "tests:", f"  - interval: {INTERVAL_S}s"]
    lines.append("    input_series:")
    for name, values in series(draw):
        lines += [f"      - series: '{name}'", f"        values: '{values}'"]
    lines.append("    alert_rule_test:")
    for hour in range(HOURS):
        for alert, severity in ALERTS.items():
            firing = f"[{{exp_labels: {{job: api, severity: {severity}}}}}]" if hour == BAD_HOUR else "[]"
            lines.append(f"      - {{eval_time: {hour}h55m, alertname: {alert}, exp_alerts: {firing}}}")
    return "\n".join(lines) + "\n"


def measure(command: Sequence[str], folder: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a program that has to succeed.

    Python may keep its bytecode, as it does where it is installed: in the folder, whatever the caller's settings are.
    """
    unset = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env = {**unset, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    before, started = os.times(), time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wall_s, after = time.perf_counter() - started, os.times()
    if done.returncode:
        raise SystemExit(f"{command[0]} found expectations that do not hold:\n{done.stdout[-2000:]}")
    return wall_s, after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    """Measure and print the table; exit 1 if ours is not fast enough."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="the best of so many counts")
    chosen = parser.parse_args()
    programs = parts.PARTS["prometheus"].find(parts.default_cache())
    if programs is None:
        raise SystemExit(parts.missing_reason("prometheus", parts.default_cache()))
    commands = {
        "promtool test rules": [str(programs / "promtool"), "test", "rules", "test.yml"],
        "sentinel test": [str(Path(sys.executable).with_name("sentinel")), "test", "test.yml"],
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "rules.yml").write_text(RULES, encoding="utf-8")
        (folder / "test.yml").write_text(test_file(), encoding="utf-8")
        taken: dict[str, list[tuple[float, float]]] = {who: [] for who in commands}
        for _ in range(chosen.rounds):  # in turn, so that whatever else runs here disturbs both alike
            for who, command in commands.items():
                taken[who].append(measure(command, folder))
    best = {who: (min(wall for wall, _ in times), min(cpu for _, cpu in times)) for who, times in taken.items()}
    rival, ours = best.values()
    table = Table("1,000 series, 6 h at 15 s, 3 rules", "wall s", "CPU s", title=f"best of {chosen.rounds}")
    for who, (wall_s, cpu_s) in best.items():
        table.add_row(who, f"{wall_s:.2f}", f"{cpu_s:.2f}")
    ratios = [theirs / own for theirs, own in zip(rival, ours, strict=True)]
    table.add_row("promtool takes so many times as long", *(f"{ratio:.1f}" for ratio in ratios))
    Console(width=100).print(table)
    if min(ratios) < REQUIRED:
        raise SystemExit(f"required is {REQUIRED:g} times as fast")


if __name__ == "__main__":
    main()
