"""`postgres.alter_system`: values as the server takes them, and a real server that is reloaded."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from engine.actions import Environment, Plan, RefusedError, Undo, load_actions
from engine.actions.postgres_alter_system import Setting, same_value, server_value
from engine.core.messages import Target
from tests.actions.conftest import Work

ACTION = load_actions()["postgres.alter_system"]
TARGET = Target("postgres", "main")
SETTING = "checkpoint_timeout"  # 300 s by default, 30 s to a day, reloaded
ALLOWED = (SETTING, "log_statement", "log_duration", "random_page_cost", "fsync", "max_connections", "archive_command")


def setting(type_: str, unit: str | None = None, low: str | None = None, high: str | None = None) -> Setting:
    return Setting(
        name="s",
        type=type_,
        context="sighup",
        unit=unit,
        min=low,
        max=high,
        choices=["none", "ddl", "on"],
        value="1",
        source="default",
        file=None,
        pending_restart=False,
        quoted="s",
        alterable=True,
        reloadable=True,
    )


KILOBYTES = setting("integer", "kB", "64", "2147483647")
BLOCKS = setting("integer", "8kB", "16", "1073741823")
SECONDS = setting("integer", "s", "30", "86400")
MILLISECONDS = setting("real", "ms", "-1", "100")
COUNT = setting("integer", None, "-1", "100")
SWITCH = setting("bool")
CHOICE = setting("enum")


@pytest.mark.parametrize(
    ("one", "value", "sent"),
    [
        (KILOBYTES, 4096, "4096"),
        (KILOBYTES, "64MB", "65536"),
        (KILOBYTES, " 1.5 GB ", "1572864"),
        (KILOBYTES, "65536 B", "64"),
        (BLOCKS, "128MB", "16384"),
        (BLOCKS, "16kB", None),
        (SECONDS, "5min", "300"),
        (SECONDS, "1 d", "86400"),
        (SECONDS, "30000ms", "30"),
        (SECONDS, "30500ms", None),
        (SECONDS, "5MB", None),
        (SECONDS, "5 MIN", None),
        (SECONDS, 29, None),
        (SECONDS, 86401, None),
        (SECONDS, "1e2", "100"),
        (SECONDS, True, None),
        (SECONDS, "", None),
        (SECONDS, "NaN", None),
        (SECONDS, "300'; select pg_reload_conf(); --", None),
        (MILLISECONDS, 2.5, "2.5"),
        (MILLISECONDS, "500us", "0.5"),
        (MILLISECONDS, -1, "-1"),
        (MILLISECONDS, float("inf"), None),
        (MILLISECONDS, float("nan"), None),
        (COUNT, 100, "100"),
        (COUNT, "5s", None),
        (COUNT, "1.2.3", None),
        (SWITCH, True, "on"),
        (SWITCH, "OFF", "off"),
        (SWITCH, "yes please", None),
        (SWITCH, 1, None),
        (CHOICE, "DDL", "ddl"),
        (CHOICE, True, "on"),
        (CHOICE, "all", None),
        (CHOICE, "ddl'; --", None),
    ],
    ids=str,
)
def test_a_value_is_sent_in_the_settings_own_unit_or_refused(one: Setting, value: Any, sent: str | None) -> None:
    if sent is not None:
        assert server_value(one, value) == sent
    else:
        with pytest.raises(RefusedError, match=r"^s ") as caught:
            server_value(one, value)
        assert caught.value.reason == "bad_value"


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans()))
def test_what_is_sent_is_a_number_within_the_limits_whatever_was_asked_for(value: Any) -> None:
    try:
        sent = server_value(MILLISECONDS, value)
    except RefusedError:
        return
    assert -1 <= float(sent) <= 100
    assert set(sent) <= set("-.0123456789")
    assert same_value(structs.replace(MILLISECONDS, value=sent), sent)


# On a server --------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def granted(work: Work, env: Environment) -> AsyncIterator[Environment]:
    """The environment of a role with the grants that `permissions` names; the server is as before afterwards."""
    names = ", ".join(ALLOWED)
    await work.admin.execute(f"grant alter system on parameter {names} to doer")
    await work.admin.execute("grant execute on function pg_reload_conf() to doer")
    await work.admin.execute("grant execute on function pg_reload_conf() to weak")
    yield dataclasses.replace(env, postgres_settings=frozenset(ALLOWED))
    await work.admin.execute("alter system reset all")
    await work.admin.fetchval("select pg_reload_conf()")
    await work.admin.execute(f"revoke alter system on parameter {names} from doer")
    await work.admin.execute("revoke execute on function pg_reload_conf() from doer, weak")


def params(value: Any = None, name: str = SETTING) -> Any:
    return ACTION.decode_params({"setting": name, "value": value})


async def changed(env: Environment, wanted: Any) -> Plan:
    """The plan, carried out and verified."""
    plan = await ACTION.plan(env, TARGET, wanted)
    assert plan.changes, plan
    result = await ACTION.run(env, TARGET, wanted, plan)
    assert (result.status, result.detail["reloaded"]) == ("done", True)
    check = await ACTION.verify(env, TARGET, wanted, plan)
    assert check.state == "yes", check
    return plan


async def undo(env: Environment, wanted: Any, plan: Plan) -> Undo:
    assert ACTION.undo is not None
    taken_back = ACTION.undo(wanted, plan)
    assert taken_back is not None
    await changed(env, ACTION.decode_params(taken_back.params))
    return taken_back


async def value_now(work: Work, name: str = SETTING) -> str:
    conn = await work.connect("app")
    return str(await conn.fetchval("select current_setting($1)", name))


async def test_a_setting_is_changed_and_taken_back_step_by_step(work: Work, granted: Environment) -> None:
    first = await changed(granted, params("10min"))
    assert first.changes[0]["after"] == "600"
    assert await value_now(work) == "10min"
    second = await changed(granted, params("15min"))
    back = await undo(granted, params("15min"), second)
    assert back == Undo("postgres.alter_system", {"setting": SETTING, "value": "600"})
    assert await value_now(work) == "10min"
    back = await undo(granted, params("10min"), first)
    assert back.params == {"setting": SETTING, "value": None}
    assert await value_now(work) == "5min"


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [("log_statement", "ddl", "ddl"), ("log_duration", True, "on"), ("random_page_cost", 1.1, "1.1")],
)
async def test_switches_choices_and_fractions_are_changed_too(
    work: Work, granted: Environment, name: str, value: Any, shown: str
) -> None:
    await changed(granted, params(value, name))
    assert await value_now(work, name) == shown


async def test_what_is_so_already_is_nothing_to_do(work: Work, granted: Environment) -> None:
    assert (await ACTION.plan(granted, TARGET, params("5min"))).changes == []
    assert (await ACTION.plan(granted, TARGET, params(None))).changes == []
    await changed(granted, params(600))
    assert (await ACTION.plan(granted, TARGET, params("10min", SETTING.upper()))).changes == []


async def test_a_plan_alone_and_a_crash_before_the_reload_are_seen_as_not_done(
    work: Work, granted: Environment
) -> None:
    plan = await ACTION.plan(granted, TARGET, params(600))
    env = dataclasses.replace(granted, sleep=_no_wait)
    assert (await ACTION.verify(env, TARGET, params(600), plan)).state == "no"
    await work.admin.execute(f"alter system set {SETTING} = '600'")
    assert (await ACTION.verify(env, TARGET, params(600), plan)).state == "no"
    await work.admin.fetchval("select pg_reload_conf()")
    assert (await ACTION.verify(granted, TARGET, params(600), plan)).state == "yes"


async def _no_wait(duration_s: float) -> None:
    """Time passes at once."""


async def test_a_setting_that_somebody_changed_since_the_plan_is_left_to_them(work: Work, granted: Environment) -> None:
    plan = await ACTION.plan(granted, TARGET, params(600))
    await changed(granted, params(900))
    with pytest.raises(RefusedError) as caught:
        await ACTION.run(granted, TARGET, params(600), plan)
    assert caught.value.reason == "setting_changed"
    assert await value_now(work) == "15min"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("work_mem", "64MB", "setting_not_allowed"),
        ("shop.no_such", 1, "no_such_setting"),
        ("server_version_num", 1, "setting_is_fixed"),
        ("port", 5433, "needs_restart"),
        ("archive_command", "rm -rf /", "value_not_checkable"),
        ("fsync", False, "setting_overridden"),
        (SETTING, "10 parsecs", "bad_value"),
        (SETTING, "600'; alter system set fsync = off; --", "bad_value"),
    ],
)
async def test_what_may_not_be_changed_is_refused_with_a_reason(
    work: Work, granted: Environment, name: str, value: Any, reason: str
) -> None:
    also = granted.postgres_settings | {"shop.no_such", "server_version_num", "port"}
    env = dataclasses.replace(granted, postgres_settings=also)
    with pytest.raises(RefusedError) as caught:
        await ACTION.plan(env, TARGET, params(value, name))
    assert caught.value.reason == reason


async def test_a_value_for_one_role_outweighs_and_is_named(work: Work, granted: Environment) -> None:
    await work.admin.execute("alter role doer set random_page_cost = 2")
    with pytest.raises(RefusedError, match="set by user") as caught:
        await ACTION.plan(granted, TARGET, params(3, "random_page_cost"))
    assert caught.value.reason == "setting_overridden"


@pytest.mark.parametrize(
    ("revoked", "named"),
    [
        (f"alter system on parameter {SETTING}", f"grant alter system on parameter {SETTING} to doer"),
        ("execute on function pg_reload_conf()", "grant execute on function pg_reload_conf() to doer"),
        ("pg_read_all_settings", "grant pg_read_all_settings to 'doer'"),
    ],
)
async def test_a_role_without_a_grant_is_told_which_one(
    work: Work, granted: Environment, revoked: str, named: str
) -> None:
    await work.admin.execute(f"revoke {revoked} from doer")
    with pytest.raises(RefusedError) as caught:
        await ACTION.plan(granted, TARGET, params(600))
    assert (caught.value.reason, named in caught.value.message) == ("forbidden", True)


async def test_another_server_is_refused(work: Work, granted: Environment) -> None:
    plan = await ACTION.plan(granted, TARGET, params(600))
    changes = [{**one, "server": {**one["server"], "system_identifier": "7"}} for one in plan.changes]
    with pytest.raises(RefusedError) as caught:
        await ACTION.run(granted, TARGET, params(600), Plan("", changes))
    assert caught.value.reason == "server_changed"
    assert await value_now(work) == "5min"
