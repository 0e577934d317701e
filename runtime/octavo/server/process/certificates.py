"""Certificates: the files of TLS, read anew while the server runs, so that a renewed certificate needs no
restart.

One process reads them and tells the others. What does not fit is told by name and changes nothing: the last
ones that did go on, also in a process that starts later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from octavo.errors import InvalidConfigurationError
from octavo.server.http.tls import TlsMaterial
from octavo.server.http.tls_files import TlsFiles
from octavo.server.http.validity import validity

log = structlog.get_logger("octavo.server")

POLL_SECONDS = 1.0


def _now() -> datetime:
    return datetime.now(UTC)


class Certificates:
    """Raises `InvalidConfigurationError` when built of files that do not do.

    Args:
        now: The time, by which a certificate holds or does not.

    Attributes:
        material: The last that did.
        on_change: Told of it when it has changed.
    """

    def __init__(self, files: TlsFiles, now: Callable[[], datetime] = _now) -> None:
        self._files = files
        self._now = now
        self.material = files.read()
        files.check(self.material)
        self.on_change: Callable[[TlsMaterial], None] | None = None
        self._problem = self._told = ""
        self._is_out_of_time = False
        self._look_at_validity()

    async def watch(self) -> None:
        """Looks at the files again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                material = await asyncio.to_thread(self._read)
            except InvalidConfigurationError as error:
                self._say(str(error))
                continue
            self._say("")
            if material != self.material:
                self._take(material)
            self._look_at_validity()

    def _read(self) -> TlsMaterial:
        material = self._files.read()
        if material != self.material:
            self._files.check(material)
        return material

    def _take(self, material: TlsMaterial) -> None:
        self.material = material
        self._is_out_of_time = False
        holds = validity(material.certificates)
        log.info(
            "TLS certificate changed",
            file=str(self._files.certfile),
            valid_until=None if holds is None else holds.end.isoformat(),
        )
        if self.on_change is not None:
            self.on_change(material)

    def _say(self, problem: str) -> None:
        """Logs once what is wrong at two looks: between the two files of a renewal they do not fit."""
        if problem and problem == self._problem != self._told:
            log.error(
                "TLS certificate",
                problem=f"{problem} The certificate that was read before goes on.",
            )
            self._told = problem
        if not problem:
            self._told = ""
        self._problem = problem

    def _look_at_validity(self) -> None:
        holds = validity(self.material.certificates)
        if holds is None or self._is_out_of_time:
            return
        now, file = self._now(), str(self._files.certfile)
        if now > holds.end:
            self._is_out_of_time = True
            log.warning("TLS certificate has expired", file=file, since=holds.end.isoformat())
        elif now < holds.begin:
            self._is_out_of_time = True
            log.warning(
                "TLS certificate is not valid yet", file=file, valid_from=holds.begin.isoformat()
            )
