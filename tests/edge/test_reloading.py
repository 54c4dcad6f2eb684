"""Rule files that change under a running process: taken as a whole, or not at all."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx

from engine.edge.node import running
from engine.edge.reloading import Reloader
from engine.edge.settings import Settings
from engine.loading import load
from tests.e2e.shop import ready, start_roles, tree
from tests.parts import free_ports
from tests.waiting import until

ONE = "groups: [{name: g, rules: [{alert: A, expr: x > 1}]}]"
TWO = "groups: [{name: g, rules: [{alert: A, expr: x > 1}, {alert: B, expr: y > 1}]}]"
BROKEN = "groups: [{name: g, rules: [{alert: A, expr: nope(x)}]}]"


def settings_for(tmp_path: Path) -> tuple[Settings, Path]:
    file = tmp_path / "own" / "rules.yml"
    file.parent.mkdir()
    file.write_text(ONE, encoding="utf-8")
    config = tree(tmp_path, "", "http://127.0.0.1:1")
    config["rules"] = {**config.get("rules", {}), "paths": [str(file.parent)]}
    return Settings.model_validate(config), file


async def test_a_right_file_is_taken_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    settings, file = settings_for(tmp_path)
    async with running(settings, ["router", "evaluator"], load(settings.rules.paths)) as node:
        await ready(node)
        reloader = Reloader(node)

        def names() -> list[str]:
            owned = node.parts["evaluator"].groups.values()
            return sorted(rule.name for groups in owned for group in groups for rule in group.rules)

        def successful() -> float | None:
            return node.telemetry.registry.get_sample_value("sentinel_rules_last_reload_successful")

        assert names() == ["A"]
        file.write_text(BROKEN, encoding="utf-8")
        assert not await reloader.reload("test")
        assert (names(), successful()) == (["A"], 0.0)
        file.write_text(TWO, encoding="utf-8")
        assert await reloader.reload("test")
        assert (names(), successful()) == (["A", "B"], 1.0)


async def test_sighup_loads_the_files_again(tmp_path: Path) -> None:
    _, file = settings_for(tmp_path)
    config = tree(tmp_path, "", "http://127.0.0.1:1")
    [port] = free_ports(1)
    config["http"]["listen"] = f"127.0.0.1:{port}"
    config["rules"] = {"paths": [str(file.parent)], "watch_s": 0}
    program = start_roles("router", config, tmp_path)

    async def reloaded() -> float:
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
        lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return float(lines["sentinel_rules_last_reload_success_timestamp_seconds"])

    async def is_up() -> bool:
        try:
            return await reloaded() > 0
        except httpx.TransportError:
            return False

    try:
        await until(is_up)
        before = await reloaded()
        program.process.send_signal(signal.SIGHUP)

        async def is_newer() -> bool:
            return await reloaded() > before

        await until(is_newer)
        assert '"rules.reloaded"' in program.log.read_text(encoding="utf-8")
    finally:
        program.kill()


async def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    settings, file = settings_for(tmp_path)
    settings = settings.model_copy(update={"rules": settings.rules.model_copy(update={"watch_s": 0.05})})
    async with running(settings, ["router", "evaluator"], load(settings.rules.paths)) as node:
        node.spawn("rule-files", Reloader(node).watch())
        file.write_text(TWO, encoding="utf-8")

        async def taken() -> bool:
            return len(node.loaded.groups[0].rules) == 2

        await until(taken)
