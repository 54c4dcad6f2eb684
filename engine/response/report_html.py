"""The incident report as one HTML file that needs nothing else: the Markdown report's parts, and the metric's plot.

The template escapes everything; the plot is the only part that is taken as it is, and an XML writer made it.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from engine.response.plot import Mark, plot
from engine.response.record import IncidentRecord, timeline
from engine.response.report_parts import Parts, clock_of, parts_of
from engine.response.series import AROUND_MS

STYLE = """
:root { color-scheme: light dark; --ground: #f6f7f9; --raised: #fff; --line: #dcdfe5; --ink: #1b1f27; --quiet: #5d6675;
  --value: #1d4fb8; --bad: #a11d1d; --warn: #8a5a00; --good: #17693f; }
@media (prefers-color-scheme: dark) { :root { --ground: #12151b; --raised: #1a1e26; --line: #2e3440; --ink: #e4e7ec;
  --quiet: #98a2b3; --value: #8ab4ff; --bad: #ff9d97; --warn: #f5c56b; --good: #7fdca6; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.55 system-ui, "Segoe UI", sans-serif; }
main { max-width: 980px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 25px; line-height: 1.25; margin: 0 0 4px; }
h2 { font-size: 17px; margin: 30px 0 8px; padding-bottom: 4px; border-bottom: 1px solid var(--line); }
h3 { font-size: 15px; margin: 16px 0 6px; }
p { margin: 6px 0; } ul, ol { margin: 6px 0; padding-left: 20px; }
.quiet { color: var(--quiet); } .small { font-size: 13px; }
.card { background: var(--raised); border: 1px solid var(--line); border-radius: 8px; padding: 14px 16px;
  margin: 12px 0; }
figure { margin: 12px 0; } figcaption { color: var(--quiet); font-size: 13px; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; margin: 6px 0; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--quiet); font-weight: 600; }
th, td { padding: 5px 12px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
td.at { white-space: nowrap; color: var(--quiet); width: 1%; }
pre, code { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: 13px; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 6px 0; }
.plot { width: 100%; height: auto; display: block; font: 12px system-ui, sans-serif; }
.plot .grid { stroke: var(--line); } .plot .tick { fill: var(--quiet); } .plot .end { text-anchor: end; }
.plot .middle { text-anchor: middle; }
.plot .value { fill: none; stroke: var(--value); stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.plot .threshold { stroke: var(--bad); stroke-dasharray: 6 4; } .plot .threshold-label { fill: var(--bad); }
.plot .mark { stroke-width: 1.5; } .plot .mark-label { font-weight: 600; }
.plot .fired { stroke: var(--bad); } .plot .acted { stroke: var(--warn); } .plot .resolved { stroke: var(--good); }
.plot text.fired { fill: var(--bad); stroke: none; } .plot text.acted { fill: var(--warn); stroke: none; }
.plot text.resolved { fill: var(--good); stroke: none; }
@media print { body { background: #fff; } .card { break-inside: avoid; } }
"""

POLICY = (
    "default-src 'none'; style-src 'sha256-"
    + b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The content-security policy under which the page is whole: its own style, nothing else."""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ parts.title }}</title>
<style>{{ style }}</style>
</head>
<body><main>
<h1>{{ parts.title }}</h1>
<p class="quiet">{{ parts.state }}</p>
<figure class="card">
{% if svg %}{{ svg }}{% endif %}
<figcaption>{{ caption }}</figcaption>
</figure>
<h2>Summary</h2>
{% for text in parts.summary %}<p>{{ text }}</p>
{% endfor %}
<h2>Impact</h2>
<dl>{% for label, text in parts.impact %}<dt>{{ label }}</dt><dd>{{ text }}</dd>
{% endfor %}</dl>
<h2>Timeline</h2>
<table>{% for line in parts.timeline %}
<tr><td class="at">{{ line.at_ms | clock }}</td><td>{{ line.text }}{% if line.actor %}
 <span class="quiet">({{ line.actor }})</span>{% endif %}</td></tr>{% endfor %}
</table>
<h2>Root cause</h2>
<p>{{ parts.cause or "Not determined automatically." }}</p>
{% if parts.candidates %}<ul>{% for one in parts.candidates %}
<li>{{ one.text }} <span class="quiet small">because <code>{{ one.condition }}</code>
{%- if one.evidence %}, shown by {{ one.evidence | join(", ") }}{% endif %}</span></li>{% endfor %}
</ul>{% endif %}
{% if parts.log_lines %}<h3>Log lines that counted towards the alert</h3>
<div class="card"><pre>{% for line in parts.log_lines %}{{ line }}
{% endfor %}</pre></div>{% endif %}
{% for found in parts.evidence %}
<div class="card"><h3>{{ found.step }} <span class="quiet small">{{ found.at_ms | clock }}</span></h3>
{% if found.note %}<p>{{ found.note }}</p>{% endif %}
{% if found.body %}<pre>{{ found.body }}</pre>{% endif %}
{% if found.rows %}<table><tr>{% for name in found.columns %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in found.rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>{% endif %}
{% if found.more > 0 %}<p class="quiet">and {{ found.more }} more</p>{% endif %}
</div>{% endfor %}
<h2>Resolution</h2>
<ul>{% for text in parts.resolution %}<li>{{ text }}</li>
{% endfor %}</ul>
<h2>Action items</h2>
{% if parts.action_items %}<table><tr><th>What</th><th>Owner</th><th>Due</th></tr>
{% for item in parts.action_items %}<tr><td>{{ item }}</td><td></td><td></td></tr>
{% endfor %}</table>{% else %}<p class="quiet">None recorded.</p>{% endif %}
<h2>Lessons learned</h2>
{% if parts.lessons %}<ul>{% for text in parts.lessons %}<li>{{ text }}</li>
{% endfor %}</ul>{% else %}<p class="quiet">None recorded.</p>{% endif %}
</main></body>
</html>
"""

_environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
_environment.filters["clock"] = clock_of
_template = _environment.from_string(_PAGE)


def render_html(record: IncidentRecord, now_ms: int) -> str:
    """The report as a page, also of an incident that is still open."""
    parts: Parts = parts_of(record)
    svg, caption = _figure(record, now_ms)
    style = Markup(STYLE)  # noqa: S704  # a constant of ours
    return _template.render(parts=parts, style=style, svg=Markup(svg), caption=caption)  # noqa: S704  # of an XML writer


def _figure(record: IncidentRecord, now_ms: int) -> tuple[str, str]:
    """The plot, "" without values, and what is written under it."""
    series = record.series
    if series is None or not series.points:
        why = f": {series.error}" if series is not None and series.error else ""
        return "", f"No values of the alert's metric are kept{why}"
    began_ms = min(alert.fired_ms for alert in record.state.alerts.values())
    ended_ms = record.state.resolved_ms or now_ms
    shown = plot(series, _marks(record), began_ms - AROUND_MS, min(now_ms, ended_ms + AROUND_MS))
    return shown, f"{series.query}, times in UTC"


def _marks(record: IncidentRecord) -> list[Mark]:
    """When it fired, when something was done, when it was over."""
    state = record.state
    marks = [Mark(e.at_ms, "fired", "fired") for e in timeline(record) if e.kind == "alert.firing"][:3]
    marks += [Mark(row.issued_ms, "acted", row.action) for row in record.commands][:5]
    if state.resolved_ms is not None:
        marks.append(Mark(state.resolved_ms, "resolved", state.status))
    return marks
