"""Templates of log queries: `line_format` and `label_format`, with Loki's functions.

The data of a template are the labels of a line. A label that is missing is the empty string.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.core.gotemplate import loki_numbers, loki_text, loki_times, regexes
from engine.core.gotemplate import tree as t
from engine.core.gotemplate.builtins import BUILTINS
from engine.core.gotemplate.escaping import query_escape, query_unescape
from engine.core.gotemplate.execution import Program, Write, compile_tree
from engine.core.gotemplate.frame import UNSET, Frame
from engine.core.gotemplate.functions import Functions, function
from engine.core.gotemplate.parser import parse
from engine.core.gotemplate.times import Time
from engine.core.gotemplate.values import clean
from engine.core.gotemplate.wordcase import title_of_separators


@dataclass(slots=True)
class Context:
    """What the functions of one line may ask for."""

    line: str
    t_ns: int
    now_ms: int | None


@dataclass(frozen=True)
class LineTemplate:
    """A compiled template. `labels` are the labels that it can read; None if it may read any."""

    source: str
    labels: frozenset[str] | None
    program: Program = field(repr=False, compare=False)
    write: Write = field(repr=False, compare=False)
    slots: int = field(repr=False, compare=False)

    def execute(self, labels: Mapping[str, str], line: str = "", t_ns: int = 0, now_ms: int | None = None) -> str:
        """The text for a line with these labels, at `t_ns`. Raises `TemplateError`."""
        slots = [labels] + [UNSET] * (self.slots - 1)
        text = self.write(labels, Frame(self.program, Context(line, t_ns, now_ms), slots))
        return text if text.isascii() else clean(text)


def compile_line_template(source: str) -> LineTemplate:
    """Compile a template. Raises `ExpressionError` with the place of what Go's parser would refuse."""
    tree = parse(source, FUNCTIONS)
    program, write = compile_tree(tree, FUNCTIONS)
    return LineTemplate(source, _labels_read(tree), program, write, tree.main.slots)


def _labels_read(tree: t.Tree) -> frozenset[str] | None:
    """The labels that the templates name; None if the label set is used whole (`.`, `$`, `range`, `with`)."""
    return None if tree.defined else _names_of_nodes(tree.main.nodes)


def _names_of_nodes(nodes: t.Nodes) -> frozenset[str] | None:
    names: frozenset[str] = frozenset()
    for node in nodes:
        found = _names_of_node(node)
        if found is None:
            return None
        names |= found
    return names


def _names_of_node(node: t.Node) -> frozenset[str] | None:
    if isinstance(node, t.Text | t.Jump):
        return frozenset()
    if isinstance(node, t.Call) or (isinstance(node, t.Branch) and node.kind != "if"):
        return None
    names = _names_of_operand(node.pipeline)
    if isinstance(node, t.Action) or names is None:
        return names
    inner = _names_of_nodes([*node.body, *node.otherwise])
    return None if inner is None else names | inner


def _names_of_operand(operand: t.Operand) -> frozenset[str] | None:
    if isinstance(operand, t.Field):
        return frozenset(operand.names[:1])
    if isinstance(operand, t.Variable) and operand.name == "$":
        return frozenset(operand.names[:1]) or None
    if isinstance(operand, t.Dot):
        return None
    if isinstance(operand, t.Chain):
        return _names_of_operand(operand.head)
    names: frozenset[str] = frozenset()
    for command in operand.commands if isinstance(operand, t.Pipeline) else ():
        for inner in command.operands:
            found = _names_of_operand(inner)
            if found is None:
                return None
            names |= found
    return names


FUNCTIONS: Functions = {
    **BUILTINS,
    **loki_text.FUNCTIONS,
    **loki_numbers.FUNCTIONS,
    **loki_times.FUNCTIONS,
    "__line__": function(lambda frame: frame.context.line, takes_context=True),
    "__timestamp__": function(lambda frame: Time(frame.context.t_ns), takes_context=True),
    "title": function(title_of_separators, "string"),
    "count": function(regexes.count, "string string"),
    "regexReplaceAll": function(lambda regex, text, by: regexes.replace_all(regex, by, text), "string string string"),
    "regexReplaceAllLiteral": function(
        lambda regex, text, by: regexes.replace_all_literal(regex, by, text), "string string string"
    ),
    "urlencode": function(query_escape, "string"),
    "urldecode": function(query_unescape, "string"),
}
