"""Engine process: `python -m octavo.engine.process ADDRESS`, spawned by `EngineClient`.

Standard input brings the `EngineConfig` as one line of JSON and then stays open: its end means that the API
process is gone, and this process ends too. Everything else goes over the ZeroMQ socket.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import msgspec
import structlog
import zmq

from octavo.config import EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.debugging import is_debugging
from octavo.engine.grammars import GrammarQueue
from octavo.engine.messages import (
    AbortRequests,
    AdapterLoaded,
    AddRequest,
    BytesLoaded,
    EngineFailed,
    FromEngine,
    LoadAdapter,
    PhaseStarted,
    Ping,
    Pong,
    Refusal,
    Shutdown,
    Sleep,
    StartFailed,
    StepOutputs,
    ToEngine,
    TokenOutput,
    UnloadAdapter,
    WakeUp,
)
from octavo.errors import DeviceFaultError, InvalidParameterError, OctavoError, UserError
from octavo.loading.progress import telling
from octavo.logs import configure_logging
from octavo.outputs import FinishReason
from octavo.resident_memory import resident_bytes
from octavo.worker.batch import Executor

_log = structlog.get_logger("octavo.engine")
ExecutorFactory = Callable[[EngineConfig, Callable[[str], None]], Executor]
"""From a configuration, and what is to hear of the phases of a start."""
_STDIN = 0
_EXIT_OURS, _EXIT_USERS = 1, 3
_LINGER_MS = 2000
_PAUSE_SECONDS = 1.0
"""Between two tests of an engine that does not work; see `StepFailures`."""


class EngineLoop:
    """Feeds an `EngineCore` from the socket and sends what it produces, one message a step."""

    def __init__(self, core: EngineCore, socket: zmq.Socket[bytes]) -> None:
        self._core = core
        self._socket = socket
        self._grammars = GrammarQueue(core.grammars)
        self._poller = zmq.Poller()
        self._poller.register(socket, zmq.POLLIN)
        self._poller.register(self._grammars.wake_fd, zmq.POLLIN)
        self._lifelines = core.executor_info.lifelines
        for descriptor in self._lifelines:
            self._poller.register(descriptor, zmq.POLLIN)
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[ToEngine] = msgspec.msgpack.Decoder(ToEngine)
        self._rejected: list[TokenOutput] = []
        self._must_report = False
        self._must_end = False
        self._turn: Sleep | WakeUp | None = None
        self._resume_at = 0.0
        self._beat_at = 0.0

    def run(self) -> None:
        """Until `Shutdown` arrives; an idle engine sleeps in `poll`.

        Raises:
            DeviceFaultError: The device is gone, or no step works any more.
            OctavoError: The model cannot be woken.
        """
        while True:
            self._wait()
            self._receive()
            self._add_ready()
            if self._must_end:
                return
            if self._turn is not None and not self._core.has_work:
                self._take_turn(self._turn)
            can_step = self._core.has_work and time.monotonic() >= self._resume_at
            if self._rejected or (self._must_report and not can_step):
                self._send(StepOutputs(self._rejected, self._core.stats()))
                self._rejected = []
            self._must_report = False
            if can_step:
                self._send(self._core.step())
                if self._core.should_pause:
                    self._resume_at = time.monotonic() + _PAUSE_SECONDS

    def _wait(self) -> None:
        """Returns when a message is there or a step can be made."""
        if not self._core.has_work:
            if self._turn is not None:
                return
            ready = dict(self._poller.poll(self._milliseconds_to_beat()))
            if any(descriptor in ready for descriptor in self._lifelines):
                self._core.check_executor()
        elif (seconds := self._resume_at - time.monotonic()) > 0:
            self._poller.poll(math.ceil(seconds * 1000))

    def _milliseconds_to_beat(self) -> int | None:
        """None: no heart beats. Whoever is due beats now."""
        heartbeat = self._core.executor_info.heartbeat
        if heartbeat is None:
            return None
        left = self._beat_at - time.monotonic()
        if left <= 0:
            heartbeat.beat()
            self._beat_at = time.monotonic() + heartbeat.seconds
            left = heartbeat.seconds
        return math.ceil(left * 1000)

    def _receive(self) -> None:
        """Takes in all messages that are there, without waiting."""
        while not self._must_end:
            try:
                frame = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                message = self._decoder.decode(frame)
            except (msgspec.MsgspecError, OctavoError) as error:
                _log.error("message dropped", error=str(error), num_bytes=len(frame))
                continue
            self._handle(message)

    def _handle(self, message: ToEngine) -> None:
        match message:
            case AddRequest():
                if not self._grammars.must_wait(message):
                    self._add(message)
            case AbortRequests():
                if message.indexes is None:
                    self._core.count_lost(self._grammars.abort(message.request_ids))
                self._core.abort(message.request_ids, message.indexes)
                self._must_report = True
            case LoadAdapter():
                self._send(self._load_adapter(message))
            case UnloadAdapter():
                self._core.unload_adapter(message.adapter_id)
            case Ping():
                self._send(Pong(message.nonce, self._core.stats()))
            case Sleep() | WakeUp():
                self._turn = message  # the API process waits for one before it sends the next
            case Shutdown():
                self._must_end = True

    def _take_turn(self, turn: Sleep | WakeUp) -> None:
        self._turn = None
        started, before = time.monotonic(), resident_bytes()
        if isinstance(turn, Sleep):
            self._core.sleep(turn.level)
        else:
            self._core.wake_up()
        _log.info(
            "asleep" if isinstance(turn, Sleep) else "awake",
            seconds=round(time.monotonic() - started, 3),
            resident_bytes=resident_bytes(),
            resident_bytes_before=before,
        )
        self._send(Pong(turn.nonce, self._core.stats()))

    def _load_adapter(self, message: LoadAdapter) -> AdapterLoaded:
        """Requests wait while its files are read."""
        try:
            self._core.adapters.load(message.adapter_id, message.folder)
        except OctavoError as error:
            return AdapterLoaded(message.adapter_id, error.reason, str(error))
        except Exception as error:
            _log.exception("adapter failed", folder=message.folder)
            words = f"{message.folder} cannot be loaded: {type(error).__name__}."
            return AdapterLoaded(message.adapter_id, OctavoError.reason, words)
        return AdapterLoaded(message.adapter_id)

    def _add_ready(self) -> None:
        """What waited for its grammar."""
        for request, error in self._grammars.ready():
            if error is None:
                self._add(request)
            else:
                self._core.count_lost(request.sampling.n)
                self._reject(request, error)

    def _add(self, request: AddRequest) -> None:
        try:
            self._core.add(request)
        except InvalidParameterError as error:
            self._reject(request, error)

    def _reject(self, request: AddRequest, error: InvalidParameterError) -> None:
        # A grammar is the client's own text, as a prompt is.
        is_told = request.sampling.structured_outputs is None
        why = str(error) if is_told else f"{error.parameter} cannot be had"
        _log.warning("request rejected", request_id=request.request_id, error=why)
        self._rejected += [
            TokenOutput(
                request_id=request.request_id,
                index=index,
                new_token_ids=[],
                finish_reason=FinishReason.ERROR,
                refusal=Refusal.of(error),
            )
            for index in range(request.sampling.n)
        ]

    def _send(self, message: FromEngine) -> None:
        self._socket.send(self._encoder.encode(message))


def main(address: str, create: ExecutorFactory | None = None) -> int:
    """Runs the engine until the API process ends it; returns the exit status, unless it failed.

    `create` makes the executor; by default the model's, on its device.

    SIGINT and SIGTERM are ignored: a Ctrl-C reaches the whole process group, and the API process, which
    gets it too, decides when running requests have finished.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    configure_logging("info")
    faulthandler.enable()  # a crash in native code says where it was, and no more than that
    line = sys.stdin.buffer.readline()
    if not line:  # the API process ended before it said what to run
        _remove_socket(address)
        return _EXIT_OURS
    config = msgspec.json.decode(line, type=EngineConfig)
    threading.Thread(
        target=_exit_with_parent, args=(address,), name="parent-watch", daemon=True
    ).start()
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.set_hwm(0)  # the waiting queue bounds what is under way, the socket must not block
    socket.setsockopt(zmq.LINGER, _LINGER_MS)
    socket.connect(address)
    try:
        _run(config, socket, create or _create_executor)
    finally:
        socket.close()
        context.term()
    return 0


