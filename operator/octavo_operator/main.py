"""Entry point. `octavo-operator`: reads the settings, runs the operator, ends with 0 on SIGTERM and
SIGINT."""

from __future__ import annotations

import asyncio
import signal
import sys

import structlog
from pydantic import ValidationError

from octavo_operator import app, logs
from octavo_operator.settings import Settings

_USER_ERROR = 3
_OUR_ERROR = 1


def main() -> int:
    """The exit status: 0 when asked to stop, 3 for wrong settings, 1 when the operator failed or
    lost the lease. The last line says why: it is what the pod's status shows."""
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            field = "_".join(str(part) for part in problem["loc"]).upper()
            print(f"OCTAVO_OPERATOR_{field}: {problem['msg']}", file=sys.stderr)
        return _USER_ERROR
    logs.configure(settings.log_level, settings.log_format)
    try:
        asyncio.run(_run(settings))
    except app.LostLeaseError as error:
        structlog.get_logger().error("operator ended", why=str(error))
        return _OUR_ERROR
    except Exception as error:
        structlog.get_logger().error("operator failed", error=_in_one_line(error), exc_info=error)
        return _OUR_ERROR
    return 0


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await app.run(settings, stop)


def _in_one_line(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_in_one_line(each) for each in error.exceptions)
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    raise SystemExit(main())
