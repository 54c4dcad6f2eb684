"""A syntax tree becomes functions: `compile_body` gives the one that writes a template's text.

Every operand and pipeline is `(dot, frame) -> value`, every node `(dot, frame) -> text`. What is known from the tree is
decided once: the types of constants, the number of arguments, which pieces can be left with `break`. Where Go decides
at run time that something is wrong, the function raises `TemplateError` when it runs, and not before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.core.gotemplate import tree as t
from engine.core.gotemplate.calls import Evaluate, compile_call, fails, field_of, fields_of, method_of
from engine.core.gotemplate.frame import UNSET, Frame
from engine.core.gotemplate.functions import Functions, ideal, written
from engine.core.gotemplate.printing import text
from engine.core.gotemplate.scanner import error_at
from engine.core.gotemplate.values import TemplateError, Value, is_true, to_bytes

Write = Callable[[Any, Frame], str]

MOST_ROUNDS = 100_000  # of one `range` over a number, which a log line may have supplied


@dataclass
class Program:
    """A compiled source: how to write its main template and those that it defines."""

    source: str
    functions: Functions
    bodies: dict[str, tuple[Write, int]] = field(default_factory=dict)

    def located(self, error: TemplateError, offset: int, written: str) -> TemplateError:
        """The error with the place of the action it came from; the innermost place counts."""
        if error.is_located:
            return error
        place = error_at(self.source, offset, "")
        shown = written if len(written) <= 60 else written[:57] + "..."
        located = TemplateError(f"{place.line}:{place.column}: executing <{shown}>: {error}")
        located.is_located = True
        return located


def compile_tree(tree: t.Tree, functions: Functions) -> tuple[Program, Write]:
    """The program of a tree, and the function for its main template."""
    program = Program(tree.source, functions)
    compiler = _Compiler(program)
    for name, body in tree.defined.items():
        program.bodies[name] = compiler.body(body.nodes), body.slots
    return program, compiler.body(tree.main.nodes)


class _Compiler:
    """Turns the nodes of one source into functions."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def body(self, nodes: Sequence[t.Node]) -> Write:
        """Nodes one after another."""
        if len(nodes) == 1:
            return self.node(nodes[0])
        if any(_may_jump(node) for node in nodes):
            writes = [self.node(node) for node in nodes]
            return lambda dot, frame: _until_jump(writes, dot, frame)
        parts: list[Any] = [node.text if isinstance(node, t.Text) else self.node(node) for node in nodes]
        return lambda dot, frame: "".join([part if type(part) is str else part(dot, frame) for part in parts])

    def node(self, node: t.Node) -> Write:
        """One node."""
        if isinstance(node, t.Text):
            content = node.text
            return lambda dot, frame: content
        if isinstance(node, t.Action):
            return self.action(node)
        if isinstance(node, t.Call):
            return self.call(node)
        if isinstance(node, t.Jump):
            return _jump(node.kind)
        if node.kind == "range":
            return self.loop(node)
        return self.choice(node)

    def guarded(self, write: Write, pipeline: t.Pipeline, written: str) -> Write:
        """The function, with the place in its errors."""
        located = self.program.located
        offset = pipeline.offset

        def guarded(dot: Any, frame: Frame) -> str:
            try:
                return write(dot, frame)
            except TemplateError as error:
                raise located(error, offset, written) from None

        return guarded

    def action(self, node: t.Action) -> Write:
        """A pipeline whose value is written, unless it goes into variables."""
        value_of = self.pipeline(node.pipeline)
        located, offset, written = self.program.located, node.pipeline.offset, node.written
        if node.pipeline.targets:
            return self.guarded(lambda dot, frame: (value_of(dot, frame), "")[1], node.pipeline, written)

        def write(dot: Any, frame: Frame) -> str:
            try:
                value = value_of(dot, frame)
                return value if type(value) is str else text(value)
            except TemplateError as error:
                raise located(error, offset, written) from None

        label = _only_label(node.pipeline)
        return write if label is None else _label_or(label, write)

    def choice(self, node: t.Branch) -> Write:
        """`if` and `with`."""
        then, otherwise = self.body(node.body), self.body(node.otherwise)
        moves_dot = node.kind == "with"
        condition = self.located_value(node)

        def write(dot: Any, frame: Frame) -> str:
            value = condition(dot, frame)
            if is_true(value):
                return then(value if moves_dot else dot, frame)
            return otherwise(dot, frame)

        return write

    def located_value(self, node: t.Branch) -> Evaluate:
        """The value of a branch's pipeline, with the place in its errors."""
        value_of = self.pipeline(node.pipeline)
        located, offset, written = self.program.located, node.pipeline.offset, node.written

        def value(dot: Any, frame: Frame) -> Value:
            try:
                return value_of(dot, frame)
            except TemplateError as error:
                raise located(error, offset, written) from None

        return value

    def loop(self, node: t.Branch) -> Write:
        """`range`."""
        body, otherwise = self.body(node.body), self.body(node.otherwise)
        collection = self.located_value(node)
        targets, located = node.pipeline.targets, self.program.located
        offset, written = node.pipeline.offset, node.written
        index_slot, element_slot = _loop_slots(node.pipeline)

        def write(dot: Any, frame: Frame) -> str:
            try:
                pairs = _pairs(collection(dot, frame), len(targets))
            except TemplateError as error:
                raise located(error, offset, written) from None
            out = []
            for key, element in pairs:
                if index_slot is not None:
                    frame.slots[index_slot] = key
                if element_slot is not None:
                    frame.slots[element_slot] = element
                out.append(body(element, frame))
                if frame.jump:
                    jump, frame.jump = frame.jump, ""
                    if jump == "break":
                        break
            return "".join(out) if pairs else otherwise(dot, frame)

        return write

    def call(self, node: t.Call) -> Write:
        """`template`."""
        name = node.name
        value_of = self.pipeline(node.pipeline) if node.pipeline else lambda dot, frame: None

        def write(dot: Any, frame: Frame) -> str:
            return frame.run(name, value_of(dot, frame))

        offset = node.pipeline.offset if node.pipeline else node.offset
        pipeline = t.Pipeline((), (), False, offset)
        return self.guarded(write, pipeline, f'template "{name}"')

    def pipeline(self, pipeline: t.Pipeline) -> Evaluate:
        """Commands, each with the value of the one before as its last argument."""
        value_of = self.command(pipeline.commands[0], None)
        for command in pipeline.commands[1:]:
            value_of = self.command(command, value_of)
        if not pipeline.targets:
            return value_of
        return _stored(value_of, pipeline.targets)

    def command(self, command: t.Command, before: Evaluate | None) -> Evaluate:
        """A function or method with its arguments, or a plain value."""
        head, arguments = command.operands[0], command.operands[1:]
        if isinstance(head, t.Function):
            known = self.program.functions[head.name]
            return compile_call(head.name, known, arguments, before, self.operand)
        if arguments or before is not None:
            if isinstance(head, t.Field | t.Variable | t.Chain) and head.names:
                return self.method(head, arguments, before)
            shown = f" {written(head)}" if isinstance(head, t.Number | t.String | t.Boolean) else ""
            return fails(f"can't give argument to non-function{shown}", before)
        if isinstance(head, t.Nil):
            return fails("nil is not a command", None)
        return self.operand(head)

    def method(
        self, head: t.Field | t.Variable | t.Chain, arguments: tuple[t.Operand, ...], before: Evaluate | None
    ) -> Evaluate:
        """The last name of a chain called with arguments."""
        receiver = self.receiver(head, head.names[:-1])
        operand, name = self.operand, head.names[-1]

        def value(dot: Any, frame: Frame) -> Value:
            given = None if before is None else before(dot, frame)
            target = receiver(dot, frame)
            known = method_of(target, name)
            if known is None:
                field_of(target, name)
                raise TemplateError(f"{name} is not a method but has arguments")
            final = None if before is None else lambda dot, frame: given
            return compile_call(name, known, arguments, final, operand)(dot, frame)

        return value

    def receiver(self, head: t.Field | t.Variable | t.Chain, names: tuple[str, ...]) -> Evaluate:
        """A head with the first of its names."""
        if isinstance(head, t.Field):
            return fields_of(lambda dot, frame: dot, names)
        if isinstance(head, t.Variable):
            return fields_of(_variable(head), names)
        return fields_of(self.operand(head.head), names)

    def operand(self, operand: t.Operand) -> Evaluate:
        """The value of an operand that gets no arguments."""
        if isinstance(operand, t.Dot):
            return lambda dot, frame: dot
        if isinstance(operand, t.Field) and len(operand.names) == 1:
            return _label(operand.names[0])
        if isinstance(operand, t.Field | t.Variable | t.Chain):
            return self.receiver(operand, operand.names)
        if isinstance(operand, t.Function):
            return compile_call(operand.name, self.program.functions[operand.name], (), None, self.operand)
        if isinstance(operand, t.Pipeline):
            return self.pipeline(operand)
        try:
            value = ideal(operand)
        except TemplateError as error:
            return fails(str(error), None)
        return lambda dot, frame: value


