"""Random metric queries that are well typed: what a person could write over the lines of `lines.py`.

Two things a person could write are left out, because Loki 3.7 does not do there what its manual and its successor say:
a label filter with `=~"word.*"`, `=~".*word"` or alternatives that begin alike matches anywhere in the value
(grafana/loki issue 23892), and `rate_counter` extrapolates with times in the wrong unit.
"""

from __future__ import annotations

import random

_JSON_LABELS = ("level", "user", "status", "request_path", "msg", "host", "host_extracted")
_LOGFMT_LABELS = ("level", "user", "status", "msg", "host")
_ACCESS_LABELS = ("method", "path", "status", "user")
_ACCESS_PATTERN = '`<ip> - <user> "<method> <path> <_>" <status> <size> <took>`'
_ACCESS_REGEXP = (
    '`(?P<ip>\\d+\\.\\d+\\.\\d+\\.\\d+) - (?P<user>\\S+) "(?P<method>\\w+) (?P<path>\\S+) [^"]*" (?P<status>\\d+)`'
)


class Generator:
    """One random query for each seed."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)

    def query(self) -> str:
        """A metric query: a vector."""
        text = self._vector(self._draw.choice([0, 1, 1, 2]))
        if self._draw.random() < 0.1:  # outermost alone: which of equal values it keeps is anybody's choice
            return f"{self._draw.choice(['topk', 'bottomk'])}({self._draw.randrange(1, 4)}, {text})"
        return text

    def _vector(self, depth: int) -> str:
        draw = self._draw
        if depth == 0:
            return self._range_aggregation()
        kind = draw.random()
        if kind < 0.5:
            return self._aggregation(depth)
        if kind < 0.7:
            return self._scalar_operation(depth)
        if kind < 0.9:
            return self._vector_operation(depth)
        return self._label_replace(depth)

    def _aggregation(self, depth: int) -> str:
        draw = self._draw
        op = draw.choice(["sum", "avg", "min", "max", "count", "stddev", "stdvar", "sort"])
        inner = self._vector(depth - 1)
        if op == "sort":
            return f"{draw.choice(['sort', 'sort_desc'])}({inner})"
        grouping = self._grouping()
        return f"{op} {grouping}({inner})" if draw.random() < 0.5 else f"{op}({inner}) {grouping}"

    def _grouping(self) -> str:
        draw = self._draw
        if draw.random() < 0.3:
            return ""
        labels = draw.sample(["job", "host", "env", "level", "user", "status", "trace"], draw.randrange(0, 3))
        return f"{draw.choice(['by', 'by', 'without'])} ({', '.join(labels)})"

    def _scalar_operation(self, depth: int) -> str:
        draw = self._draw
        number = draw.choice(["2", "0.5", "10", "0", "-1", "1e3"])
        op = draw.choice(["+", "-", "*", "/", "%", "^", ">", "<", ">=", "<=", "==", "!=", "> bool", "== bool"])
        inner = self._vector(depth - 1)
        return f"{inner} {op} {number}" if draw.random() < 0.7 else f"{number} {op} {inner}"

    def _vector_operation(self, depth: int) -> str:
        draw = self._draw
        labels = draw.sample(["job", "host", "env"], draw.randrange(1, 3))
        by = f"by ({', '.join(labels)})"
        left, right = (f"sum {by} ({self._vector(depth - 1)})" for _ in range(2))
        op = draw.choice(["+", "-", "*", "/", "%", ">", "<=", "> bool", "and", "or", "unless"])
        on = draw.choice(["", f" on ({', '.join(labels)})", " ignoring (level)"])
        return f"{left} {op}{on} {right}"

    def _label_replace(self, depth: int) -> str:
        source = self._draw.choice(["host", "job", "level"])
        pattern = self._draw.choice(["(.).*", "h(\\\\d)", "x.*", ""])
        target = self._draw.choice(["new", "host"])
        return f'label_replace({self._vector(depth - 1)}, "{target}", "v-$1", "{source}", "{pattern}")'

    # --- ranges of lines ---

    def _range_aggregation(self) -> str:
        draw = self._draw
        selector, parser, labels = self._source()
        span = draw.choice(["30s", "1m", "2m30s", "5m", "10m", "10m"])
        offset = draw.choice(["", "", "", " offset 1m", " offset 30s"])
        pipeline = self._pipeline(parser, labels)
        if parser and draw.random() < 0.4:
            return self._unwrapped(f"{selector}{pipeline}", f"[{span}]{offset}")
        op = draw.choice(
            [
                "count_over_time",
                "rate",
                "bytes_over_time",
                "bytes_rate",
                "count_over_time",
                "rate",
                "count_over_time",
                "rate",
                "absent_over_time",
            ]
        )
        return f"{op}({selector}{pipeline} [{span}]{offset})"

    def _unwrapped(self, lines: str, span: str) -> str:
        draw = self._draw
        unwrap = draw.choice(["status", "duration(took)", "duration_seconds(took)", "bytes(size)", "ratio"])
        clean = draw.choice([' | __error__=""', ' | __error__=""', ' | __error__=""', ""])
        op = draw.choice(["sum", "avg", "min", "max", "first", "last", "stddev", "stdvar", "quantile", "rate"])
        grouping = self._grouping() if op not in ("sum", "rate") else ""
        body = f"{lines} | unwrap {unwrap}{clean} {span}"
        if op == "rate":
            return f"rate({body})"
        if op == "quantile":
            return f"quantile_over_time({draw.choice(['0', '0.5', '0.9', '0.99', '1'])}, {body}) {grouping}"
        return f"{op}_over_time({body}) {grouping}"

    def _source(self) -> tuple[str, str, tuple[str, ...]]:
        """A stream selector, a parser that fits its lines, and the labels that it gives."""
        draw = self._draw
        more = draw.choice(["", ', env="prod"', ', host=~"h.*"', ', host!="h2"', ', env!~"te.t"'])
        kind = draw.choice(["api", "api", "web", "web", "proxy", "any"])
        if kind == "any":
            chosen = draw.choice(['job=~"api|web"', 'job=~".+"', 'job!="proxy", env=~".+"'])
            return f"{{{chosen}}}", draw.choice(["", "json", "logfmt"]), _LOGFMT_LABELS
        selector = f'{{job="{kind}"{more}}}'
        if draw.random() < 0.2:
            return selector, "", ("host", "env", "trace", "pod")
        if kind == "api":
            parser = draw.choice(
                [
                    "json",
                    "json",
                    'json level, path="request.path", tag="request.tags[1]"',
                    "unpack",
                    'json status="status"',
                ]
            )
            return selector, parser, _JSON_LABELS
        if kind == "web":
            parser = draw.choice(
                ["logfmt", "logfmt", "logfmt --strict", "logfmt --keep-empty", 'logfmt level, who="user", took, status']
            )
            return selector, parser, _LOGFMT_LABELS
        return selector, draw.choice([f"pattern {_ACCESS_PATTERN}", f"regexp {_ACCESS_REGEXP}"]), _ACCESS_LABELS

    def _pipeline(self, parser: str, labels: tuple[str, ...]) -> str:
        draw = self._draw
        stages = [self._line_filter() for _ in range(draw.choice([0, 0, 0, 1, 1, 2]))]
        if draw.random() < 0.1:
            stages.append("| decolorize")
        if parser:
            stages.append(f"| {parser}")
            if draw.random() < 0.6:
                stages.append('| __error__=""')
        stages += [self._after(labels) for _ in range(draw.choice([0, 0, 1, 2]))]
        return "".join(f" {stage}" for stage in stages)

    def _line_filter(self) -> str:
        return self._draw.choice(
            [
                '|= "error"',
                '!= "debug"',
                '|= "ok" or "failed"',
                '!= "ok" or "failed"',
                '|~ "4\\\\d\\\\d|5\\\\d\\\\d"',
                '|~ "(?i)ERROR"',
                '!~ "GET|timeout.*"',
                '|= ip("10.0.0.0/8")',
                '!= ip("192.168.1.1-192.168.1.9")',
                '|> "<_>orders<_>"',
                '!> "<_>login<_>"',
                '|= ""',
                '|= `"user"`',
            ]
        )

    def _after(self, labels: tuple[str, ...]) -> str:
        draw = self._draw
        label = draw.choice(labels)
        kind = draw.random()
        if kind < 0.4:
            return f"| {self._condition(label)}"
        if kind < 0.6:
            template = draw.choice(
                [
                    "{{.user}}-{{.status}}",
                    "{{ .level | upper }}",
                    '{{ if eq .level "error" }}bad{{ else }}good{{ end }}',
                ]
            )
            return f"| label_format new=`{template}`" if draw.random() < 0.6 else f"| label_format renamed={label}"
        if kind < 0.8:
            return "| line_format `{{.level}} {{.user | trunc 2}} {{ __line__ | len }}`"
        if kind < 0.9:
            return draw.choice([f"| drop {label}", f'| drop {label}="error", host', '| drop level=~"d.*"'])
        return f"| keep {draw.choice(['job, level', 'host, level, status', f'{label}, took, size, status, ratio'])}"

    def _condition(self, label: str) -> str:
        draw = self._draw
        parts = [
            draw.choice(
                [
                    f'{label}="error"',
                    f'{label}!=""',
                    f'{label}!="error"',
                    f'{label}!=""',
                    f'{label}=~"ada|2..|.*o.*"',
                    f'{label}!~"(e|d).*"',
                    "status >= 400",
                    "status == 200",
                    "took > 100ms",
                    "took <= 1s",
                    "size > 1KB",
                    "size < 1MiB",
                    "ratio != 0.5",
                    'ip = ip("10.0.0.0/8")',
                    'user="ada"',
                    'trace="t1"',
                ]
            )
            for _ in range(draw.choice([1, 1, 1, 2, 3]))
        ]
        text = parts[0]
        for part in parts[1:]:
            text = f"{text}{draw.choice([' and ', ' or ', ', ', ' '])}{part}"
        return text
