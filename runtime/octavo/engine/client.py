"""Engine client. The API process's hold on the engine process: starts it, talks to it, notices its death.

Imports neither torch nor transformers, so that a server can spawn the engine first and load its own
libraries while the engine loads the model.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import zmq

from octavo.config import EngineConfig
from octavo.engine.messages import (
    AbortRequests,
    AdapterLoaded,
    AddRequest,
    BytesLoaded,
    EngineFailed,
    EngineInfo,
    EngineStats,
    FromEngine,
    LoadAdapter,
    PhaseStarted,
    Ping,
    Pong,
    Shutdown,
    Sleep,
    StartFailed,
    StepOutputs,
    ToEngine,
    UnloadAdapter,
    WakeUp,
)
from octavo.engine.requests.request_stream import RequestStream
from octavo.errors import (
    EngineDeadError,
    ModelAsleepError,
    OctavoError,
    UserError,
    start_error,
)
from octavo.openmp import spin_variables
from octavo.owned_folder import OwnedFolder
from octavo.sleep_level import SleepLevel
from octavo.torch_logs import log_variables

FOLDER_PREFIX = "octavo-engine-"
ENGINE_MODULE = "octavo.engine.process"
_NO_STATS = EngineStats(0, 0, 0, 0, 0, 0, 0, 0, 0)


class EngineClient:
    """One engine process. Build it with `await EngineClient.start(config)`; use it from one event loop."""

    info: EngineInfo
    """What the engine settled on at its start."""
    stats: EngineStats
    """The latest snapshot that the engine sent (after each step, abort and ping)."""
    num_messages: int
    """Of any kind that came from the engine so far: while it grows, the engine is not stuck."""
    is_turning: bool
    """It falls asleep or wakes, and answers nothing until it is done."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        folder: OwnedFolder,
        on_phase: Callable[[str], None] | None,
        on_bytes: Callable[[int, int], None] | None,
    ) -> None:
        self.stats = _NO_STATS
        self.num_messages = 0
        self.is_turning = False
        self._is_asleep = False
        self._num_sent = 0
        self._process = process
        self._folder = folder
        self._on_phase = on_phase
        self._on_bytes = on_bytes
        self._loop = asyncio.get_running_loop()
        self._streams: dict[str, RequestStream] = {}
        self._pings: dict[int, asyncio.Future[EngineStats]] = {}
        self._loading: dict[int, asyncio.Future[None]] = {}
        self._nonces = itertools.count()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[FromEngine] = msgspec.msgpack.Decoder(FromEngine)
        self._started: asyncio.Future[EngineInfo] = self._loop.create_future()
        self._death: EngineDeadError | None = None
        self._is_over = asyncio.Event()
        self._is_shutting_down = False
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.set_hwm(
            0
        )  # the waiting queue bounds what is under way, the socket must not block
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(_address(folder.path))
        self._loop.add_reader(self._socket.fileno(), self._on_readable)
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

    async def add(self, request: AddRequest) -> RequestStream:
        """Sends a request and returns the stream of its outputs.

        Raises:
            EngineDeadError: The engine process ended.
            ModelAsleepError: Nothing runs until `wake_up`.
        """
        if self._is_asleep:
            raise ModelAsleepError
        if request.request_id in self._streams:
            raise OctavoError(f"request_id {request.request_id!r} is already running.")
        self._send(request)
        self._num_sent += request.sampling.n
        stream = RequestStream(request.request_id, request.sampling.n, self._abort_stream)
        self._streams[request.request_id] = stream
        return stream

    def abort(self, request_ids: list[str], indexes: list[int] | None = None) -> None:
        """Ends these requests, or only the completions `indexes` of one request, before the next step."""
        if self._death is not None:
            return
        self._send(AbortRequests(request_ids, indexes))
        for request_id in request_ids:
            if indexes is None:
                self._streams.pop(request_id, None)
            elif (stream := self._streams.get(request_id)) is not None:
                for index in indexes:
                    stream.forget(index)
                if stream.is_finished:
                    del self._streams[request_id]

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

    async def ping(self, timeout: float) -> EngineStats:
        """Asks the engine for its stats; it answers between two steps.

        Raises:
            TimeoutError: No answer within `timeout` seconds: the current step takes longer than that.
            EngineDeadError: The engine process ended.
        """
        async with asyncio.timeout(timeout):
            return await self._ask(Ping)

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

    def end_streams(self, error: OctavoError) -> None:
        """Ends all requests; whoever reads one gets the error."""
        streams = list(self._streams.values())
        self._streams.clear()
        for stream in streams:
            stream.fail(error)
        if streams and self._death is None:
            self._send(AbortRequests([stream.request_id for stream in streams]))

    async def _turn(self, message: Callable[[int], Sleep | WakeUp]) -> None:
        self.is_turning = True
        try:
            await self._ask(message)
        finally:
            self.is_turning = False

    async def _ask(self, message: Callable[[int], ToEngine]) -> EngineStats:
        nonce = next(self._nonces)
        future: asyncio.Future[EngineStats] = self._loop.create_future()
        self._pings[nonce] = future
        try:
            self._send(message(nonce))
            return await future
        finally:
            del self._pings[nonce]

    async def wait_for_death(self) -> EngineDeadError:
        """Returns as soon as the engine ended, or said that it will, with the best known reason."""
        await self._is_over.wait()
        assert self._death is not None  # noqa: S101 - `_die` sets both
        return self._death

    async def shutdown(self, timeout: float) -> None:
        """Ends the engine process after its current step, or kills it after `timeout` seconds.

        Streams that still wait get `EngineDeadError`. Safe to repeat.
        """
        self._is_shutting_down = True
        if self._death is None:
            self._send(Shutdown())
        try:
            async with asyncio.timeout(timeout):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
        await self._watcher
        if (stdin := self._process.stdin) is not None:
            stdin.close()
            with contextlib.suppress(ConnectionError):
                await stdin.wait_closed()
        self._close_socket()

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
        self._death = error
        self._is_over.set()
        if not self._started.done():
            self._started.set_exception(error)
            self._started.exception()  # not every starter waits long enough to look
        waiting: list[asyncio.Future[Any]] = [*self._pings.values(), *self._loading.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(error)
        self.end_streams(error)

    def _send(self, message: ToEngine) -> None:
        if self._death is not None:
            raise self._death
        try:
            self._socket.send(self._encoder.encode(message), zmq.NOBLOCK)
        except zmq.Again:
            return  # the other end is gone: the watcher is about to say so to everyone
        # A send may swallow the edge that announces incoming messages: look again.
        if int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._loop.call_soon(self._on_readable)

    def _abort_stream(self, request_id: str) -> None:
        if self._streams.pop(request_id, None) is not None and self._death is None:
            self._send(AbortRequests([request_id]))

    def _on_readable(self) -> None:
        while not self._socket.closed:
            try:
                frame = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._dispatch(self._decoder.decode(frame))

    def _dispatch(self, message: FromEngine) -> None:
        self.num_messages += 1
        match message:
            case StepOutputs():
                self._hand_out(message)
            case Pong():
                self.stats = message.stats
                future = self._pings.get(message.nonce)
                if future is not None and not future.done():
                    future.set_result(message.stats)
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

    def _hand_out(self, step: StepOutputs) -> None:
        self.stats = step.stats
        streams = self._streams
        for output in step.outputs:
            stream = streams.get(output.request_id)
            if stream is None:
                continue  # aborted on this side while the step ran
            stream.put(output)
            if stream.is_finished:
                del streams[output.request_id]

    def _close_socket(self) -> None:
        if self._socket.closed:
            return
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        self._context.term()
        self._folder.remove()


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
