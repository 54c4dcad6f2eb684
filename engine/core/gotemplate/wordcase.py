"""Upper and lower case as in Go, and capitals at the beginning of words in the two ways that Go programs do it."""

from __future__ import annotations

import unicodedata

_MIDDLE = frozenset(".:'\u00b7\u2018\u2019\u2024\u2027\ufe13\ufe52\ufe55\uff07\uff0e\uff1a")


def upper(text: str) -> str:
    """Go's `strings.ToUpper`: character by character, so that a ß stays one."""
    return text.upper() if text.isascii() else "".join([_one(sign.upper(), sign) for sign in text])


def lower(text: str) -> str:
    """Go's `strings.ToLower`: character by character, whatever stands beside it."""
    return text.lower() if text.isascii() else "".join([sign.lower()[0] for sign in text])


def _one(changed: str, sign: str) -> str:
    return changed if len(changed) == 1 else sign


def _is_letter(sign: str) -> bool:
    return sign.isalpha() or sign.isdecimal() or sign == "_"


def title_of_separators(text: str) -> str:
    """Go's `strings.Title`: a capital after everything that is no letter, digit or underscore."""
    out, before = [], " "
    for sign in text:
        starts = before.isspace() if before >= "\x80" and not _is_letter(before) else not _is_letter(before)
        out.append(_one(sign.title(), sign) if starts else sign)
        before = sign
    return "".join(out)


def title_of_words(text: str) -> str:
    """A capital for the first letter of each word by Unicode's word boundaries, the others as they are.

    Prometheus uses `cases.Title` with `NoLower`: `don't` and `a.b` are one word, `a-b` and `a..b` are two.
    """
    out, in_word, after_middle = [], False, False
    for sign in text:
        is_middle = sign in _MIDDLE
        if after_middle and is_middle:
            in_word = False
        if sign.lower() != sign.upper():
            out.append(sign if in_word else sign.title())
            in_word = True
        else:
            out.append(sign)
            in_word = in_word and (is_middle or _is_letter(sign) or unicodedata.category(sign)[0] == "M")
        after_middle = is_middle
    return "".join(out)
