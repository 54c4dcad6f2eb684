"""The incident report in Markdown, after the seed's template."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.response.record import IncidentRecord
from engine.response.report_parts import Candidate, Found, Line, Parts, clock_of, parts_of
from engine.response.words import count, line_of


def render(record: IncidentRecord) -> str:
    """The report of an incident, also of one that is still open. Times are UTC."""
    parts = parts_of(record)
    written = [
        f"# {line_of(parts.title)}",
        line_of(parts.state),
        "## Summary",
        " ".join(f"{line_of(text)}." for text in parts.summary),
        "## Timeline",
        "\n".join(_line(line) for line in parts.timeline),
        "## Impact",
        "\n".join(f"- {label}: {line_of(text)}" for label, text in parts.impact),
        "## Root Cause",
        _root_cause(parts),
        "## Resolution",
        "\n".join(f"- {_sentence(text)}" for text in parts.resolution),
        "## Action Items",
        "\n".join(f"- [ ] {line_of(item)} (Owner: , Due: )" for item in parts.action_items) or "- None recorded.",
        "## Lessons Learned",
        "\n".join(f"- {_sentence(text)}" for text in parts.lessons) or "- None recorded.",
    ]
    return "\n\n".join(written) + "\n"


def _line(line: Line) -> str:
    return f"- {clock_of(line.at_ms)} - {line_of(line.text)}" + (f" ({line_of(line.actor)})" if line.actor else "")


def _sentence(text: str) -> str:
    return line_of(text) + ("." if text.endswith(".") else "")


def _root_cause(parts: Parts) -> str:
    written = [line_of(parts.cause) + "." if parts.cause else "Not determined automatically."]
    if parts.candidates:
        written.append("\n".join(["Candidates:", "", *(_candidate(one) for one in parts.candidates)]))
    if parts.log_lines:
        written.append("Log lines that counted towards the alert:\n\n" + _quote(parts.log_lines))
    written += [f"### Evidence: {line_of(f.step)} ({clock_of(f.at_ms)})\n\n{_evidence(f)}" for f in parts.evidence]
    return "\n\n".join(written)


def _candidate(one: Candidate) -> str:
    shown = f", shown by {', '.join(line_of(name) for name in one.evidence)}" if one.evidence else ""
    return f"- {line_of(one.text)}{shown} (condition: {line_of(one.condition)})"


def _evidence(found: Found) -> str:
    if found.note:
        return line_of(found.note) + ("." if found.note.endswith(".") else "") + _body(found)
    table = [_table_row([line_of(name) for name in found.columns]), _table_row(["---"] * len(found.columns))]
    table += [_table_row([line_of(cell) for cell in row]) for row in found.rows]
    return "\n".join(table) + (f"\n\nand {count(found.more, 'more row')}" if found.more > 0 else "")


def _body(found: Found) -> str:
    return f"\n\n{_quote([found.body])}" if found.body else ""


def _table_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _quote(lines: Iterable[str]) -> str:
    return "\n".join("    " + " ".join(line.split()) for line in lines)
