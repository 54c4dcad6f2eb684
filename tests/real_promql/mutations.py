"""Queries with a mistake: a token is left out, doubled, swapped or replaced. Some still mean something, most do not.

Left out are an offset of NaN or infinity, which Prometheus takes for some number of milliseconds, and the functions
`start()` and `end()`, which are newer than what we test against.
"""

from __future__ import annotations

import re
from random import Random

from engine.promql.positions import tokens

_OTHERS = (
    "(", ")", "[", "]", "{", "}", ",", ":", "@", "-", "+", "*", "/", "^", "%", "==", "=", "!=", "=~", "!~", "<", ">",
    "and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset", "sum",
    "topk", "rate", "time", "vector", "scalar", "1", "0", "-1", "5m", "[5m]", "[5m:1m]", "'a'", "g", "@ start()", "end",
    "NaN", "inf", '"job"', "a:b", "count_values", "quantile", "label_join", "absent", "job", "atan2", "1.5", "__name__",
)  # fmt: skip


def mutated(text: str, seed: int) -> str:
    """The query with one mistake, sometimes two."""
    rng = Random(seed)
    for _ in range(rng.choice((1, 1, 2))):
        text = _once(text, rng)
    text = re.sub(r"(?<!@ )\b(start|end) \(", "time (", text)
    return re.sub(r"\boffset( [-+])? (?:nan|inf)\b", "offset 1m", text, flags=re.IGNORECASE)


def _once(text: str, rng: Random) -> str:
    parts = [token.text for token in tokens(text)]
    i, j = rng.randrange(len(parts)), rng.randrange(len(parts))
    match rng.randrange(5):
        case 0:
            del parts[i]
        case 1:
            parts.insert(j, parts[i])
        case 2:
            parts[i], parts[j] = parts[j], parts[i]
        case 3:
            parts[i] = rng.choice(_OTHERS)
        case _:
            parts.insert(i, rng.choice(_OTHERS))
    return " ".join(parts) or "g"
