"""Waiting for a condition with a deadline, instead of sleeping for a while and hoping."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")
POLL_S = 0.02


@overload
async def until(condition: Callable[[], Awaitable[T]], timeout_s: float = 20.0, what: str = "") -> T: ...
@overload
async def until(condition: Callable[[], bool], timeout_s: float = 20.0, what: str = "") -> bool: ...
async def until(condition: Callable[[], Any], timeout_s: float = 20.0, what: str = "") -> Any:
    """The first truthy value of a condition, asked again and again; AssertionError when the time is up."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = condition()
        value = await found if inspect.isawaitable(found) else found
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what or 'the condition'} did not hold within {timeout_s:g} s; last seen: {value!r}")
        await asyncio.sleep(POLL_S)
