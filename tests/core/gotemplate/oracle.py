"""One set of data and functions for our templates and for the real text/template of Go (`oracle.go`)."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.core.expression import ExpressionError
from engine.core.gotemplate import loki, prometheus
from engine.core.gotemplate.execution import compile_tree
from engine.core.gotemplate.frame import UNSET, Frame
from engine.core.gotemplate.functions import Functions, function
from engine.core.gotemplate.loki_text import from_json
from engine.core.gotemplate.parser import parse
from engine.core.gotemplate.times import Time, parse_duration
from engine.core.gotemplate.values import Struct, TemplateError, clean
from engine.core.gotemplate.wordcase import title_of_separators

DOCUMENT = (
    '{"name": "a", "n": 3, "f": 1.5, "yes": true, "none": null, "list": [1, "two", [3], {"k": "v"}, null],'
    ' "empty": [], "map": {"b": {"c": "deep"}, "a": 1}, "text": "h\\u00e9llo", "zero": 0, "big": 1e21}'
)
LABELS = {
    "job": "bridge",
    "instance": "host.example.org:9090",
    "empty": "",
    "quote": 'say "hi"',
    "uni": "héllo wörld",
    "n": "42",
}
URL = "http://prom.example/x"
VARIABLES = ("$labels", "$externalLabels", "$externalURL", "$value")
FUNCTIONS: Functions = {
    **prometheus.FUNCTIONS,
    **{
        name: loki.FUNCTIONS[name]
        for name in (
            *("urldecode", "replace", "trimAll", "TrimLeft", "TrimRight", "trim", "contains", "repeat", "b64enc"),
            *("fromJson", "date", "toDateInZone"),
        )
    },
    "stringsTitle": function(title_of_separators, "string"),
    "unix": function(lambda ns: Time(int(ns)), "float64"),
    "goDuration": function(parse_duration, "string"),
}


@dataclass(frozen=True)
class Answer:
    """What became of a template: its text, or at which stage it failed ("parse", "run") and why."""

    text: str = ""
    stage: str = ""
    error: str = ""


def query(text: str) -> list[tuple[dict[str, str], float]]:
    """The answer to every query but two."""
    if text == "fail":
        raise TemplateError("query failed")
    if text == "none":
        return []
    return [({"__name__": "up", "job": "b"}, 1.0), ({"__name__": "up", "job": "a"}, 0.25)]


def ours(source: str) -> Answer:
    """What we make of a template."""
    try:
        tree = parse(source, FUNCTIONS, VARIABLES)
    except ExpressionError as error:
        return Answer(stage="parse", error=error.message)
    program, write = compile_tree(tree, FUNCTIONS)
    external = {"region": "eu"}
    fields = {
        "Labels": LABELS,
        "ExternalLabels": external,
        "ExternalURL": URL,
        "Value": 2.5,
        "Any": from_json(DOCUMENT),
    }
    dot = Struct("template.data", fields)
    slots = [dot, LABELS, external, URL, 2.5] + [UNSET] * (tree.main.slots - 5)
    context = prometheus.Context(URL, query, 0)
    try:
        return Answer(clean(write(dot, Frame(program, context, slots))))
    except TemplateError as error:
        return Answer(stage="run", error=str(error))


def build(folder: Path) -> Path:
    """The oracle, compiled in a folder with nothing but Go's standard library."""
    shutil.copy(Path(__file__).with_name("oracle.go"), folder / "main.go")
    (folder / "go.mod").write_text("module oracle\n\ngo 1.21\n")
    subprocess.run(["go", "build", "-o", "oracle", "."], cwd=folder, check=True, timeout=300)  # noqa: S607
    return folder / "oracle"


def theirs(program: Path, sources: Sequence[str]) -> list[Answer]:
    """What the real text/template makes of each template."""
    requests = "".join(
        json.dumps({"template": base64.b64encode(source.encode()).decode()}) + "\n" for source in sources
    )
    done = subprocess.run([program], input=requests.encode(), capture_output=True, check=True, timeout=100)  # noqa: S603
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return [
        Answer(answer.get("out", "").replace("main.", "template."), answer.get("stage", ""), answer.get("error", ""))
        for answer in answers
    ]
