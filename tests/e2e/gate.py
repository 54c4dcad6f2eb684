"""A TCP port in front of a PostgreSQL that can be shut: the database is away, as a network or a fail-over takes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit


class Gate:
    """Passes connections on to the server's Unix socket while it is open. `url` is the database's URL through it."""

    def __init__(self, database_url: str) -> None:
        parts = urlsplit(database_url)
        self._socket = parse_qs(parts.query)["host"][0] + "/.s.PGSQL.5432"
        self._user, self._database = parts.username, parts.path
        self._streams: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"postgresql://{self._user}@127.0.0.1:{self._port}{self._database}"

    async def open(self) -> None:
        """Take connections (again), always on the same port."""
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Cut every connection and refuse new ones."""
        if self._server is not None:
            self._server.close()
        for stream in list(self._streams):
            stream.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_unix_connection(self._socket)
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
async def gated(database_url: str) -> AsyncIterator[Gate]:
    """An open gate in front of a database of the embedded server."""
    gate = Gate(database_url)
    await gate.open()
    try:
        yield gate
    finally:
        await gate.shut()
