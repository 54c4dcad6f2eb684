"""Looks for queries that Sentinel and a real Prometheus answer differently: `python -m tests.real_promql.hunt`.

Each difference is shrunk: parts of the query are left out as long as the answers still differ in the same way.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.promql.positions import tokens
from tests.real_promql.comparison import Duel

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
    with (
        tempfile.TemporaryDirectory() as folder,
        Duel.of(chosen.part, Path(folder), chosen.data, chosen.delayed_names) as duel,
    ):
        found = 0
        for seed in range(*chosen.seeds):
            text, when = duel.draw(seed, mistaken=chosen.mutated)
            what = duel.difference(text, when)
            if what:
                kind = kind_of(what)
                small = shrunk(text, lambda query, when=when, kind=kind: kind_of(duel.difference(query, when)) == kind)
                print(
                    f"seed {seed} {when}\n  {text!r}\n  {small!r}\n  {duel.difference(small, when)[:600]}", flush=True
                )
                found += 1
                if found >= chosen.most:
                    return


if __name__ == "__main__":
    main()
