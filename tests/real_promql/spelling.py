"""The many ways in which PromQL lets one thing be written: numbers, strings, durations, keywords, matchers."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

NUMBERS = (
    "0", "1", "2.5", "0.5", ".5", "5.", "1e3", "1E-2", "1e+2", "0x1F", "0Xff", "017", "08", "40", "7", "-3", "+4",
    "-0", "NaN", "nan", "Inf", "+Inf", "-inf", "1e-300", "1.7976931348623157e308", "9007199254740993",
)  # fmt: skip
NEW_NUMBERS = ("5m", "1h30m", "1_000", "0x_1f", "1ms", "1e1_0")
MATCHERS = (
    '{L}="{V}"', '{L}!="{V}"', '{L}=~"{V}"', '{L}!~"{V}"', '{L}=""', '{L}!=""', '{L}=~".*"', '{L}=~".+"', '{L}!~".+"',
    '{L}=~"|{V}"', '{L}=~"{V}|"', '{L}=~"(?i){V}"', '{L}=~"[a{V}]"', '{L}!~"[^{V}]"', '{L}=~"."', '{L}=~".{{2,}}"',
    '{L}=~"^{V}$"', '{L}=~"{V}.*|b"', '{L}=~"\\\\d"', '{L}=~`\\pL+`', '{L}=~"\\\\x61"', '{L}=~"(?:)"', "{L}='{V}'",
    "{L}=`{V}`", '{L}="\\u0061"', '{L}="\\141"', '{L}="\\x62"', '{L}=~"Ä|É.*"', '{L}=~"a|[^b]*"', '{L}=~"(a)|(b)"',
)  # fmt: skip


class Spelling:
    """Draws spellings. `newest` also draws what came with Prometheus 3."""

    def __init__(self, rng: Random, *, newest: bool) -> None:
        self.rng = rng
        self.newest = newest

    def pick(self, what: Sequence[str]) -> str:
        """One of these."""
        return self.rng.choice(what)

    def maybe(self, share: float) -> bool:
        """True in so many cases."""
        return self.rng.random() < share

    def number(self) -> str:
        """A number, special values among them."""
        return self.pick((*NUMBERS, *NEW_NUMBERS) if self.newest and self.maybe(0.3) else NUMBERS)

    def word(self, keyword: str) -> str:
        """A keyword in some case."""
        return self.pick([keyword, keyword, keyword, keyword.upper(), keyword.capitalize()])

    def duration(self, minutes: int) -> str:
        """A duration of some minutes."""
        forms = [f"{minutes}m", f"{minutes}m", f"{minutes * 60}s", f"{minutes * 60_000}ms"]
        if minutes > 1:
            forms += [f"{minutes - 1}m60s", f"{minutes - 1}m59s1000ms"]
        if self.newest:
            forms += [f"{minutes * 60}", f"{minutes * 60}.0"]
        return self.pick(forms)

    def labels(self, names: Sequence[str], count: int) -> str:
        """Label names in parentheses."""
        chosen = self.rng.sample(names, count)
        if self.newest and self.maybe(0.2):
            chosen = [name if name[0] == '"' else f'"{name}"' for name in chosen]
        comma = "," if chosen and self.maybe(0.1) else ""
        return f"({', '.join(chosen)}{comma})"

    def matcher(self, label: str, value: str) -> str:
        """A matcher of a label."""
        return self.pick(MATCHERS).format(L=label, V=value)

    def blank(self) -> str:
        """What may stand between two tokens."""
        return self.pick([" ", " ", " ", "  ", "\n", "\t", " # a comment\n"])
