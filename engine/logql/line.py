"""A log line on its way through a pipeline, and how labels that clash are told apart.

Labels come from three places. A name goes to the stream label, else to structured metadata, else to what a parser
found; whoever loses goes to `<name>_extracted`, where the parser wins over the metadata. Of two fields of one name the
first wins (Loki: `LabelsBuilder`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from engine.core.labels import Labels

ERROR = "__error__"
DETAILS = "__error_details__"
SUFFIX = "_extracted"


class Line:
    """The state of one line between stages; a stage changes it in place.

    `base` are the labels the line arrived with: parsed fields never take their names, even once they are dropped.
    `spilled` are names that lost metadata holds until a parser wants them. Most lines need only what `__init__` sets.
    """

    error = ""
    value = 1.0
    spilled: frozenset[str] = frozenset()

    def __init__(self, text: str, stream: Mapping[str, str], metadata: Mapping[str, str], t_ns: int = 0) -> None:
        self.text = text
        self.t_ns = t_ns
        self.labels: Labels = dict(stream)
        self.base: Mapping[str, str] = stream
        if metadata:
            self._add_metadata(metadata)

    def _add_metadata(self, metadata: Mapping[str, str]) -> None:
        lost = {}
        for name, value in metadata.items():
            if name in self.labels:
                lost[f"{name}{SUFFIX}"] = value
            else:
                self.labels[name] = value
        self.base = dict(self.labels)
        self.spilled = frozenset(lost)
        self.labels.update(lost)

    def add(self, name: str, value: str) -> None:
        """A label that a parser found."""
        if "\ufffd" in value:
            value = ""  # what was no UTF-8 is no value, as in Loki
        if name in self.base:
            name += SUFFIX
        if name not in self.labels or name in self.spilled:
            self.labels[name] = value
            if name in self.spilled:
                self.spilled -= {name}

    def copy(self) -> Line:
        """The line as it is now, to be changed apart from this one."""
        own = type(self)(self.text, self.labels, {}, self.t_ns)
        own.base, own.spilled = self.base, self.spilled
        return own

    def has_parsed(self, names: Iterable[str]) -> bool:
        """Whether parsers found a label for every one of these names."""
        return all(name in self.labels and name not in self.base for name in names)

    def fail(self, kind: str, details: str) -> None:
        """Note that a stage could not do its work; the line goes on, marked."""
        self.error = kind
        self.labels[ERROR] = kind
        self.labels[DETAILS] = details


Stage = Callable[[Line], bool]
"""Changes a line; False filters it out."""


def label_name(key: str) -> str:
    """A field's name as a label: what is no letter, digit or underscore becomes `_`, a leading digit gets one."""
    if key.isidentifier() and key.isascii():
        return key
    key = key.strip()
    name = "".join(c if c == "_" or (c.isascii() and c.isalnum()) else "_" for c in key)
    return f"_{name}" if name[:1].isdigit() else name
