"""Faults that can be switched on and off while the load runs. Each is real traffic, with its own seeded generator."""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import aiohttp
import msgspec

from examples.aureus.aureus_os import FORBIDDEN_ACTIONS
from examples.aureus.chat import CLIENT_ERRORS, ClientChat, connect, listen
from examples.aureus.runtime import FILES_NEEDED
from examples.aureus.signers import SigningDesk
from examples.aureus.stack import cancel

ATTACKER, ATTACK_CHANNEL = "mallory", "telegram"
ATTACK_GAP_S = (0.7, 1.1)

LEAK_CHANNEL = "discord"
LEAK_BURST = 1_100  # from 150 ordinary chats this passes 1,000 after some 15 s
LEAK_BURST_PER_S = 60
LEAK_LATER_PER_S = 4
LEAK_OPEN_MAX = 1_700  # with the ordinary chats still below 2,000
LEAK_TICK_S = 0.25

FORGED_GAP_S = (0.3, 0.7)
LATE_GAP_S = (0.2, 0.5)


class FaultError(Exception):
    """A fault that cannot be switched on here; the message says why."""


@dataclass(frozen=True)
class World:
    """What faults work with."""

    session: aiohttp.ClientSession
    openclaw: str
    desk: SigningDesk
    files_max: int


class Fault(ABC):
    """A fault. `start` may do something once and says what was injected; `run` goes on until cancelled."""

    name: ClassVar[str]

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world = world
        self.rng = rng
        self.events = 0

    @abstractmethod
    async def start(self) -> str:
        """Begin; returns what exactly is injected. Raises `FaultError`."""

    @abstractmethod
    async def run(self) -> None:
        """The traffic of the fault. Never ends."""

    async def stop(self) -> None:
        """Undo what cancelling `run` leaves behind."""
        return


class PolicyAttack(Fault):
    """One user breaks policies about once a second, and comes back when thrown out."""

    name = "policy-attack"

    async def start(self) -> str:
        """Nothing to do once."""
        return f"user {ATTACKER} on {ATTACK_CHANNEL} breaks a policy every {ATTACK_GAP_S[0]} to {ATTACK_GAP_S[1]} s"

    async def run(self) -> None:
        """Attack while connected, knock while not."""
        while True:
            try:
                async with await connect(self.world.session, self.world.openclaw, ATTACK_CHANNEL, ATTACKER) as chat:
                    await self._attack(chat)
            except CLIENT_ERRORS:
                pass  # refused or thrown out: knock again
            await asyncio.sleep(self.rng.uniform(*ATTACK_GAP_S))

    async def _attack(self, chat: ClientChat) -> None:
        connected = True
        while connected:
            await chat.send_json({"action": self.rng.choice(list(FORBIDDEN_ACTIONS))})
            self.events += 1
            connected = await listen(chat, self.rng.uniform(*ATTACK_GAP_S))


class ConnectionLeak(Fault):
    """A client opens chats and forgets them: nothing is sent, nothing is closed from its side."""

    name = "connection-leak"

    def __init__(self, world: World, rng: random.Random) -> None:
        super().__init__(world, rng)
        self._leaked: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        """Nothing to do once, but it needs open files."""
        if self.world.files_max < FILES_NEEDED:
            raise FaultError(f"needs {FILES_NEEDED} open files, the limit here is {self.world.files_max}")
        return (
            f"{LEAK_BURST_PER_S} chats/s opened on {LEAK_CHANNEL} and never closed, {LEAK_LATER_PER_S}/s after "
            f"{LEAK_BURST}, at most {LEAK_OPEN_MAX} open"
        )

    async def run(self) -> None:
        """Open at the rate of the moment; the burst comes once, also if everything is closed meanwhile."""
        loop = asyncio.get_running_loop()
        due, started, tick = 0.0, 0, loop.time()
        while True:
            rate = LEAK_BURST_PER_S if started < LEAK_BURST else LEAK_LATER_PER_S
            due += rate * LEAK_TICK_S
            while due >= 1:
                due -= 1
                if len(self._leaked) < LEAK_OPEN_MAX:
                    started += 1
                    self._spawn(f"relay-{self.rng.randrange(50):02}")
            tick += LEAK_TICK_S
            await asyncio.sleep(max(0.0, tick - loop.time()))

    def _spawn(self, user: str) -> None:
        task = asyncio.create_task(self._forget(user))
        self._leaked.add(task)
        task.add_done_callback(self._leaked.discard)

    async def _forget(self, user: str) -> None:
        try:
            async with await connect(self.world.session, self.world.openclaw, LEAK_CHANNEL, user) as chat:
                self.events += 1
                await chat.receive()  # returns when the gateway closes it; the client never comes back
        except CLIENT_ERRORS:
            pass  # refused: this client never comes back either

    async def stop(self) -> None:
        """The leaking client ends, and with it what it still held."""
        leaked = list(self._leaked)
        for task in leaked:
            task.cancel()
        if leaked:
            await asyncio.wait(leaked)


