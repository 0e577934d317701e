"""Engine loop. Feeds an engine from its sockets and sends what it produces, one message a step."""

from __future__ import annotations

import math
import time
from pathlib import Path

import msgspec
import structlog
import zmq

from octavo.config import EngineConfig
from octavo.engine.admission import Admission
from octavo.engine.core import EngineCore
from octavo.engine.fronts import Fronts
from octavo.engine.grammars import GrammarQueue
from octavo.engine.grammars.queue import NUM_LANES
from octavo.engine.grammars.trial import GrammarTrial
from octavo.engine.messages import (
    AbortRequests,
    AdapterLoaded,
    AddRequest,
    ForgetFront,
    FromEngine,
    ListenForFronts,
    LoadAdapter,
    Ping,
    Pong,
    Refusal,
    ReleaseTicket,
    Shutdown,
    Sleep,
    StepOutputs,
    ToEngine,
    TokenOutput,
    UnloadAdapter,
    WakeUp,
)
from octavo.errors import InvalidParameterError, OctavoError, QueueFullError
from octavo.outputs import FinishReason
from octavo.resident_memory import resident_bytes

_log = structlog.get_logger("octavo.engine")
_PAUSE_SECONDS = 1.0
"""Between two tests of an engine that does not work; see `StepFailures`."""


class EngineLoop:
    """Feeds an `EngineCore` from the socket and sends what it produces, one message a step."""

    def __init__(self, core: EngineCore, socket: zmq.Socket[bytes], config: EngineConfig) -> None:
        self._core = core
        self._socket = socket
        self._config = config
        self._fronts: Fronts | None = None
        trial = GrammarTrial(Path(config.model), core.info.vocab_size, NUM_LANES)
        self._grammars = GrammarQueue(core.grammars, trial)
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
            if self._fronts is not None:
                self._receive_of(self._fronts)
            self._add_ready()
            if self._must_end:
                return
            if self._turn is not None and not self._core.has_work:
                self._take_turn(self._turn)
            can_step = self._core.has_work and time.monotonic() >= self._resume_at
            if self._rejected or (self._must_report and not can_step):
                self._tell(StepOutputs(self._rejected, self._core.stats()))
                self._rejected = []
            self._must_report = False
            if can_step:
                self._tell(self._core.step())
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
            if (message := self._decoded(frame)) is not None:
                self._handle(message)

    def _decoded(self, frame: bytes) -> ToEngine | None:
        try:
            return self._decoder.decode(frame)
        except (msgspec.MsgspecError, OctavoError) as error:
            _log.error("message dropped", error=str(error), num_bytes=len(frame))
            return None

    def _receive_of(self, fronts: Fronts) -> None:
        for front, frame in fronts.receive():
            match self._decoded(frame):
                case AddRequest() as request:
                    self._add_of(fronts, front, request)
                case AbortRequests() as message:
                    self._handle(message)
                    fronts.forget_ended(message.request_ids)
                case ReleaseTicket() as message:
                    fronts.tickets.release(front, message.ticket)
                case Ping() as message:
                    fronts.send(front, Pong(message.nonce, self._core.stats()))

    def _add_of(self, fronts: Fronts, front: bytes, request: AddRequest) -> None:
        fronts.note(front, request.request_id)
        try:
            num_since = self._core.counts.num_received - fronts.stats.sequences_received_total
            fronts.tickets.check(front, request, fronts.stats, num_since, time.monotonic())
        except QueueFullError as error:
            self._reject(request, error)
        else:
            self._handle(request)

    def _handle(self, message: ToEngine) -> None:
        match message:
            case AddRequest():
                if not self._grammars.must_wait(message):
                    self._add(message)
            case AbortRequests():
                if message.indexes is None:
                    self._core.counts.num_received += self._grammars.abort(message.request_ids)
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
            case ListenForFronts():
                self._listen(message.address)
            case ForgetFront() if self._fronts is not None:
                self._forget(self._fronts, message.front)

    def _forget(self, fronts: Fronts, front: bytes) -> None:
        """An API process is gone: what it asked for ends, and nobody but the engine knows of it."""
        request_ids = fronts.forget(front)
        before = self._core.num_sequences
        num_waiting = self._grammars.abort(request_ids)
        self._core.counts.num_received += num_waiting
        self._core.abort(request_ids)
        self._core.counts.num_orphaned += num_waiting + before - self._core.num_sequences
        self._must_report = True

    def _listen(self, address: str) -> None:
        config, context = self._config, self._socket.context
        admission = Admission(config.max_queued_requests, config.max_num_seqs)
        self._fronts = Fronts(context, address, admission, self._core.stats(), self._is_alive)
        self._poller.register(self._fronts.socket, zmq.POLLIN)

    def _is_alive(self, request_id: str) -> bool:
        return self._core.has(request_id) or self._grammars.has(request_id)

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
                self._core.counts.num_received += request.sampling.n
                self._reject(request, error)

    def _add(self, request: AddRequest) -> None:
        try:
            self._core.add(request)
        except InvalidParameterError as error:
            self._reject(request, error)

    def _reject(self, request: AddRequest, error: InvalidParameterError | QueueFullError) -> None:
        # A grammar is the client's own text, as a prompt is.
        is_secret = request.sampling.structured_outputs is not None
        if isinstance(error, InvalidParameterError) and is_secret:
            why = f"{error.parameter} cannot be had"
        else:
            why = str(error)
        if not isinstance(error, QueueFullError):  # that is counted, and everyday under load
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

    def _tell(self, step: StepOutputs) -> None:
        if self._fronts is not None:
            step = self._fronts.hand_out(step, time.monotonic())
        self._send(step)

    def _send(self, message: FromEngine) -> None:
        self._socket.send(self._encoder.encode(message))
