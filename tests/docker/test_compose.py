"""Docker Compose on a real engine: one service and no other, what runs is kept, and what is refused changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from engine.actions import Environment, RefusedError
from engine.actions._kubernetes import NoAnswerError
from engine.core.messages import Target
from engine.edge.compose import ComposeProject, failure
from tests.actions.work import Work
from tests.docker.conftest import HEALTHCHECK, Project, service

pytestmark = pytest.mark.real


async def refused(work: Work) -> tuple[str, str]:
    with pytest.raises(RefusedError) as caught:
        await work.plan()
    return caught.value.reason, caught.value.message


async def test_a_restart_starts_the_same_containers_anew_and_no_others(project: Project) -> None:
    project.up(web=service(depends_on=["db"]), db=service())
    ids, other = project.ids("web"), project.started("db")
    plan, result, check = await project.action("compose.restart", "web").through()
    assert (result.status, check.state) == ("done", "yes")
    assert (plan.changes[0]["container"], plan.changes[0]["state"]) == (f"{project.name}-web-1", "running")
    assert project.ids("web") == ids
    assert project.started("web") != [plan.changes[0]["started_at"]]
    assert project.started("db") == other


async def test_a_restart_starts_what_has_crashed(project: Project) -> None:
    project.up(web=service())
    project.docker.docker("kill", *project.ids("web"))
    plan, _, check = await project.action("compose.restart", "web").through()
    assert (plan.changes[0]["state"], check.state) == ("exited", "yes")


async def test_a_recreation_makes_as_many_new_containers_as_there_are_whatever_the_file_says(project: Project) -> None:
    project.up("--scale", "web=3", web=service(depends_on=["db"]), db=service())
    before, other = project.ids("web"), project.ids("db")
    plan, result, check = await project.action("compose.recreate", "web").through()
    assert (result.status, check.state, len(plan.changes)) == ("done", "yes", 3)
    assert f"{project.name}-web-2: Recreate" in plan.changes[1]["would"]
    assert len(project.ids("web")) == 3
    assert set(project.ids("web")).isdisjoint(before)
    assert project.ids("db") == other


async def test_dependents_that_ask_to_be_restarted_along_are_left_alone(project: Project) -> None:
    along = {"db": {"condition": "service_started", "restart": True}}
    project.up(web=service(depends_on=along), db=service())
    other = project.started("web")
    for action in ("compose.restart", "compose.recreate"):
        _, _, check = await project.action(action, "db", allow_outage=True).through()
        assert (check.state, project.started("web")) == ("yes", other)


@pytest.mark.parametrize("action", ["compose.restart", "compose.recreate"])
async def test_healthy_containers_that_others_depend_on_go_only_when_an_outage_is_meant(
    project: Project, action: str
) -> None:
    project.up(web=service(depends_on=["db"]), db=service(healthcheck=HEALTHCHECK))
    reason, message = await refused(project.action(action, "db"))
    assert (reason, "web depend on it" in message) == ("last_healthy_replica", True)
    await project.action(action, "web").plan()
    assert (await project.action(action, "db", allow_outage=True).plan()).changes
    project.docker.docker("exec", *project.ids("db"), "touch", "/tmp/unwell")  # noqa: S108
    await _until(lambda: project.containers("db")[0]["State"]["Health"]["Status"] == "unhealthy")
    assert (await project.action(action, "db").plan()).changes[0]["health"] == "unhealthy"


async def test_what_is_unwell_after_its_restart_is_no_success_and_what_is_recreated_is_well(project: Project) -> None:
    project.up(db=service(healthcheck=HEALTHCHECK))
    project.docker.docker("exec", *project.ids("db"), "touch", "/tmp/unwell")  # noqa: S108
    _, _, check = await project.action("compose.restart", "db", within_s=15).through()
    assert check.state == "no"
    assert check.why.startswith(f"{project.name}-db-1 is running (unhealthy)")
    _, _, check = await project.action("compose.recreate", "db").through()
    assert (check.state, check.why) == ("yes", f"{project.name}-db-1 is running (healthy)")


async def test_what_crashes_again_is_no_success(project: Project) -> None:
    script = "test -e /tmp/was && { sleep 0.05; exit 3; }; touch /tmp/was; sleep 100000"
    project.up(web=service(command=["sh", "-c", script], restart="always"))
    _, _, check = await project.action("compose.restart", "web", within_s=10).through()
    assert check.state == "no"


async def test_other_files_or_another_image_are_a_deployment_which_has_to_be_meant(project: Project) -> None:
    project.up(web=service())
    project.write(web=service(environment={"LEVEL": "debug"}))
    reason, message = await refused(project.action("compose.recreate", "web"))
    assert (reason, "its configuration is not what" in message) == ("would_change", True)
    _, _, check = await project.action("compose.recreate", "web", allow_changes=True).through()
    assert check.state == "yes"
    assert "LEVEL=debug" in project.containers("web")[0]["Config"]["Env"]


async def test_an_image_that_has_moved_is_a_change_and_one_that_is_gone_is_refused(project: Project) -> None:
    tag, new = f"{project.name}:1", f"{project.name}:2"
    project.docker.docker("tag", "aureus/busybox:1", tag)
    project.up(web=service(image=tag))
    project.docker.docker("commit", "--change=ENV A=1", project.ids("web")[0], new)
    project.docker.docker("tag", new, tag)
    reason, message = await refused(project.action("compose.recreate", "web"))
    assert (reason, "the image of that name is not what" in message) == ("would_change", True)
    project.docker.docker("rmi", tag)
    assert (await refused(project.action("compose.recreate", "web")))[0] == "no_image"


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("PROJECT/nobody", "unknown_service"),
        ("PROJECT/down", "no_containers"),
        ("PROJECT/--all", "bad_name"),
        ("PROJECT/web/web", "bad_name"),
        ("PROJECT/", "bad_name"),
        ("other/web", "bad_name"),
    ],
)
@pytest.mark.parametrize("action", ["compose.restart", "compose.recreate"])
async def test_a_target_that_is_no_running_service_is_refused_and_nothing_is_touched(
    project: Project, action: str, target: str, reason: str
) -> None:
    project.up("web", web=service(), down=service())
    before = project.started("web")
    name = target.replace("PROJECT", project.name)
    assert (await refused(Work(project.env, action, name)))[0] == reason
    assert project.env.allows(Target("compose", name)) is (reason != "bad_name")
    assert (project.started("web"), project.ids("down")) == (before, [])


@pytest.mark.parametrize("action", ["compose.restart", "compose.recreate"])
async def test_containers_that_somebody_replaced_since_the_plan_are_left_alone(project: Project, action: str) -> None:
    project.up(web=service())
    work = project.action(action, "web", within_s=0)
    plan = await work.plan()
    project.compose("up", "--detach", "--force-recreate", "web")
    before = project.started("web")
    with pytest.raises(RefusedError) as caught:
        await work.run(plan)
    assert (caught.value.reason, project.started("web")) == ("changed_meanwhile", before)
    if action == "compose.restart":
        assert (await work.verify(plan)).state == "no"


async def test_a_one_off_container_of_the_service_is_not_the_service(project: Project) -> None:
    project.up(web=service())
    project.compose("run", "--detach", "--name", f"{project.name}-once", "web")
    plan, _, check = await project.action("compose.recreate", "web").through()
    assert ([one["container"] for one in plan.changes], check.state) == ([f"{project.name}-web-1"], "yes")
    project.docker.docker("rm", "--force", f"{project.name}-once")


async def test_after_a_crash_the_containers_tell_whether_it_happened(project: Project) -> None:
    project.up(web=service())
    for action in ("compose.restart", "compose.recreate"):
        work = project.action(action, "web", within_s=0)
        plan = await work.plan()
        assert ((await work.verify(None)).state, (await work.verify(plan)).state) == ("unknown", "no")
        await work.run(plan)
        assert (await work.verify(plan)).state == "yes"


async def test_an_engine_that_is_away_is_no_answer_and_a_check_of_it_knows_nothing(project: Project) -> None:
    project.up(web=service())
    plan = await project.action("compose.restart", "web").plan()
    away = ComposeProject(project.name, [project.file], "unix:///nowhere.sock", project.docker.environment)
    work = Work(_with(project.env, away), "compose.restart", f"{project.name}/web", within_s=1)
    with pytest.raises(NoAnswerError, match="gives no answer"):
        await work.plan()
    assert (await work.verify(plan)).state == "unknown"


async def test_without_the_program_it_is_said_what_is_missing(project: Project) -> None:
    project.write(web=service())
    bare = ComposeProject(project.name, [project.file], "", {"PATH": "/nowhere"})
    work = Work(_with(project.env, bare), "compose.restart", f"{project.name}/web")
    assert await refused(work) == ("no_compose", "there is no `docker` on the executor's PATH")


async def test_a_program_that_does_not_end_is_ended(project: Project) -> None:
    project.up(web=service(stop_grace_period="60s"))
    client = ComposeProject(project.name, [project.file], project.docker.url, project.docker.environment)
    with pytest.raises(NoAnswerError, match="did not end within"):
        await client.compose("restart", "web", limit_s=0.5)
    cancelled = asyncio.ensure_future(client.compose("logs", "--follow", limit_s=60))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    project.docker.docker("kill", *project.ids("web"))


@pytest.mark.parametrize(
    ("said", "kind", "reason"),
    [
        (
            "permission denied while trying to connect to the Docker daemon socket at unix:///x",
            RefusedError,
            "forbidden",
        ),
        ("docker: 'compose' is not a docker command.", RefusedError, "no_compose"),
        ("error during connect: Get http://x", NoAnswerError, ""),
    ],
)
def test_the_words_of_the_program_are_understood(said: str, kind: type[Exception], reason: str) -> None:
    error = failure(said)
    assert isinstance(error, kind)
    assert getattr(error, "reason", "") == reason


def _with(env: Environment, client: ComposeProject) -> Environment:
    return replace(env, compose=dict.fromkeys(env.compose, client))


async def _until(ready: Callable[[], Any]) -> None:
    for _ in range(100):
        if await asyncio.get_running_loop().run_in_executor(None, partial(bool, ready())):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("not within ten seconds")
