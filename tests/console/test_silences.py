"""Silences in the console: the page, and Alertmanager's API v2."""

from __future__ import annotations

import re

import pytest

from engine.console.silences import alertmanager_silence, parse_time_ms
from engine.core.labels import Matcher
from engine.response.silences import Silence
from tests.console.conftest import NOW_MS, Site

GIVEN = {
    "matchers": [
        {"name": "service", "value": "bridge", "isRegex": False, "isEqual": True},
        {"name": "severity", "value": "crit.*", "isRegex": True, "isEqual": False},
    ],
    "startsAt": "2027-01-15T08:00:00Z",
    "endsAt": "2027-01-15T10:00:00+01:00",
    "createdBy": "ada",
    "comment": "load test",
}


async def post(site: Site, body: object) -> tuple[int, dict[str, object]]:
    async with site.client.post("/api/v2/silences", json=body) as response:
        return response.status, await response.json()


async def test_what_alertmanagers_api_takes_it_gives_back(site: Site) -> None:
    status, made = await post(site, GIVEN)
    assert (status, made) == (200, {"silenceID": "s1"})
    async with site.client.get("/api/v2/silences") as response:
        [found] = await response.json()
    assert found["matchers"] == GIVEN["matchers"]
    assert (found["endsAt"], found["status"]) == ("2027-01-15T09:00:00.000+00:00", {"state": "active"})
    assert site.store.quiet["s1"].matchers[1] == Matcher("severity", "!~", "crit.*")
    async with site.client.get("/api/v2/silence/s1") as response:
        assert (await response.json())["id"] == "s1"


async def test_a_filter_is_asked_of_the_matchers(site: Site) -> None:
    await post(site, GIVEN)
    for given, count in (('service="bridge"', 1), ('service="openclaw"', 0)):
        async with site.client.get("/api/v2/silences", params={"filter": given}) as response:
            assert len(await response.json()) == count


async def test_deleting_expires_and_says_when_there_is_nothing(site: Site) -> None:
    await post(site, GIVEN)
    for status in (200, 404):
        async with site.client.delete("/api/v2/silence/s1") as response:
            assert response.status == status
    assert site.store.quiet["s1"].state(NOW_MS) == "expired"


async def test_another_site_can_neither_make_nor_delete_one(site: Site) -> None:
    await post(site, GIVEN)
    elsewhere = {"Origin": "http://evil.example"}
    async with site.client.post("/api/v2/silences", json=GIVEN, headers=elsewhere) as response:
        assert response.status == 403
    async with site.client.delete("/api/v2/silence/s1", headers=elsewhere) as response:
        assert response.status == 403
    assert len(site.store.quiet) == 1
    assert site.store.quiet["s1"].state(NOW_MS) == "active"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"matchers": []}, "needs a matcher"),
        ({"matchers": [{"name": "a", "value": "(", "isRegex": True}]}, "regular expression"),
        ({"endsAt": "2027-01-15T07:00:00Z"}, "ends after"),
        ({"endsAt": "soon"}, "not a time"),
        ({"endsAt": "2027-01-15T09:00:00"}, "no time zone"),
        ({"createdBy": ""}, "needs a name"),
        ({"comment": " "}, "needs a comment"),
        ({"id": "s1"}, "expire it and make another"),
        ({"matchers": "all"}, "Expected"),
    ],
)
async def test_what_cannot_be_a_silence_is_refused_with_the_reason(
    site: Site, changes: dict[str, object], words: str
) -> None:
    status, answer = await post(site, {**GIVEN, **changes})
    assert status == 400
    assert words in str(answer["error"])
    assert site.store.quiet == {}


async def test_the_page_makes_one_shows_it_escaped_and_expires_it(site: Site) -> None:
    _, page = await site.get("/silences")
    csrf = re.findall(r'name="csrf" value="([0-9a-f]+)"', page)[0]
    form = {"csrf": csrf, "matchers": 'service="<b>"\nnamespace=aureus', "for": "2h", "by": "ada", "comment": "<i>"}
    async with site.client.post("/silences", data=form, allow_redirects=False) as response:
        assert response.status == 303
    _, page = await site.get("/silences")
    assert "<b>" not in page
    assert "<i>" not in page
    assert "another 2 h" in page
    assert site.store.quiet["s1"].matchers[1] == Matcher("namespace", "=", "aureus")
    async with site.client.post("/silences/s1/expire", data={"csrf": csrf, "by": "bob"}, allow_redirects=False) as done:
        assert done.status == 303
    assert site.store.quiet["s1"].state(NOW_MS) == "expired"


@pytest.mark.parametrize("wrong", [{"csrf": "x"}, {"for": "a while"}, {"by": ""}, {"matchers": "service"}])
async def test_a_form_that_is_wrong_changes_nothing(site: Site, wrong: dict[str, str]) -> None:
    _, page = await site.get("/silences")
    csrf = re.findall(r'name="csrf" value="([0-9a-f]+)"', page)[0]
    form = {"csrf": csrf, "matchers": "a=b", "for": "2h", "by": "ada", "comment": "why"}
    async with site.client.post("/silences", data={**form, **wrong}, allow_redirects=False) as response:
        assert response.status in (400, 403)
    assert site.store.quiet == {}


def test_maintenance_is_told_apart_in_the_json() -> None:
    silence = Silence("s", (Matcher("a", "=", "b"),), NOW_MS, NOW_MS + 1, "ada", "why", "maintenance")
    assert alertmanager_silence(silence, NOW_MS)["annotations"] == {"kind": "maintenance"}
    assert parse_time_ms("2027-01-15T08:00:00.250Z") == 1_800_000_000_250
