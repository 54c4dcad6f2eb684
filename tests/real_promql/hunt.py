"""Looks for queries that Sentinel and a real Prometheus answer differently: `python -m tests.real_promql.hunt`.

Each difference is shrunk: parts of the query are left out as long as the answers still differ in the same way.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from engine.promql.positions import tokens
from tests.parts import Prometheus, require
from tests.real_promql import prometheus
from tests.real_promql.comparison import Sentinel, difference
from tests.real_promql.expressions import Generator
from tests.real_promql.mutations import mutated
from tests.real_promql.series import generate
from tests.real_promql.times import times_of

_OPENING, _CLOSING = "([{", ")]}"


def shrunk(text: str, differs: Callable[[str], bool]) -> str:
    """A shorter query that differs, too."""
    found = True
    while found:
        found = False
        for shorter in sorted(set(_shorter(text)), key=len):
            if len(shorter) < len(text) and differs(shorter):
                text, found = shorter, True
                break
    return text


def _shorter(text: str) -> Iterator[str]:
    """The query without some tokens in a row, or only what a pair of brackets holds."""
    found = tokens(text)
    for i, token in enumerate(found):
        for j in range(i, min(len(found), i + 40)):
            part = [one.text for one in found[i : j + 1]]
            if sum(part.count(c) for c in _OPENING) == sum(part.count(c) for c in _CLOSING):
                yield text[: token.offset] + text[found[j].end :]
                yield text[token.offset : found[j].end]


def kind_of(difference_text: str) -> str:
    """What sort of difference it is."""
    return re.sub(r"[\d.e+-]+|b'.*?'", "", difference_text)[:12]


def main() -> None:
    """Ask both, and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", default="prometheus-3", choices=["prometheus", "prometheus-3"])
    parser.add_argument("--delayed-names", action="store_true")
    parser.add_argument("--data", type=int, default=1, help="seed of the data")
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 1000), help="first and last but one seed of queries")
    parser.add_argument("--mutated", action="store_true", help="queries with a mistake in them")
    parser.add_argument("--most", type=int, default=10, help="end after so many differences")
    chosen = parser.parse_args()
    newest = prometheus.version(require(chosen.part) / "prometheus")[0] >= 3
    series = generate(chosen.data, newest=newest)
    sentinel = Sentinel(series, chosen.delayed_names)
    with tempfile.TemporaryDirectory() as folder:
        flags = prometheus.flags(newest=newest, delayed_names=chosen.delayed_names)
        rival = Prometheus(Path(folder), prometheus.CONFIG, flags, chosen.part)
        rival.start()
        try:
            with httpx.Client(base_url=rival.url, timeout=30) as client:
                prometheus.write(client, series)
                found = 0
                for seed in range(*chosen.seeds):
                    text = Generator(seed, newest=newest, delayed_names=chosen.delayed_names).expression()
                    if chosen.mutated:
                        text = mutated(text, seed)
                    when = times_of(seed, newest=newest)

                    def differ(query: str, when: range = when) -> str:
                        return difference(query, sentinel.ask(query, when), prometheus.ask(client, query, when), notes=newest)

                    what = differ(text)
                    if what:
                        kind = kind_of(what)
                        small = shrunk(text, lambda query, kind=kind: kind_of(differ(query)) == kind)
                        print(f"seed {seed} {when}\n  {text!r}\n  {small!r}\n  {differ(small)[:600]}", flush=True)
                        found += 1
                        if found >= chosen.most:
                            return
        finally:
            rival.stop()


if __name__ == "__main__":
    main()
