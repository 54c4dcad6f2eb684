"""Generated log lines of the kinds that services write: JSON, logfmt, access logs; some of them broken."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

from engine.core.labels import Labels
from engine.core.messages import LogEntry

SPAN_S = 600
LEVELS = ("debug", "info", "warn", "error")
USERS = ("ada", "bob", "eve", "zoë")
PATHS = ("/", "/login", "/api/orders", "/api/orders/7", "/static/app.js")
STREAMS: tuple[Labels, ...] = tuple(
    {"job": job, "host": host, "env": env}
    for job, env in (("api", "prod"), ("web", "prod"), ("proxy", "prod"), ("api", "test"))
    for host in ("h1", "h2")
)


def generate(seed: int, start_ms: int, count: int = 1_600) -> list[tuple[Labels, list[LogEntry]]]:
    """Streams with their lines, `SPAN_S` seconds from `start_ms` on; no two lines have one time."""
    draw = random.Random(seed)
    found: list[tuple[Labels, list[LogEntry]]] = []
    for number, stream in enumerate(STREAMS):
        times = sorted(draw.sample(range(SPAN_S * 1_000_000), count // len(STREAMS)))
        entries = [
            LogEntry(start_ms * 1_000_000 + t_us * 1_000 + number, line(draw, stream["job"]), metadata(draw))
            for t_us in times
        ]
        found.append((stream, entries))
    return found


def metadata(draw: random.Random) -> dict[str, str]:
    """Structured metadata, on some lines."""
    return {"trace": f"t{draw.randrange(5)}", "pod": f"p{draw.randrange(3)}"} if draw.random() < 0.3 else {}


def line(draw: random.Random, job: str) -> str:
    """One line as a service of this kind writes it."""
    return {"api": _json, "web": _logfmt, "proxy": _access}[job](draw)


def _address(draw: random.Random) -> str:
    return draw.choice(["10.0.0.", "10.1.2.", "192.168.1.", "203.0.113."]) + str(draw.randrange(1, 20))


def _took(draw: random.Random) -> str:
    return draw.choice([f"{draw.randrange(1, 900)}ms", f"{draw.randrange(1, 40) / 10:g}s", "1m2s", "250us"])


def _size(draw: random.Random) -> str:
    return draw.choice(
        [f"{draw.randrange(1, 2000)}B", f"{draw.randrange(1, 50)}KB", f"{draw.randrange(1, 9)}MiB", "17"]
    )


def _fields(draw: random.Random) -> Iterator[tuple[str, object]]:
    yield "level", draw.choice(LEVELS)
    yield "msg", draw.choice(["ok", "payment failed", "user logged in", "timeout waiting", "fälle"])
    if draw.random() < 0.9:
        yield "user", draw.choice(USERS)
    if draw.random() < 0.9:
        yield "took", _took(draw)
    if draw.random() < 0.8:
        yield "size", _size(draw)
    yield "status", draw.choice([200, 200, 201, 404, 500, 503])
    if draw.random() < 0.5:
        yield "ratio", round(draw.uniform(-2, 2), 3)
    if draw.random() < 0.3:
        yield "host", draw.choice(["inner", ""])


def _json(draw: random.Random) -> str:
    fields: dict[str, object] = dict(_fields(draw))
    fields["request"] = {"path": draw.choice(PATHS), "ip": _address(draw), "tags": ["a", draw.choice("bc")]}
    if draw.random() < 0.2:
        fields["ok"], fields["none"] = draw.random() < 0.5, None
    text = json.dumps(fields, ensure_ascii=draw.random() < 0.5)
    if draw.random() < 0.04:
        return text[: draw.randrange(1, len(text))]
    return json.dumps({"_entry": text, "packed": "yes"}) if draw.random() < 0.05 else text


def _logfmt(draw: random.Random) -> str:
    parts = []
    for name, value in _fields(draw):
        text = str(value)
        parts.append(f'{name}="{text}"' if " " in text or draw.random() < 0.1 else f"{name}={text}")
    if draw.random() < 0.1:
        parts.insert(draw.randrange(len(parts)), draw.choice(["alone", 'bad="open', "empty=", '="x"']))
    return " ".join(parts)


def _access(draw: random.Random) -> str:
    status, size = draw.choice([200, 301, 404, 500]), draw.randrange(10, 9_000)
    method = draw.choice(["GET", "POST", "DELETE"])
    request = f'"{method} {draw.choice(PATHS)} HTTP/1.1"'
    text = f"{_address(draw)} - {draw.choice(USERS)} {request} {status} {size} {_took(draw)}"
    return f"\x1b[31m{text}" if draw.random() < 0.1 else text