def _run(config: EngineConfig, socket: zmq.Socket[bytes], create: ExecutorFactory) -> None:
    """Returns when the API process asked for the end; ends the process when anything failed."""
    encode = msgspec.msgpack.encode
    try:
        with telling(lambda *bytes_: socket.send(encode(BytesLoaded(*bytes_)))):
            core = _start(config, lambda phase: socket.send(encode(PhaseStarted(phase))), create)
    except OctavoError as error:
        is_user_error = isinstance(error, UserError)
        words = StartFailed(error.reason, str(error), is_user_error)
        _end(socket, words, _EXIT_USERS if is_user_error else _EXIT_OURS)
    except Exception as error:
        _log.exception("engine start failed")
        words = StartFailed("InternalError", f"{type(error).__name__}: {error}", False)
        _end(socket, words, _EXIT_OURS)
    socket.send(encode(core.info))
    # What start-up made lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    try:
        EngineLoop(core, socket).run()
    except DeviceFaultError as error:
        _log.critical("engine ends", error=str(error))
        _end(socket, EngineFailed(f"The engine ended: {error}"), _EXIT_OURS)
    except OctavoError as error:
        _log.critical("the model cannot be woken", error=str(error))
        _end(socket, EngineFailed(f"The model cannot be woken: {error}"), _EXIT_OURS)
    except Exception as error:
        _log.exception("engine failed")
        message = f"The engine failed: {type(error).__name__}: {error}"
        _end(socket, EngineFailed(message), _EXIT_OURS)


