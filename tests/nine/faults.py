"""What goes wrong in the world, once for each alert. Nothing here, and nobody but Sentinel, puts it right again."""

from __future__ import annotations

import asyncpg

from tests.nine import scenery, shop
from tests.nine.shortened import FACTOR
from tests.nine.world import World

BAD_IMAGE = "app:2"
ATTACKER = "mallory"
LEAKING_DATABASE = "aureus_os"
IDLE_S = 600.0 / FACTOR  # the runbook's ten minutes


async def pods_stop_answering(world: World) -> str:
    """Every pod of the bridge becomes unready, and none of them recovers."""
    names = [pod.name for pod in world.town.ready("bridge")]
    world.cluster.unready.update(names)
    return f"{len(names)} pods stop answering"


async def container_dies(world: World) -> str:
    """The container that Compose runs is killed."""
    world.container.crash()
    return "its container dies"


async def requests_take_long(world: World) -> str:
    """Clients of aureus-os send more than its pods answer in time."""
    world.town.services["aureus-os"].requests_per_s = 7.2
    return "7.2 requests/s for 2 pods"


async def release_fails_requests(world: World) -> str:
    """A release of OpenClaw fails a third of what it is asked."""
    world.town.services["openclaw"].bad_images[BAD_IMAGE] = 0.3
    scenery.set_image(world.cluster, "openclaw", BAD_IMAGE)
    world.cluster.settled(f"{scenery.APPS}/deployments/openclaw")
    return "a release fails 30% of its requests"


async def connections_leak(world: World) -> str:
    """A service opens connections and gives none back: many have idled for long when the last few are taken."""
    await _connect(world, shop.UNSUSPICIOUS)
    idle_s = IDLE_S + 2.0
    await world.when(lambda: _all_idle_for(world, idle_s), "connections that idle for long", idle_s + 10)
    await _connect(world, shop.LEAKED)
    return f"{shop.LEAKED} of {shop.MAX_CONNECTIONS} connections idle"


async def _connect(world: World, count: int) -> None:
    url = shop.url_as(world.shop_url, shop.APP, LEAKING_DATABASE)
    while len(world.leaked) < count:
        conn = await asyncpg.connect(url, server_settings={"application_name": "aureus-os"})
        await conn.fetchval("select 1")
        world.leaked.append(conn)


async def _all_idle_for(world: World, idle_s: float) -> bool:
    asked = "select now() - max(state_change) > make_interval(secs => $1) from pg_stat_activity where usename = $2"
    return bool(await world.gateway.database.fetchval(asked, idle_s, shop.APP))


async def key_is_stolen(world: World) -> str:
    """Somebody has the bridge's key, and alters messages."""
    world.signatures.stolen = world.kms.first_key
    return "messages altered with a stolen key"


async def cpu_is_busy(world: World) -> str:
    """Clients of OpenClaw keep its processors busy."""
    world.town.services["openclaw"].requests_per_s = 44.0
    return "44 requests/s for 2 pods"


async def memory_leaks(world: World) -> str:
    """One pod of aureus-os does not give back what it takes."""
    pod = world.town.ready("aureus-os")[0]
    world.town.services["aureus-os"].leaking.add(pod.name)
    return f"{pod.name} leaks memory"


async def user_breaks_policies(world: World) -> str:
    """One user tries again and again to get at data."""
    world.gateway.attackers[ATTACKER] = "telegram"
    return f"{ATTACKER} breaks a policy twelve times a second"


async def clients_stay_connected(world: World) -> str:
    """Clients on one channel open connections and never close them."""
    world.town.services["openclaw"].leak_per_s["telegram"] = 100.0
    return "100 connections/s that nobody closes"
