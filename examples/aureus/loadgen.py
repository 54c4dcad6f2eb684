"""The load generator, a process of its own: ordinary traffic, and the control API for faults (loopback only).

`python -m examples.aureus.loadgen` is started by `python -m examples.aureus`; when its control API listens it prints
one JSON line with the URL.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web

from examples.aureus.chat import visitor
from examples.aureus.faults import FAULTS, FaultBoard, FaultError, World
from examples.aureus.runtime import configure_console, raise_open_file_limit, stop_requested
from examples.aureus.service import read_body
from examples.aureus.signatures import KeyDirectory
from examples.aureus.signers import PARTNERS, SigningDesk, partner
from examples.aureus.stack import cancel, loopback_url

VISITORS = 152  # with the pauses between visits about 150 chats are open
REQUEST_TIMEOUT_S = 5.0


class LoadSettings(msgspec.Struct, frozen=True):
    """Where the load goes; `control_port` 0 lets the system choose."""

    bridge: str
    openclaw: str
    key_directory: Path
    admin_token: str
    seed: int
    files_max: int
    control_port: int = 0
    visitors: int = VISITORS


class Switch(msgspec.Struct, frozen=True):
    """Body of a control call."""

    on: bool


@asynccontextmanager
async def running_load(settings: LoadSettings) -> AsyncIterator[str]:
    """Run the ordinary load; yields the URL of the control API. Raises `aiohttp.ClientError` if bridge is away."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),  # a leak holds far more than the usual 100
                timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
            )
        )
        desk = SigningDesk(session, settings.bridge, KeyDirectory(settings.key_directory))
        await desk.install_first_key(settings.admin_token)
        board = FaultBoard(World(session, settings.openclaw, desk, settings.files_max), settings.seed)
        for name in PARTNERS:
            rng = random.Random(f"{settings.seed}/{name}")
            stack.push_async_callback(cancel, asyncio.create_task(partner(desk, name, rng)))
        for place in range(settings.visitors):
            rng = random.Random(f"{settings.seed}/visitor-{place}")
            stack.push_async_callback(cancel, asyncio.create_task(visitor(session, settings.openclaw, rng)))
        stack.push_async_callback(board.stop_all)
        runner = web.AppRunner(build_control(board), access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", settings.control_port).start()
        yield loopback_url(runner)


def build_control(board: FaultBoard) -> web.Application:
    """`GET /faults` and `POST /faults/{name}` with `{"on": bool}`."""

    async def show(_: web.Request) -> web.Response:
        return _json(200, {"faults": board.states()})

    async def switch(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in FAULTS:
            raise web.HTTPNotFound(text=f"no fault {name!r}; there are {', '.join(FAULTS)}")
        wanted = await read_body(request, Switch)
        try:
            return _json(200, await board.switch(name, on=wanted.on))
        except FaultError as error:
            raise web.HTTPConflict(text=f"fault {name}: {error}") from error

    app = web.Application()
    app.add_routes([web.get("/faults", show), web.post("/faults/{name}", switch)])
    return app


def _json(status: int, body: object) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json")


async def _main(arguments: argparse.Namespace) -> None:
    stop = stop_requested(follow_stdin=True)
    settings = LoadSettings(
        bridge=arguments.bridge,
        openclaw=arguments.openclaw,
        key_directory=arguments.keys,
        admin_token=os.environ["AUREUS_ADMIN_TOKEN"],
        seed=arguments.seed,
        files_max=raise_open_file_limit(),
        control_port=arguments.control_port,
    )
    async with running_load(settings) as control:
        sys.stdout.write(msgspec.json.encode({"control": control}).decode() + "\n")
        sys.stdout.flush()
        await stop.wait()


def main() -> None:
    """Entry point."""
    configure_console()
    parser = argparse.ArgumentParser(prog="python -m examples.aureus.loadgen", description=__doc__)
    parser.add_argument("--bridge", required=True, metavar="URL")
    parser.add_argument("--openclaw", required=True, metavar="URL")
    parser.add_argument("--keys", required=True, type=Path, metavar="DIRECTORY")
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--control-port", type=int, default=0)
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
