"""`sentinel replay`: a bundle through the same rules again, compared transition by transition. It never acts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from engine.bundle import BundleError, BundleReader, Manifest, Recorded
from engine.cli.output import NO, Json, Stop, complain, say, say_json, show_problem
from engine.console.pages import clock_time, place
from engine.core.messages import Transition

if TYPE_CHECKING:
    from engine.core.rules import RuleGroup
    from engine.loading import Loaded
    from engine.replay import Comparison

Bundle = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle file.")]
Rules = Annotated[
    list[Path] | None,
    typer.Option("--rules", metavar="PATH", help="Use these rules, not those of then; repeatable."),
]
_DIFFERENCES_SHOWN = 50


def replay(bundle: Bundle, rules: Rules = None, json: Json = False) -> None:
    """Run recorded input through the rules of then (or of now) and compare; exit 1 if a transition differs."""
    if not bundle.is_file():
        raise Stop(f"{bundle}: there is no such file")
    from engine.loading import load, load_texts  # brings the rule languages, which other commands start faster without

    try:
        with BundleReader(bundle) as reader:
            groups = _groups(load(rules) if rules else load_texts(reader.manifest.rules))
            outcome = _run(reader, groups, reader.manifest)
    except BundleError as error:
        raise Stop(str(error)) from error
    if json:
        say_json(_as_json(outcome))
    else:
        _say(outcome)
    if not outcome.same:
        raise typer.Exit(NO)


def _groups(loaded: Loaded) -> list[RuleGroup]:
    if loaded.errors:
        for problem in loaded.errors:
            complain(show_problem(problem))
        raise Stop("the rules cannot be used", NO)
    return loaded.groups


def _run(reader: BundleReader, groups: list[RuleGroup], manifest: Manifest) -> Comparison:
    from engine.core.group import StepConfig
    from engine.replay import replay as run_again

    config = StepConfig(
        eager_per_s=manifest.config.eager_per_s,
        eager_grid_ms=manifest.config.eager_grid_ms,
        source_idle_ms=manifest.config.source_idle_ms,
        external_labels=manifest.config.external_labels,
        external_url=manifest.config.external_url,
    )
    screen = Console(stderr=True)
    columns = (TextColumn("replaying"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        task = progress.add_task("", total=1.0)

        def messages() -> Iterable[Recorded]:
            for message in reader.messages():
                progress.update(task, completed=reader.progress)
                yield message

        return run_again(messages(), groups, manifest.config.shards, config)


def _say(outcome: Comparison) -> None:
    say(f"{outcome.messages} messages: {outcome.samples} samples, {outcome.lines} log lines")
    for reason, count in sorted(outcome.dropped.items()):
        say(f"left out: {count} ({reason})")
    for failure in outcome.failures[:_DIFFERENCES_SHOWN]:
        say(f"rule failed: {failure.rule} at {clock_time(failure.at_ms)}: {failure.reason}")
    changes = [("-", transition) for transition in outcome.gone] + [("+", transition) for transition in outcome.added]
    changes.sort(key=lambda change: (change[1].at_ms, change[1].rule, change[0]))
    for sign, transition in changes[:_DIFFERENCES_SHOWN]:
        say(f"{sign} {_line(transition)}")
    if len(changes) > _DIFFERENCES_SHOWN:
        say(f"... and {len(changes) - _DIFFERENCES_SHOWN} more (--json has all)")
    count = len(outcome.identical)
    if outcome.same:
        say(f"all {count} transitions identical")
    else:
        say(f"{count} transitions identical, {len(outcome.gone)} gone (-), {len(outcome.added)} added (+)")


def _line(transition: Transition) -> str:
    change = f"{transition.previous} -> {transition.state}"
    return f"{clock_time(transition.at_ms)}  {transition.rule}  {change}  {place(transition.labels)}"


def _as_json(outcome: Comparison) -> dict[str, object]:
    return {
        "same": outcome.same,
        "messages": outcome.messages,
        "samples": outcome.samples,
        "lines": outcome.lines,
        "dropped": outcome.dropped,
        "failures": outcome.failures,
        "identical": len(outcome.identical),
        "gone": outcome.gone,
        "added": outcome.added,
    }