class KeyMismatch(Fault):
    """The partners rotate their key; bridge goes on with the keys it has."""

    name = "key-mismatch"

    async def start(self) -> str:
        """Rotate."""
        old, new = await self.world.desk.rotate()
        self.events = 1
        return f"signers rotated from {old} to {new}; bridge has not loaded {new}"

    async def run(self) -> None:
        """The ordinary traffic does the rest."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """The partners go back to the key before, which bridge knows."""
        self.world.desk.roll_back()


class Tampering(Fault):
    """Somebody on the way alters signed messages."""

    name = "tampering"

    async def start(self) -> str:
        """Nothing to do once."""
        return f"a signed message altered on the way every {FORGED_GAP_S[0]} to {FORGED_GAP_S[1]} s"

    async def run(self) -> None:
        """Take a genuine message, change the amount, send it on."""
        while True:
            genuine = self.world.desk.message("billing", f"pay {self.rng.randrange(100)} to ledger")
            altered = msgspec.structs.replace(genuine, payload=genuine.payload.replace("to ledger", "to mallory"))
            self.events += await self.world.desk.send(altered)
            await asyncio.sleep(self.rng.uniform(*FORGED_GAP_S))


class TtlExpiry(Fault):
    """Old but genuine messages, as after a queue was blocked for a while: harmless."""

    name = "ttl-expiry"

    async def start(self) -> str:
        """Nothing to do once."""
        return f"a genuine message past its time to live every {LATE_GAP_S[0]} to {LATE_GAP_S[1]} s"

    async def run(self) -> None:
        """Send late messages."""
        while True:
            self.events += await self.world.desk.send(self.world.desk.message("notary", "receipt", late=True))
            await asyncio.sleep(self.rng.uniform(*LATE_GAP_S))


FAULTS: dict[str, type[Fault]] = {
    kind.name: kind for kind in (PolicyAttack, ConnectionLeak, KeyMismatch, Tampering, TtlExpiry)
}


class FaultState(msgspec.Struct, frozen=True):
    """What the control API says of a fault. `at_ms` is when it was last switched (wall clock; 0: never)."""

    name: str
    on: bool
    at_ms: int
    injected: str
    events: int


class FaultBoard:
    """The switches. Switching to where a switch already stands changes nothing."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._seed = seed
        self._running: dict[str, tuple[Fault, asyncio.Task[None]]] = {}
        self._states = {name: FaultState(name, False, 0, "", 0) for name in FAULTS}
        self._switching = asyncio.Lock()

    def states(self) -> list[FaultState]:
        """Every fault as it is now."""
        return [self._state(name) for name in FAULTS]

    async def switch(self, name: str, *, on: bool) -> FaultState:
        """Switch a fault. Raises KeyError for an unknown name and `FaultError`."""
        async with self._switching:
            if on and name not in self._running:
                await self._start(name)
            elif not on and name in self._running:
                await self._stop(name)
            return self._state(name)

    async def stop_all(self) -> None:
        """Switch everything off."""
        for name in list(self._running):
            await self.switch(name, on=False)

    def _state(self, name: str) -> FaultState:
        state = self._states[name]
        running = self._running.get(name)
        return msgspec.structs.replace(state, events=running[0].events) if running else state

    async def _start(self, name: str) -> None:
        fault = FAULTS[name](self._world, random.Random(f"{self._seed}/{name}"))
        at_ms = time.time_ns() // 1_000_000
        injected = await fault.start()
        self._states[name] = FaultState(name, True, at_ms, injected, 0)
        self._running[name] = (fault, asyncio.create_task(fault.run()))

    async def _stop(self, name: str) -> None:
        fault, task = self._running.pop(name)
        await cancel(task)
        await fault.stop()
        at_ms = time.time_ns() // 1_000_000
        self._states[name] = msgspec.structs.replace(self._states[name], on=False, at_ms=at_ms, events=fault.events)
