"""The requests to one Loki: queries, and the tail's websocket; whatever goes wrong is one kind of error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import aiohttp
import httpx

from connectors._loki_api import ENCODING_FLAGS, ApiError, count_query, read_count, read_streams, read_tailed
from engine.core.messages import LogStream
from engine.edge.http_access import CredentialsError, request_headers, tls_context
from engine.edge.settings_sources import LokiApi

_SIDE_BY_SIDE = 4
_PING_S = 5.0
_MOST_SAME_TIME = 16  # a page may grow so many times over
_MESSAGE_BYTES = 64 * 1024 * 1024


class LokiError(Exception):
    """Loki cannot be read now. `code` is its HTTP status or a word, for counters."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code


class LokiClient:
    """One Loki, as its settings name it."""

    def __init__(self, config: LokiApi, http: httpx.AsyncClient, websockets: aiohttp.ClientSession) -> None:
        self._config = config
        self._http = http
        self._websockets = websockets
        self._url = config.url.rstrip("/") + "/loki/api/v1"
        self._tls = tls_context(config.tls)
        self._slots = asyncio.Semaphore(_SIDE_BY_SIDE)

    async def count(self, selector: str, from_ms: int, to_ms: int) -> int:
        """How many lines there are from `from_ms` up to but not at `to_ms`. Raises `LokiError`."""
        form = {"query": count_query(selector, to_ms - from_ms), "time": str(to_ms * 1_000_000 - 1)}
        try:
            return read_count(await self._ask("query", form))
        except ApiError as error:
            raise LokiError("no_count", str(error)) from error

    async def pages(self, selector: str, from_ns: int, to_ns: int) -> AsyncGenerator[list[LogStream], None]:
        """All lines from `from_ns` up to but not at `to_ns`, oldest first. Raises `LokiError`.

        A page begins at the time at which the one before it ended, for there may be more lines of that time: those
        that were at the end of a page come again at the beginning of the next.
        """
        limit = self._config.page_lines
        while from_ns < to_ns:
            form = {"query": selector, "start": str(from_ns), "end": str(to_ns), "limit": str(limit)}
            try:
                found = read_streams(await self._ask("query_range", form | {"direction": "forward"}))
            except ApiError as error:
                raise LokiError("no_streams", str(error)) from error
            yield found
            if sum(len(stream.entries) for stream in found) < limit:
                return
            last_ns = max(stream.entries[-1].t_ns for stream in found)
            if last_ns > from_ns:
                from_ns, limit = last_ns, self._config.page_lines
            elif limit < self._config.page_lines * _MOST_SAME_TIME:
                limit *= 2
            else:
                raise LokiError("same_time", f"more than {limit} lines of {selector} have the time {from_ns}")

    async def tail(self, selector: str, from_ns: int) -> AsyncGenerator[tuple[list[LogStream], int], None]:
        """Lines as they come into Loki, with how many it says that it left out. Ends when the connection does.

        Raises `LokiError` when there is no connection.
        """
        query = {"query": selector, "start": str(from_ns), "limit": str(self._config.page_lines)}
        try:
            async with self._websockets.ws_connect(
                f"{self._url}/tail",
                params=query,
                headers=self._headers(),
                heartbeat=_PING_S,
                max_msg_size=_MESSAGE_BYTES,
                ssl=self._tls,
            ) as socket:
                yield [], 0
                async for message in socket:
                    if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                        data = message.data
                        yield read_tailed(data.encode() if isinstance(data, str) else data)
        except aiohttp.WSServerHandshakeError as error:
            raise LokiError(str(error.status), f"the tail was refused with HTTP status {error.status}") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise LokiError("unreachable", f"{type(error).__name__}: {error}") from error
        except ApiError as error:
            raise LokiError("no_streams", str(error)) from error
        except CredentialsError as error:
            raise LokiError("no_credentials", str(error)) from error

    async def _ask(self, path: str, form: dict[str, str]) -> bytes:
        try:
            async with self._slots, asyncio.timeout(self._config.timeout_s):
                response = await self._http.post(f"{self._url}/{path}", data=form, headers=self._headers())
        except TimeoutError as error:
            raise LokiError("timeout", f"no answer within {self._config.timeout_s:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise LokiError("unreachable", f"{type(error).__name__}: {error}") from error
        except CredentialsError as error:
            raise LokiError("no_credentials", str(error)) from error
        if not response.is_success:
            told = response.text.strip()[:300]
            raise LokiError(str(response.status_code), f"HTTP status {response.status_code}: {told}")
        return response.content

    def _headers(self) -> dict[str, str]:
        tenant = {"X-Scope-OrgID": self._config.tenant} if self._config.tenant else {}
        return ENCODING_FLAGS | tenant | request_headers(self._config)
