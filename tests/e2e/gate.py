"""A TCP port in front of a server that can be shut: the server is away, as a network or a fail-over takes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class Gate:
    """Passes connections on to a server while it is open; `connect` makes one to it."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._streams: set[asyncio.StreamWriter] = set()
        self._passing: set[asyncio.Task[None] | None] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def open(self) -> None:
        """Take connections (again), always on the same port."""
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Cut every connection and refuse new ones."""
        if self._server is not None:
            self._server.close()
        for stream in list(self._streams):
            stream.transport.abort()
        await asyncio.gather(*filter(None, self._passing))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._passing.add(task)
        try:
            await self._join(reader, writer)
        finally:
            self._passing.discard(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_server, to_server = await self._connect()
        except OSError:
            writer.close()  # the server itself is away
            return
        await asyncio.gather(self._copy(reader, to_server), self._copy(from_server, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._streams.add(writer)
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # cut, on this side or the other
        finally:
            self._streams.discard(writer)
            writer.close()


@asynccontextmanager
async def gated(database_url: str) -> AsyncIterator[tuple[Gate, str]]:
    """An open gate in front of a database of the embedded server, and the database's URL through it."""
    parts = urlsplit(database_url)
    socket = parse_qs(parts.query)["host"][0] + "/.s.PGSQL.5432"
    async with opened(Gate(lambda: asyncio.open_unix_connection(socket))) as gate:
        yield gate, f"postgresql://{parts.username}@127.0.0.1:{gate.port}{parts.path}"


@asynccontextmanager
async def opened(gate: Gate) -> AsyncIterator[Gate]:
    """A gate, open at first and shut for good in the end."""
    await gate.open()
    try:
        yield gate
    finally:
        await gate.shut()
