"""What filling in a template costs, beside Jinja2 with the same text compiled.

    python -m benchmarks.templates [--seconds S]

Log lines: `line_format` templates on the labels of a line. Alerts: an annotation as rule files have them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial

import jinja2
from rich.console import Console
from rich.table import Table

from engine.core.gotemplate.loki import compile_line_template
from engine.core.gotemplate.prometheus import compile_template

LABELS = {"user": "alice", "event": "login", "service": "bridge", "status": "200", "path": "/api/v1/resource/17"}
LINES = (
    ("{{.user}} did {{.event | upper}}", "{{user}} did {{event | upper}}"),
    ('{{.path | replace "/" "_" | trunc 8}}', "{{(path | replace('/', '_'))[:8]}}"),
    (
        '{{if eq .status "200"}}ok{{else}}{{.status}}{{end}} {{.service}}',
        "{% if status == '200' %}ok{% else %}{{status}}{% endif %} {{service}}",
    ),
)
ALERT = (
    '{{ $labels.service }} fails: {{ printf "%.2f" $value }} errors/s for {{ $labels.user }}',
    "{{ labels.service }} fails: {{ '%.2f' % value }} errors/s for {{ labels.user }}",
)

Row = tuple[str, float, float]


def rate(run: Callable[[], object], seconds: float) -> float:
    """Calls per CPU-second: the best of three rounds, each of at least a third of the time."""
    best = 0.0
    for _ in range(3):
        count, started = 0, time.process_time()
        while (spent := time.process_time() - started) < seconds / 3:
            for _ in range(1_000):
                run()
            count += 1_000
        best = max(best, count / spent)
    return best


def bench(seconds: float) -> Iterator[Row]:
    """Each template: its text, ours and Jinja2's expansions per second."""
    environment = jinja2.Environment(autoescape=False)  # noqa: S701 - text, not HTML
    for ours, theirs in LINES:
        line, rival = compile_line_template(ours), environment.from_string(theirs)
        assert line.execute(LABELS) == rival.render(LABELS)
        yield ours, rate(partial(line.execute, LABELS), seconds), rate(partial(rival.render, LABELS), seconds)
    alert, rival = compile_template(ALERT[0]), environment.from_string(ALERT[1])
    assert alert.expand(LABELS, 2.5) == rival.render(labels=LABELS, value=2.5)
    yield (
        ALERT[0],
        rate(lambda: alert.expand(LABELS, 2.5), seconds),
        rate(lambda: rival.render(labels=LABELS, value=2.5), seconds),
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="CPU time per figure")
    seconds = parser.parse_args().seconds
    table = Table("template", "ours /s", "Jinja2 /s", "times")
    for name, ours, rival in bench(seconds):
        table.add_row(name, f"{ours:,.0f}", f"{rival:,.0f}", f"{ours / rival:.1f}")
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