def _label(name: str) -> Evaluate:
    """A field of the dot; quick for a plain dict, which labels are."""

    def value(dot: Any, frame: Frame) -> Value:
        return dot.get(name, "") if type(dot) is dict else field_of(dot, name)

    return value


def _only_label(pipeline: t.Pipeline) -> str | None:
    """The name of the label that is all there is to a pipeline."""
    operands = pipeline.commands[0].operands
    if len(pipeline.commands) > 1 or len(operands) > 1 or not isinstance(operands[0], t.Field):
        return None
    return operands[0].names[0] if len(operands[0].names) == 1 else None


def _label_or(name: str, write: Write) -> Write:
    """The quick way to write a label: a plain dict with text in it; anything else goes the general way."""

    def write_label(dot: Any, frame: Frame) -> str:
        if type(dot) is dict:
            value = dot.get(name, "")
            if type(value) is str:
                return value
        return write(dot, frame)

    return write_label


def _variable(variable: t.Variable) -> Evaluate:
    slot, name = variable.slot, variable.name
    if slot is None:
        return fails(f"undefined variable: {name}", None)

    def value(dot: Any, frame: Frame) -> Value:
        found = frame.slots[slot]
        if found is UNSET:
            raise TemplateError(f"undefined variable: {name}")
        return found

    return value


