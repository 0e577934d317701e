"""Engine client. The API process's hold on the engine process: starts it, talks to it, notices its death.

Imports neither torch nor transformers, so that a server can spawn the engine first and load its own
libraries while the engine loads the model.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import zmq

from octavo.config import EngineConfig
from octavo.engine.channel import EngineChannel, dealer
from octavo.engine.fronts import FRONTS_SOCKET
from octavo.engine.messages import (
    AdapterLoaded,
    BytesLoaded,
    EngineFailed,
    EngineInfo,
    ForgetFront,
    FromEngine,
    ListenForFronts,
    LoadAdapter,
    PhaseStarted,
    Ping,
    Shutdown,
    Sleep,
    StartFailed,
    UnloadAdapter,
    WakeUp,
)
from octavo.errors import EngineDeadError, OctavoError, UserError, start_error
from octavo.openmp import spin_variables
from octavo.owned_folder import OwnedFolder
from octavo.sleep_level import SleepLevel
from octavo.torch_logs import log_variables

FOLDER_PREFIX = "octavo-engine-"
ENGINE_MODULE = "octavo.engine.process"


class EngineClient(EngineChannel):
    """One engine process. Build it with `await EngineClient.start(config)`; use it from one event loop."""

    is_turning: bool
    """It falls asleep or wakes, and answers nothing until it is done."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        folder: OwnedFolder,
        on_phase: Callable[[str], None] | None,
        on_bytes: Callable[[int, int], None] | None,
    ) -> None:
        context: zmq.Context[Any] = zmq.Context()
        socket = dealer(context)
        socket.bind(_address(folder.path))
        super().__init__(context, socket)
        self.is_turning = False
        self._process = process
        self._folder = folder
        self._on_phase = on_phase
        self._on_bytes = on_bytes
        self._loading: dict[int, asyncio.Future[None]] = {}
        self._started: asyncio.Future[EngineInfo] = self._loop.create_future()
        self._is_over = asyncio.Event()
        self._is_shutting_down = False
        self._watcher = asyncio.create_task(self._watch())

    @classmethod
    async def start(
        cls,
        config: EngineConfig,
        on_phase: Callable[[str], None] | None = None,
        on_bytes: Callable[[int, int], None] | None = None,
        module: str = ENGINE_MODULE,
    ) -> EngineClient:
        """Spawns the engine process and waits until its model is loaded.

        `on_phase` gets the name of each start-up phase when it begins, `on_bytes` the bytes of weights that
        are loaded, and of all of them. `module` is what the process runs.

        Raises:
            OctavoError: The subclass whose `reason` the engine answered with (`ModelNotFoundError`, …).
            EngineDeadError: The process ended without an answer.
        """
        folder = OwnedFolder(FOLDER_PREFIX)
        try:
            process = await _spawn(module, _address(folder.path))
        except BaseException:
            folder.remove()
            raise
        client = cls(process, folder, on_phase, on_bytes)
        try:
            await client._configure(config)
            client.info = await client._started
        except BaseException:
            await client.shutdown(timeout=0.0)
            raise
        return client

    @property
    def is_alive(self) -> bool:
        return self._death is None and not self._is_shutting_down

    @property
    def num_under_way(self) -> int:
        """Sequences that were sent and that `stats` does not know of yet: the engine takes them in when its
        step has ended, and tells of them with the next."""
        return self._num_sent - self.stats.sequences_received_total

    @property
    def pid(self) -> int:
        """Of the engine process."""
        return self._process.pid

    async def load_adapter(self, adapter_id: int, folder: str) -> None:
        """Returns when requests may have it; see `LoadAdapter`.

        Raises:
            OctavoError: The subclass whose `reason` the engine answered with.
            EngineDeadError: The engine process ended.
        """
        loaded: asyncio.Future[None] = self._loop.create_future()
        self._loading[adapter_id] = loaded
        try:
            self._send(LoadAdapter(adapter_id, folder))
            await loaded
        finally:
            del self._loading[adapter_id]

    def unload_adapter(self, adapter_id: int) -> None:
        """See `UnloadAdapter`. Raises `EngineDeadError`."""
        self._send(UnloadAdapter(adapter_id))

    async def listen_for_fronts(self) -> str:
        """Where other API processes reach the engine from now on (see `FrontClient`).

        Raises `EngineDeadError`.
        """
        address = f"ipc://{self._folder.path}/{FRONTS_SOCKET}"
        self._send(ListenForFronts(address))
        await self._ask(Ping)  # it has listened when it answers
        return address

    def forget_front(self, name: bytes) -> None:
        """An API process is gone: what it asked for ends."""
        if self._death is None:
            self._send(ForgetFront(name))

    async def sleep(self, level: SleepLevel) -> None:
        """Returns when the engine has given its memory back; what still runs ends first. From this call on no
        request is taken.

        Raises:
            EngineDeadError: The engine process ended.
        """
        self._is_asleep = True
        await self._turn(lambda nonce: Sleep(nonce, level))

    async def wake_up(self) -> None:
        """Returns when requests may come. Raises as `sleep`; an engine that cannot wake ends."""
        await self._turn(WakeUp)
        self._is_asleep = False

    async def _turn(self, message: Callable[[int], Sleep | WakeUp]) -> None:
        self.is_turning = True
        try:
            await self._ask(message)
        finally:
            self.is_turning = False

    async def wait_for_death(self) -> EngineDeadError:
        """Returns as soon as the engine ended, or said that it will, with the best known reason."""
        await self._is_over.wait()
        assert self._death is not None  # noqa: S101 - `_die` sets both
        return self._death

    async def shutdown(self, timeout: float, why: EngineDeadError | None = None) -> None:
        """Ends the engine process after its current step, or kills it after `timeout` seconds.

        Streams that still wait get `why` at once, or how the process ended. Safe to repeat.
        """
        self._is_shutting_down = True
        if self._death is None:
            self._send(Shutdown())
        if why is not None:
            self._die(why)
        try:
            async with asyncio.timeout(timeout):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):  # it has ended just now
                self._process.kill()
        await self._watcher
        if (stdin := self._process.stdin) is not None:
            stdin.close()
            with contextlib.suppress(ConnectionError):
                await stdin.wait_closed()
        self._close_socket()
        self._folder.remove()

    async def _configure(self, config: EngineConfig) -> None:
        # The pipe stays open afterwards: its end tells the engine that this process is gone.
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 - `_spawn` asked for it
        stdin.write(msgspec.json.encode(config) + b"\n")
        with contextlib.suppress(ConnectionError):  # it died at once: `_started` gets the reason
            await stdin.drain()

    async def _watch(self) -> None:
        status = await self._process.wait()
        self._on_readable()  # its last words may lie in the socket
        self._die(EngineDeadError(_describe_exit(status)))

    def _die(self, error: EngineDeadError) -> None:
        if self._death is not None:
            return
        super()._die(error)
        self._is_over.set()
        if not self._started.done():
            self._started.set_exception(error)
            self._started.exception()  # not every starter waits long enough to look
        for future in self._loading.values():
            if not future.done():
                future.set_exception(error)

    def _take_other(self, message: FromEngine) -> None:
        match message:
            case AdapterLoaded():
                self._settle_adapter(message)
            case PhaseStarted() | BytesLoaded():
                self._tell_of_start(message)
            case EngineInfo():
                if not self._started.done():
                    self._started.set_result(message)
            case StartFailed():
                if not self._started.done():
                    self._started.set_exception(_start_error(message))
            case EngineFailed():
                # Not only when its process has ended: a broken device may keep it from ending.
                self._die(EngineDeadError(message.message))

    def _tell_of_start(self, message: PhaseStarted | BytesLoaded) -> None:
        if isinstance(message, BytesLoaded):
            if self._on_bytes is not None:
                self._on_bytes(message.done, message.total)
        elif self._on_phase is not None:
            self._on_phase(message.name)

    def _settle_adapter(self, message: AdapterLoaded) -> None:
        loaded = self._loading.get(message.adapter_id)
        if loaded is None or loaded.done():
            return
        if message.reason:
            loaded.set_exception(start_error(message.reason, message.message))
        else:
            loaded.set_result(None)


def _address(directory: Path) -> str:
    return f"ipc://{directory}/socket"


async def _spawn(module: str, address: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", module, address),
        stdin=asyncio.subprocess.PIPE,
        env=os.environ | spin_variables(os.environ) | log_variables(os.environ),
    )


def _start_error(failure: StartFailed) -> OctavoError:
    otherwise = UserError if failure.is_user_error else OctavoError
    return start_error(failure.reason, failure.message, otherwise)


def _describe_exit(status: int) -> str:
    if status >= 0:
        return f"The engine process ended with exit status {status}; its log says why."
    name = signal.Signals(-status).name
    hint = " Most likely it ran out of memory: raise the limit." if name == "SIGKILL" else ""
    return f"The engine process was ended by {name}.{hint}"
