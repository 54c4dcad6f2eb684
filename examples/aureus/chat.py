"""Clients of openclaw: an ordinary chat, and the two things every chat does (connect, listen)."""

from __future__ import annotations

import asyncio
import random

import aiohttp
from aiohttp import WSMsgType

from examples.aureus.aureus_os import ALLOWED_ACTIONS, FORBIDDEN_ACTIONS
from examples.aureus.connections import CHANNELS

CHANNEL_WEIGHTS = (30, 30, 20, 20)
USERS = 400
KEEP_ALIVE_S = 4.0
CHAT_LENGTH_MEAN_S = 60.0
MESSAGE_GAP_MEAN_S = 20.0
PAUSE_MEAN_S = 1.0
VIOLATION_SHARE = 1 / 300  # of the messages: one or two a minute at 150 chats
MESSAGE_BYTES_MAX = 16 * 1024

_ENDED = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)
CLIENT_ERRORS = (aiohttp.ClientError, OSError, TimeoutError)

ClientChat = aiohttp.ClientWebSocketResponse


async def connect(session: aiohttp.ClientSession, openclaw: str, channel: str, user: str) -> ClientChat:
    """Open a chat. Raises `aiohttp.WSServerHandshakeError` (its `status`) when refused."""
    return await session.ws_connect(f"{openclaw}/ws/{channel}", params={"user": user}, max_msg_size=MESSAGE_BYTES_MAX)


async def listen(chat: ClientChat, for_s: float) -> bool:
    """Read what comes for so many seconds; False as soon as the chat has ended."""
    loop = asyncio.get_running_loop()
    until = loop.time() + for_s
    while (left_s := until - loop.time()) > 0:
        try:
            message = await chat.receive(timeout=left_s)
        except TimeoutError:
            return True
        if message.type in _ENDED:
            return False
    return True


async def visitor(session: aiohttp.ClientSession, openclaw: str, rng: random.Random) -> None:
    """One place in the crowd: somebody chats for a while, leaves, and somebody else comes. Never ends."""
    await asyncio.sleep(rng.uniform(0, 3))  # so that not all arrive at once
    length_s = rng.uniform(0, CHAT_LENGTH_MEAN_S)  # nor leave at once
    while True:
        channel = rng.choices(CHANNELS, CHANNEL_WEIGHTS)[0]
        user = f"user-{rng.randrange(USERS):03}"
        await _visit(session, openclaw, channel, user, length_s, rng)
        await asyncio.sleep(rng.expovariate(1 / PAUSE_MEAN_S))
        length_s = rng.expovariate(1 / CHAT_LENGTH_MEAN_S)


async def _visit(
    session: aiohttp.ClientSession,
    openclaw: str,
    channel: str,
    user: str,
    length_s: float,
    rng: random.Random,
) -> None:
    """Chat until `length_s` has passed; after a lost connection come back, with jitter."""
    loop = asyncio.get_running_loop()
    leave_at = loop.time() + length_s
    while loop.time() < leave_at:
        try:
            async with await connect(session, openclaw, channel, user) as chat:
                if await _talk(chat, leave_at, rng):
                    return
        except aiohttp.WSServerHandshakeError as error:
            if error.status == 403:
                return
        except CLIENT_ERRORS:
            pass  # the gateway went away: come back like everyone else
        await asyncio.sleep(rng.uniform(0.3, 3))


async def _talk(chat: ClientChat, leave_at: float, rng: random.Random) -> bool:
    """Keep alive and talk until it is time to leave; False if the chat ended before."""
    loop = asyncio.get_running_loop()
    next_message_at = loop.time() + rng.expovariate(1 / MESSAGE_GAP_MEAN_S)
    while (now := loop.time()) < leave_at:
        if now >= next_message_at:
            bad = rng.random() < VIOLATION_SHARE
            action = rng.choice(list(FORBIDDEN_ACTIONS) if bad else ALLOWED_ACTIONS)
            await chat.send_json({"action": action})
            next_message_at = now + rng.expovariate(1 / MESSAGE_GAP_MEAN_S)
        else:
            await chat.ping()
        if not await listen(chat, min(KEEP_ALIVE_S, next_message_at - now, leave_at - now)):
            return False
    return True