def _stored(value_of: Evaluate, targets: Sequence[t.Variable]) -> Evaluate:
    """The value, kept in the variables as well."""
    missing = next((target.name for target in targets if target.slot is None), None)
    slots = [target.slot for target in targets if target.slot is not None]

    def value(dot: Any, frame: Frame) -> Value:
        result = value_of(dot, frame)
        for slot in slots:
            frame.slots[slot] = result
        if missing is not None:
            raise TemplateError(f"undefined variable: {missing}")
        return result

    return value


def _may_jump(node: t.Node) -> bool:
    """Whether `break` or `continue` can leave the node for a `range` around it."""
    if isinstance(node, t.Branch):
        inside = node.otherwise if node.kind == "range" else [*node.body, *node.otherwise]
        return any(map(_may_jump, inside))
    return isinstance(node, t.Jump)


def _until_jump(parts: Sequence[Write], dot: Any, frame: Frame) -> str:
    out = []
    for part in parts:
        out.append(part(dot, frame))
        if frame.jump:
            break
    return "".join(out)


def _jump(kind: str) -> Write:
    def write(dot: Any, frame: Frame) -> str:
        frame.jump = kind
        return ""

    return write


def _loop_slots(pipeline: t.Pipeline) -> tuple[int | None, int | None]:
    """Where a range puts the index and the element."""
    slots = [target.slot for target in pipeline.targets]
    if len(slots) == 2:
        return slots[0], slots[1]
    return None, slots[0] if slots else None


def _pairs(collection: Value, targets: int) -> Sequence[tuple[Value, Value]]:
    """What a range goes through: index and element, key and value in the order of keys, or numbers from 0."""
    if isinstance(collection, Mapping):
        return [(key, collection[key]) for key in sorted(collection, key=to_bytes)]
    if isinstance(collection, list):
        return list(enumerate(collection))
    if isinstance(collection, int) and not isinstance(collection, bool):
        if targets > 1:
            raise TemplateError(f"can't use {text(collection)} to iterate over more than one variable")
        if collection > MOST_ROUNDS:
            raise TemplateError(f"range over {int(collection)} is too long (the most is {MOST_ROUNDS})")
        kind = type(collection)
        return [(None, kind(number)) for number in range(collection)]
    if collection is None:
        return []
    raise TemplateError(f"range can't iterate over {text(collection)}")
