"""API servers: the processes that answer at one port, as the process that leads the server sees them.

Whoever dies is replaced: its connections are lost, what it had under way is given back, and the others go
on. Where they die again and again, and one still answers, the next replacement waits; the server ends when
none does.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from octavo.engine.client import EngineClient
from octavo.errors import EngineDeadError, OctavoError, ServerEndsError
from octavo.owned_folder import OwnedFolder
from octavo.server.process.api_keys import ApiKeys
from octavo.server.process.api_servers.accounts import SharedAccounts
from octavo.server.process.api_servers.channel import ChannelLostError
from octavo.server.process.api_servers.member import Member
from octavo.server.process.api_servers.messages import (
    AskLimits,
    AskMetrics,
    AskView,
    Beat,
    Begin,
    Came,
    Charge,
    CloseIdle,
    Configure,
    Done,
    EngineDied,
    Enter,
    FallAsleep,
    Leave,
    Limits,
    Message,
    Metrics,
    Stop,
    TakeAdapters,
    TakeKeys,
    TakeTls,
    TurnState,
    View,
    WakeUp,
)
from octavo.server.process.certificates import Certificates
from octavo.server.process.engine_view import EngineView
from octavo.server.process.lifecycle import Lifecycle, State
from octavo.server.process.options import ServeOptions
from octavo.server.process.options_json import encode_options
from octavo.sleep_level import SleepLevel

if TYPE_CHECKING:
    from octavo.server.openai.adapters import ServedAdapter, ServedAdapters

log = structlog.get_logger("octavo.server")

FOLDER_PREFIX = "octavo-metrics-"
STOP_SECONDS = 3.0
"""Longer than answers under way get to leave."""
SILENT_SECONDS = 30.0
"""Without a sign of life: it hangs, and is killed."""
_FIRST = 1
_WATCH_SECONDS = 1.0
_REPORT_SECONDS = 1.0
_START_SECONDS = 300.0
_LOOK_SECONDS = 0.1
BACK_OFF_SECONDS = 15.0
"""Until the next replacement, when so many ended within so many seconds."""
_MAX_DEATHS = 5
_DEATHS_WITHIN_SECONDS = 60.0


class ApiServers:
    """See `HttpFront`.

    Args:
        bound: The socket that all take connections from; closed with `stop`.
        read_metrics: All metrics as strangers may see them.
    """

    def __init__(
        self,
        options: ServeOptions,
        bound: socket.socket,
        lifecycle: Lifecycle,
        keys: ApiKeys,
        certificates: Certificates | None,
        folder: OwnedFolder,
        read_metrics: Callable[[], bytes],
    ) -> None:
        self._options = options
        self._bound = bound
        self._lifecycle = lifecycle
        self._keys = keys
        self._certificates = certificates
        self._metrics_folder = folder
        self._read_metrics = read_metrics
        self._model_folder = Path()
        self._accounts = SharedAccounts()
        self._members: dict[bytes, Member] = {}
        self._numbers = itertools.count(_FIRST)
        self._deaths: deque[float] = deque(maxlen=_MAX_DEATHS)
        self._gone: asyncio.Queue[Member] = asyncio.Queue()
        self._address = ""
        self._client: EngineClient | None = None
        self._adapters: ServedAdapters | None = None
        self._is_asleep = False
        self._is_over = False
        lifecycle.on_state = lambda state: self._tell_all(TurnState(state))
        keys.on_change = lambda in_file: self._tell_all(TakeKeys(in_file))
        if certificates is not None:
            certificates.on_change = lambda material: self._tell_all(TakeTls(material))

    async def load(self, folder: Path) -> None:
        self._model_folder = folder
        members = [await self._spawn() for _ in range(self._options.api_server_count)]
        await _all_of(member.loaded for member in members)

    async def assemble(self, client: EngineClient) -> None:
        from octavo.server.openai.adapters import ServedAdapters

        self._client = client
        self._adapters = ServedAdapters(client, self._options.served_names, self._tell_adapters)
        self._address = await client.listen_for_fronts()

    async def listen(self) -> None:
        members = list(self._members.values())
        for member in members:
            self._begin(member)
        await _all_of(member.listening for member in members)

    @property
    def has_chat(self) -> bool:
        return any(member.has_chat for member in self._members.values())

    @property
    def adapters(self) -> ServedAdapters:
        assert self._adapters is not None  # noqa: S101 - `assemble` came before
        return self._adapters

    @property
    def engine(self) -> ApiServers:
        return self

    @property
    def num_active(self) -> int:
        return sum(member.beat.num_active for member in self._members.values())

    @property
    def is_answering(self) -> bool:
        return any(member.is_answering for member in self._members.values())

    async def count_active(self) -> int:
        return sum(beat.num_active for beat in await self._reports())

    async def count_in_flight(self) -> int:
        return sum(beat.num_in_flight for beat in await self._reports())

    async def count_arrivals(self) -> tuple[int, int]:
        beats = await self._reports()
        return sum(beat.num_arrivals for beat in beats), sum(beat.num_awaited for beat in beats)

    async def settled(self) -> None:
        await self._reports()

    def close_idle_connections(self) -> None:
        self._tell_all(CloseIdle())

    def end_streams(self, error: OctavoError) -> None:
        """Each process does it when it falls asleep."""

    async def sleep(self, level: SleepLevel) -> None:
        """Returns when the engine sleeps, and nobody has anything on the way to it. Raises
        `EngineDeadError`."""
        self._is_asleep = True
        await self._ask_all(FallAsleep())
        await self._engine_client.sleep(level)

    async def wake_up(self) -> None:
        """Raises `EngineDeadError`."""
        await self._engine_client.wake_up()
        self._is_asleep = False
        self._tell_all(WakeUp())

    def tell_of_death(self, error: EngineDeadError) -> None:
        """The engine ended: whoever waits for it hears why."""
        self._tell_all(EngineDied(str(error), isinstance(error, ServerEndsError)))

    async def watch(self) -> None:
        """Replaces those that die. Raises `OctavoError` when that goes on and on and none answers."""
        silence = asyncio.create_task(self._watch_silence())
        try:
            while True:
                member = await self._gone.get()
                if self._is_over:
                    continue
                self._count_death(member, await member.status())
                await self._hold_back()
                await self._replace()
        finally:
            silence.cancel()

    async def stop(self) -> None:
        self._is_over = True
        self._lifecycle.on_state = self._keys.on_change = None
        if self._certificates is not None:
            self._certificates.on_change = None
        self._bound.close()  # so that nothing waits for a process that is no more
        members = list(self._members.values())
        for member in members:
            if member.has_begun:
                member.send(Stop())
            else:
                member.kill()
        await asyncio.gather(*(member.end(STOP_SECONDS) for member in members))
        self._metrics_folder.remove()

    @property
    def _engine_client(self) -> EngineClient:
        assert self._client is not None  # noqa: S101 - `assemble` came before
        return self._client

    async def _spawn(self) -> Member:
        number = next(self._numbers)
        text = f"api-{number}"
        name = text.encode()
        member = await Member.spawn(
            name, self._bound, self._metrics_folder.path, self._handle, self._on_lost
        )
        if not member.is_lost:
            self._members[name] = member
        member.send(
            Configure(
                text,
                encode_options(self._options),
                str(self._model_folder),
                str(self._metrics_folder.path),
                is_logging_texts=number == _FIRST,
            )
        )
        return member

    def _begin(self, member: Member) -> None:
        # Whoever listens answers: that the server is ready is told when all do.
        state = self._lifecycle.state
        member.begin(
            Begin(
                member.name,
                self._address,
                self._engine_client.info,
                self.adapters.all,
                self._keys.in_file,
                None if self._certificates is None else self._certificates.material,
                State.READY if state is State.STARTING else state,
                self._is_asleep,
            )
        )

    async def _replace(self) -> None:
        """Raises `OctavoError` when it cannot start and no other answers."""
        if self._lifecycle.state in (State.REFUSING, State.STOPPED, State.FAILED):
            return
        member = await self._spawn()
        try:
            async with asyncio.timeout(_START_SECONDS):
                await member.loaded
                self._begin(member)
                await member.listening
        except TimeoutError:
            member.kill()
            return  # it has its turn when it is gone
        except ChannelLostError:
            return
        except OctavoError as error:
            if not self.is_answering:
                raise
            name, told = member.name.decode(), str(error)
            log.error("API process cannot start", name=name, error=told)  # noqa: TRY400 - told there
            return
        log.info("API process replaced", name=member.name.decode(), pid=member.pid)

    def _count_death(self, member: Member, status: str) -> None:
        now = time.monotonic()
        log.error("API process ended", name=member.name.decode(), pid=member.pid, status=status)
        self._deaths.append(now)
        if self._are_many_dying and not self.is_answering:
            raise OctavoError(
                f"{_MAX_DEATHS} API processes ended within {_DEATHS_WITHIN_SECONDS:g} seconds, the last one "
                f"by {status}; their log says why."
            )

    @property
    def _are_many_dying(self) -> bool:
        within = time.monotonic() - _DEATHS_WITHIN_SECONDS
        return len(self._deaths) == _MAX_DEATHS and self._deaths[0] > within

    async def _hold_back(self) -> None:
        """A while, where they die again and again: those that answer have the machine. Not when none does."""
        if not self._are_many_dying:
            return
        log.warning("API processes end again and again", next_start_in_seconds=BACK_OFF_SECONDS)
        deadline = time.monotonic() + BACK_OFF_SECONDS
        while self.is_answering and time.monotonic() < deadline:
            await asyncio.sleep(_LOOK_SECONDS)

    def _on_lost(self, member: Member) -> None:
        self._members.pop(member.name, None)
        self._accounts.leave_all(member.name)
        if self._client is not None and member.has_begun:
            self._client.forget_front(member.name)
        self._gone.put_nowait(member)

    async def _watch_silence(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            for member in list(self._members.values()):
                if member.seconds_silent > SILENT_SECONDS:
                    log.error("API process hangs", name=member.name.decode(), pid=member.pid)
                    member.kill()

    def _handle(self, member: Member, message: Message) -> Message | Awaitable[Message] | None:
        match message:
            case Enter():
                return self._accounts.enter(member.name, message.key)
            case Came():
                self._accounts.enter(member.name, message.key)
            case Leave():
                self._accounts.leave(member.name, message.key)
            case Charge():
                self._accounts.charge(message.key, message.num_tokens)
            case AskLimits():
                return Limits(self._accounts.headers(message.key))
            case AskView():
                client = self._engine_client
                return View(EngineView(client.stats, 0, client.info.block_size))
            case AskMetrics():
                return Metrics(self._read_metrics())
        return None

    def _tell_all(self, message: Message) -> None:
        for member in self._begun:
            member.send(message)

    async def _tell_adapters(self, adapters: list[ServedAdapter]) -> None:
        """Returns when all have them."""
        await self._ask_all(TakeAdapters(adapters))

    async def _reports(self) -> list[Beat]:
        """One that does not answer soon is as it was when it last did."""
        members = self._begun
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REPORT_SECONDS):
                await asyncio.gather(*(member.report() for member in members))
        return [member.beat for member in members if not member.is_lost]

    async def _ask_all(self, message: Message) -> None:
        """Returns when all that are not gone have done it."""
        await asyncio.gather(*(member.ask(message, Done) for member in self._begun))

    @property
    def _begun(self) -> list[Member]:
        return [member for member in self._members.values() if member.has_begun]


async def _all_of(members: Iterable[Awaitable[None]]) -> None:
    """Raises the first error, as soon as there is one; one that is gone without a word is one."""
    try:
        await asyncio.gather(*members)
    except ChannelLostError:
        raise OctavoError("An API process ended while it started; its log says why.") from None
