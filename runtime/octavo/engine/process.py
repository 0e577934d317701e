"""Engine process: `python -m octavo.engine.process ADDRESS`, spawned by `EngineClient`.

Standard input brings the `EngineConfig` as one line of JSON and then stays open: its end means that the API
process is gone, and this process ends too. Everything else goes over the ZeroMQ socket.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import msgspec
import structlog
import zmq

from octavo.config import EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.debugging import is_debugging
from octavo.engine.fronts import FRONTS_SOCKET
from octavo.engine.loop import EngineLoop
from octavo.engine.messages import BytesLoaded, EngineFailed, PhaseStarted, StartFailed
from octavo.errors import DeviceFaultError, OctavoError, UserError
from octavo.loading.progress import telling
from octavo.logs import configure_logging
from octavo.parents_end import go_on_at_parents_end
from octavo.worker.batch import Executor

_log = structlog.get_logger("octavo.engine")
ExecutorFactory = Callable[[EngineConfig, Callable[[str], None]], Executor]
"""From a configuration, and what is to hear of the phases of a start."""
_STDIN = 0
_EXIT_OURS, _EXIT_USERS = 1, 3
_LINGER_MS = 2000


def main(address: str, create: ExecutorFactory | None = None) -> int:
    """Runs the engine until the API process ends it; returns the exit status, unless it failed.

    `create` makes the executor; by default the model's, on its device.

    SIGINT and SIGTERM are ignored: a Ctrl-C reaches the whole process group, and the API process, which
    gets it too, decides when running requests have finished.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    go_on_at_parents_end()
    configure_logging("info", "engine")
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
        context.destroy()
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
        EngineLoop(core, socket, config).run()
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
    socket.context.destroy()
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
        for path in (socket, socket.with_name(FRONTS_SOCKET)):
            path.unlink(missing_ok=True)
        socket.parent.rmdir()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
