"""Run of a server. One server from its first moment to its exit status: start, serve, drain.

The order matters: the ports are taken and the probes answer before the model is fetched, and the engine
process starts before this process imports its web framework, so that both load side by side.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NoReturn

import msgspec
import structlog

from octavo.engine.client import ENGINE_MODULE, EngineClient
from octavo.errors import EngineDeadError, OctavoError, OutOfMemoryError, ServerEndsError
from octavo.logs import configure_logging
from octavo.lora_modules import read_lora_modules
from octavo.owned_folder import OwnedFolder
from octavo.server.http.sockets import bind
from octavo.server.process import banner
from octavo.server.process.adapter_routes import AdapterRoutes
from octavo.server.process.api_keys import ApiKeys
from octavo.server.process.certificates import Certificates
from octavo.server.process.daemon_thread import in_daemon_thread
from octavo.server.process.failure import fail
from octavo.server.process.grace import Grace
from octavo.server.process.health import EngineHealth
from octavo.server.process.lifecycle import Lifecycle, State
from octavo.server.process.memory_limit import count_oom_kills
from octavo.server.process.options import VLLM_NAMES, ServeOptions
from octavo.server.process.progress import BytesShown
from octavo.server.process.sleeping import SleepSwitch

if TYPE_CHECKING:
    from octavo.config import EngineConfig
    from octavo.server.http.listener import Listener
    from octavo.server.openai.adapters import ServedAdapters
    from octavo.server.process.engine_view import EngineView
    from octavo.server.process.http_front import HttpFront

log = structlog.get_logger("octavo.server")

LEADER = "server"
"""In the log, of the process that leads several."""
_POLL_SECONDS = 0.05
ENGINE_EXIT_SECONDS = 5.0
TASK_EXIT_SECONDS = 5.0
LAST_ANSWERS_SECONDS = 2.0
_INTERRUPTED_STATUS = 130


def serve(options: ServeOptions, engine_module: str = ENGINE_MODULE) -> int:
    """Runs a server until it is told to end; returns the process's exit status.

    `engine_module` is what the engine process runs.
    """
    import uvloop

    configure_logging(options.log_level, LEADER if options.api_server_count > 1 else None)
    if options.node_rank > 0:
        _serve_headless(options)
    oom_kills = count_oom_kills()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(Server(options, engine_module).run())
    except EngineDeadError as error:
        return fail(_explain(error, was_oom_killed=count_oom_kills() > oom_kills))
    except OctavoError as error:
        return fail(error)
    except Exception as error:
        log.debug("the server failed", exc_info=True)
        return fail(error)


def _serve_headless(options: ServeOptions) -> NoReturn:
    """As `serve`, of a node whose ranks another node leads; ends the process."""
    from octavo.server.process.headless import run_headless

    status = 0
    try:
        run_headless(options)
    except Exception as error:
        log.debug("the node failed", exc_info=True)
        status = fail(error)
    # Not by way of the interpreter's end, which aborts while a thread waits in torch's store.
    sys.stderr.flush()
    os._exit(status)


def _explain(death: EngineDeadError, *, was_oom_killed: bool) -> OctavoError:
    """The death of the engine in the words of the pod contract, which knows no `EngineDead`."""
    if was_oom_killed:
        return OutOfMemoryError(
            "The engine process exceeded its container's memory limit and was killed. Raise the limit "
            "(resources.memory), or lower --max-model-len, --max-num-seqs or --kv-cache-memory."
        )
    return OctavoError(str(death))


class Server:
    """The parts of one server, and the order in which they start and end."""

    def __init__(self, options: ServeOptions, engine_module: str = ENGINE_MODULE) -> None:
        self._options = options
        self._engine_module = engine_module
        self._lifecycle = Lifecycle(time.monotonic)
        self._health = EngineHealth(options.stall_timeout_seconds)
        self._sleep = SleepSwitch(self._lifecycle, options.drain_timeout_seconds)
        self._keys = ApiKeys(options.api_keys, options.api_key_file)
        files = options.tls.files
        self._certificates = None if files is None else Certificates(files)
        self._http_socket = bind(options.host, options.port, "--port")
        self._http_port = int(self._http_socket.getsockname()[1])
        self._ops_socket = bind(options.host, options.ops_port, "--ops-port")
        self._signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
        self._adapter_routes = AdapterRoutes(is_enabled=options.engine.enable_lora)
        self._client: EngineClient | None = None
        self._adapters: ServedAdapters | None = None
        self._ops: Listener | None = None
        self._front: HttpFront | None = None
        self._end = EngineDeadError("The server failed.")
        """What requests hear that are left when it ends."""

    async def run(self) -> int:
        """Raises `OctavoError` when the start fails or the engine dies."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signals.put_nowait, number)
        starting = asyncio.create_task(self._start())
        signalled = asyncio.create_task(self._signals.get())
        tasks: list[asyncio.Task[object]] = [starting, signalled]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                log.info("ended while starting", signal=signalled.result().name)
                return _INTERRUPTED_STATUS if signalled.result() is signal.SIGINT else 0
            client, front = await starting
            died = asyncio.create_task(client.wait_for_death())
            watched = asyncio.create_task(front.watch())
            tasks += [died, watched, asyncio.create_task(self._health.watch())]
            tasks.append(asyncio.create_task(self._keys.watch()))
            if self._certificates is not None and self._options.tls.enable_ssl_refresh:
                tasks.append(asyncio.create_task(self._certificates.watch()))
            over = [signalled, died, watched]
            await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
            if not signalled.done():
                self._lifecycle.state = State.FAILED
                if not died.done():
                    watched.result()  # it raises
                front.tell_of_death(died.result())
                await _answered(front)
                raise died.result()
            await self._drain(front, signalled.result(), died)
            self._end = ServerEndsError()
            return 0
        finally:
            await self._stop(tasks)

    async def _start(self) -> tuple[EngineClient, HttpFront]:
        options = self._options
        front, ops_port = await self._open_ops_port()
        self._begin_phase("resolve")
        from octavo.draft_source import with_draft_model
        from octavo.model_source import commit_of, content_of, resolve

        loop = asyncio.get_running_loop()
        with BytesShown("downloading") as shown:

            def tell(done: int, total: int) -> None:
                shown(done, total)
                loop.call_soon_threadsafe(self._lifecycle.note_bytes, done, total)

            folder = await in_daemon_thread(
                lambda: resolve(
                    options.model,
                    download_dir=options.download_dir,
                    revision=options.revision,
                    tell=tell,
                )
            )
        self._lifecycle.commit = commit_of(folder)
        if self._lifecycle.commit is None:
            self._lifecycle.content = await in_daemon_thread(lambda: content_of(folder))
        self._begin_phase("spawn")
        config = msgspec.structs.replace(options.engine_on_node, model=str(folder))
        config = await in_daemon_thread(
            lambda: with_draft_model(config, download_dir=options.download_dir)
        )
        starting = asyncio.create_task(self._start_engine(config))
        try:
            await asyncio.sleep(0)
            await front.load(folder)
            self._client = client = await starting
        except BaseException:
            starting.cancel()
            with contextlib.suppress(BaseException):
                await starting
            raise
        self._begin_phase("listen")
        await front.assemble(client)
        self._health.attach(client, front)
        self._sleep.attach(front.engine, front)
        for module in read_lora_modules(options.lora_modules):
            await front.adapters.load(module.name, module.path, parent=module.base_model_name or "")
        self._adapters = front.adapters
        self._lifecycle.adapters = front.adapters if options.engine.enable_lora else None
        self._adapter_routes.attach(front.adapters)
        await front.listen()
        self._lifecycle.mark_ready()
        ports = (self._http_port, ops_port)
        banner.announce(options, client.info, self._lifecycle, *ports, has_chat=front.has_chat)
        return client, front

    async def _start_engine(self, config: EngineConfig) -> EngineClient:
        with BytesShown("loading") as shown:

            def tell(done: int, total: int) -> None:
                shown(done, total)
                self._lifecycle.note_bytes(done, total)

            def begin_phase(name: str) -> None:
                self._begin_phase(name)
                shown.begin_phase()

            return await EngineClient.start(
                config, on_phase=begin_phase, on_bytes=tell, module=self._engine_module
            )

    async def _open_ops_port(self) -> tuple[HttpFront, int]:
        from octavo.server.http.listener import Listener
        from octavo.server.process.operations import OperationsApp
        from octavo.server.process.ops_guard import OpsGuard
        from octavo.server.process.sleep_routes import SleepRoutes

        front, exposition = self._make_front()
        self._front = front
        switch = self._sleep if self._options.engine.enable_sleep_mode else None
        app = OperationsApp(
            self._lifecycle,
            self._health,
            exposition,
            SleepRoutes(switch),
            self._adapter_routes.commands,
            OpsGuard(self._options.answered_hosts),
        )
        self._ops = Listener(app, self._ops_socket)
        await self._ops.start()
        return front, self._ops.port

    def _make_front(self) -> tuple[HttpFront, Callable[[], bytes]]:
        """With what Prometheus is told."""
        options, lifecycle = self._options, self._lifecycle
        name, has_vllm_names = options.served_names[0], options.metrics_names == VLLM_NAMES
        if options.api_server_count == 1:
            from octavo.server.process.http_front import OwnFront
            from octavo.server.process.metrics import ServerMetrics

            metrics = ServerMetrics(
                name, lifecycle, self._read_engine, has_vllm_names=has_vllm_names
            )
            bound = self._http_socket
            front = OwnFront(options, bound, self._certificates, lifecycle, self._keys, metrics)
            return front, metrics.exposition
        from octavo.server.process.api_servers.fleet import FOLDER_PREFIX, ApiServers
        from octavo.server.process.api_servers.metrics import SummedMetrics

        folder = OwnedFolder(FOLDER_PREFIX)
        summed = SummedMetrics(
            name, lifecycle, self._read_engine, folder.path, has_vllm_names=has_vllm_names
        )
        servers = ApiServers(
            options,
            self._http_socket,
            lifecycle,
            self._keys,
            self._certificates,
            folder,
            summed.public_exposition,
        )
        return servers, summed.exposition

    def _read_engine(self) -> EngineView | None:
        from octavo.server.process.engine_view import AdapterNames, EngineView

        client = self._client
        if client is None:
            return None
        # What other processes have sent, only the engine knows.
        num_under_way = client.num_under_way if self._options.api_server_count == 1 else 0
        adapters = None
        if self._options.engine.enable_lora and self._adapters is not None:
            by_id = {one.adapter_id: one.name for one in self._adapters.all}
            adapters = AdapterNames(by_id, self._options.engine.max_loras)
        return EngineView(client.stats, num_under_way, client.info.block_size, adapters)

    def _begin_phase(self, name: str) -> None:
        ended = self._lifecycle.begin_phase(name)
        if ended is not None:
            log.info("start-up phase", phase=ended.name, seconds=round(ended.seconds, 3))

    async def _drain(
        self, front: HttpFront, received: signal.Signals, died: asyncio.Task[EngineDeadError]
    ) -> None:
        """Lets endpoints propagate, until nobody new comes, then lets running requests finish; a second
        signal hurries.

        Raises:
            OctavoError: The engine died or hangs: what still runs cannot finish, and is not waited for.
        """
        options = self._options
        self._lifecycle.state = State.DRAINING
        log.info("draining", signal=received.name, requests=await front.count_in_flight())
        hurry = asyncio.create_task(self._signals.get())
        stalled = asyncio.create_task(self._health.wait_for_stall())
        over = [hurry, died, stalled]
        try:
            # At a terminal nobody waits for endpoints.
            seconds = options.drain_grace_seconds if received is signal.SIGTERM else 0.0
            arrivals, _ = await front.count_arrivals()
            grace = Grace(seconds, options.drain_timeout_seconds, arrivals, time.monotonic)
            await _answer_latecomers(front, grace, over)
            self._lifecycle.state = State.REFUSING
            front.close_idle_connections()
            if (num_in_flight := await front.count_in_flight()) and sys.stderr.isatty():
                banner.waiting_for(num_in_flight)
            while await front.count_in_flight() and time.monotonic() < grace.deadline:
                if await _is_any_done(over, _POLL_SECONDS):
                    break
        finally:
            hurry.cancel()
            stalled.cancel()
        log.info("stopping", unfinished_requests=await front.count_in_flight())
        if died.done():
            raise died.result()
        if (stall := self._health.stall) is not None:
            raise OctavoError(
                f"The engine hangs: {stall.value} for {options.stall_timeout_seconds:g} s "
                "(--stall-timeout, which must be longer than the longest step)."
            )

    async def _stop(self, tasks: list[asyncio.Task[object]]) -> None:
        if self._lifecycle.state is not State.FAILED:
            self._lifecycle.state = State.STOPPED
        for task in tasks:
            task.cancel()
        # A task that holds on must not hold the process, and with it a GPU.
        ended, stuck = await asyncio.wait(tasks, timeout=TASK_EXIT_SECONDS)
        for task in ended:
            if not task.cancelled():
                task.exception()  # whoever waited for it has told
        if stuck:
            log.warning("tasks do not end", tasks=[task.get_name() for task in stuck])
        if self._client is not None:
            await self._client.shutdown(ENGINE_EXIT_SECONDS, self._end)
            if self._front is not None:
                self._front.tell_of_death(self._end)
        if self._front is None:
            self._http_socket.close()
        else:
            await self._front.stop()
        if self._ops is None:
            self._ops_socket.close()
        else:
            await self._ops.stop()


async def _answer_latecomers(
    front: HttpFront, grace: Grace, over: Iterable[asyncio.Task[object]]
) -> None:
    """Returns when the grace is, or one of `over` ends it."""
    while (left := grace.seconds_left) > 0:
        if await _is_any_done(over, min(left, _POLL_SECONDS)):
            break
        grace.observe(*await front.count_arrivals())
    log.info("refusing", seconds=round(grace.seconds_taken, 3), is_quiet=grace.is_quiet)


async def _is_any_done(tasks: Iterable[asyncio.Task[object]], within_seconds: float) -> bool:
    done, _ = await asyncio.wait(tasks, timeout=within_seconds, return_when=asyncio.FIRST_COMPLETED)
    return bool(done)


async def _answered(front: HttpFront) -> None:
    """Gives the requests that a dead engine left behind the time to hear of it."""
    deadline = time.monotonic() + LAST_ANSWERS_SECONDS
    while await front.count_in_flight() and time.monotonic() < deadline:
        await asyncio.sleep(_POLL_SECONDS)
