"""Templates out of pieces: some make sense, some are refused by the parser, some fail when they run."""

from __future__ import annotations

import random
from itertools import product

VALUES = (
    *(
        "1",
        "0",
        "-1",
        "97",
        "128512",
        "-9223372036854775808",
        "1.0",
        "-2.5",
        "1234567.0",
        "1e21",
        "1e-7",
        "0.1",
        "$value",
    ),
    *(
        "5e-324",
        "true",
        '"x"',
        '"héllo"',
        '""',
        '"a`b"',
        r'"q\"\n\x00\u200b\xff"',
        "nil",
        "1i",
        "-0.5-3.25i",
        ".Labels",
    ),
    *(".Any.list", ".Any.map", ".Any.none", '(index "abc" 0)', "'a'", '(goDuration "90s")', "(unix 0.0).Month"),
)
_VERBS = "vTtbcdoOqxXUeEfFgGsz"
_FLAGS = ("", "", "+", "-", "#", " ", "0", "+0", "#+", "-0", "# ", "+-#0 ")
_WIDTHS = ("", "", "1", "5", "12")
_PRECISIONS = ("", "", ".", ".0", ".2", ".10")
_FORMATS = (
    *("%[2]d %[1]d", "%[1]d %d", "%[3]d", "%[x]d", "%[", "%[1", "%[]d", "%[0]d", "%*d", "%-*d|", "%.*f", "%[2]*[1]d"),
    *("%[2]*.[1]*f", "%.[2]*f", "%[1]*.2f", "%!", "%", "%5", "%.", "%+", "%[1]", "%[1]5d", "%[1].2f", "%d%d%d%d", "%%"),
    *("%5%", "x%", "%é", "%99999999999d", "%v %[1]v %v", "%2$d", "%ld", "%.*d", "%[-1]d", "%[1]x%[1]o", "%w"),
)
_ARGUMENTS = ("1 2", "3 4 5", '"a" 2', '1.5 "x" 3', "", "-5 42", "5 -3 1.25", "nil 1", "true false", ".Labels 3")
_PIECES = (
    *(
        " ",
        "text",
        "{{",
        "}}",
        "{{-",
        "-}}",
        " -}}",
        "{{- ",
        "\n",
        "(",
        ")",
        "|",
        " | ",
        ".",
        "..",
        ",",
        ":=",
        "=",
        "$",
    ),
    *("$x", "$value", "$labels.job", ".Labels.job", ".Any.list", ".Any.map.b.c", ".Any.none", '"a"', "`b`", "'c'", "1"),
    *(
        "2.5",
        "-3",
        "0x1F",
        "1_0",
        "nil",
        "true",
        "if ",
        "else",
        "end",
        "range ",
        "with ",
        "define ",
        "template ",
        "block ",
    ),
    *(
        "break",
        "continue",
        "print ",
        'printf "%v" ',
        "len ",
        "index ",
        "not ",
        "and ",
        "or ",
        "eq ",
        "toUpper ",
        "/*",
        "*/",
    ),
)
_WHOLE = (
    *(
        "{{if .Labels.job}}",
        "{{if 0}}",
        "{{else}}",
        "{{end}}",
        "{{else if 1}}",
        "{{else with 1}}",
        "{{range .Any.list}}",
    ),
    *("{{range $i, $x := .Any.map}}", "{{range $x := 3}}", "{{with $x := .Any.n}}", "{{with .Any.map}}", "{{break}}"),
    *(
        "{{continue}}",
        "{{$x := 1}}",
        "{{$x = 2}}",
        "{{$x}}",
        "{{$y := .}}",
        "{{$y}}",
        "{{.}}",
        "{{.b}}",
        "{{$.Labels.job}}",
    ),
    *(
        '{{define "t"}}',
        '{{template "t" .}}',
        '{{template "t"}}',
        '{{block "u" 1}}',
        "{{/* c */}}",
        "{{- /* c */ -}}",
        " a ",
    ),
    *("{{- 1 -}}", "\n", "{{print $x | len}}", "{{(index .Any.list 3).k}}", "{{or .Any.none $x}}", "{{if eq $x 1}}"),
)


def templates(seed: int, count: int) -> list[str]:
    """So many templates of each sort, always the same for a seed."""
    draw = random.Random(seed)
    out = [f'{{{{printf "{form}" {arguments}}}}}' for form, arguments in product(_FORMATS, _ARGUMENTS)]
    for _ in range(count):
        verb = "%" + "".join(map(draw.choice, (_FLAGS, _WIDTHS, _PRECISIONS, _VERBS)))
        out.append(f'{{{{printf "<{verb}>" {draw.choice(VALUES)}}}}}')
        name = draw.choice(
            ("eq", "ne", "lt", "le", "gt", "ge", "index", "slice", "and", "or", "print", "println", "js")
        )
        out.append(f"{{{{{name} {draw.choice(VALUES)} {draw.choice(VALUES)}}}}}")
        name = draw.choice(("html", "js", "urlquery", "len", "not", "slice", "toUpper", "print"))
        out.append(f"{{{{{draw.choice(VALUES)} | {name}}}}}")
        out.append("{{" + "".join(draw.choices(_PIECES, k=draw.randint(1, 7))) + "}}")
        out.append("".join(draw.choices(_PIECES, k=draw.randint(2, 12))))
        pieces = draw.choices(_WHOLE, k=draw.randint(2, 10))
        out.append("".join(piece for piece in pieces if "template" not in piece))
        out.append(nested(draw, 3))
    return out


def nested(draw: random.Random, depth: int) -> str:
    """A template whose branches are closed."""
    parts = []
    for _ in range(draw.randint(1, 4)):
        piece = draw.choice(_WHOLE)
        opens = any(piece.startswith("{{" + word) for word in ("if", "range", "with", "define", "block"))
        if not opens:
            parts.append("" if piece in ("{{end}}", "{{else}}") or piece.startswith("{{else ") else piece)
        elif depth:
            body = nested(draw, depth - 1)
            middle = draw.choice(("", "{{else}}" + nested(draw, depth - 1)))
            if "define" in piece or "block" in piece:  # one that calls itself in a loop would run for years
                body, middle = body.replace("{{template", "{{print"), ""
            parts.append(piece + body + middle + "{{end}}")
    return "".join(parts)