def _end(
    socket: zmq.Socket[bytes], last_words: StartFailed | EngineFailed, status: int
) -> NoReturn:
    """Called while the error is handled, whose traceback holds the tensors of the step that failed.

    On a broken device freeing them may raise in a destructor, which aborts the process, and the
    interpreter's own exit may hang.
    """
    socket.send(msgspec.msgpack.encode(last_words))
    socket.close()
    socket.context.term()
    sys.stderr.flush()
    os._exit(status)


def _create_executor(config: EngineConfig, on_phase: Callable[[str], None]) -> Executor:
    # Imported here, because this is where torch comes in: errors before this point are reported at once.
    from octavo.worker.start.create import create_executor

    return create_executor(config, on_phase)


def _start(
    config: EngineConfig, on_phase: Callable[[str], None], create: ExecutorFactory
) -> EngineCore:
    on_phase("import")
    core = EngineCore(config, create(config, on_phase), is_debugging=is_debugging(os.environ))
    info = core.info
    _log.info(
        "engine ready",
        device=info.device,
        dtype=info.dtype,
        max_model_len=info.max_model_len,
        num_kv_blocks=info.num_kv_blocks,
        block_size=info.block_size,
        phases={name: round(seconds, 3) for name, seconds in info.phases.items()},
    )
    return core


def _exit_with_parent(address: str) -> None:
    while os.read(_STDIN, 1):
        pass
    _remove_socket(address)
    os._exit(_EXIT_OURS)  # nobody is left who could read an answer


def _remove_socket(address: str) -> None:
    """What the API process does itself, unless it was killed."""
    socket = Path(address.removeprefix("ipc://"))
    with contextlib.suppress(OSError):
        socket.unlink(missing_ok=True)
        socket.parent.rmdir()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
