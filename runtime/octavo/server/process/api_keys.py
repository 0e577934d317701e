"""API keys: those that open the HTTP port, and the file that they are read from anew while the server runs.

A Secret that is mounted changes under a running pod, at another moment in each. So a rotation is: add the
new key to the file, let the clients change over, take the old key out; whichever key the file holds is
taken, and no pod starts anew.
"""

from __future__ import annotations

import asyncio
import codecs
import hashlib
import hmac
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from octavo.errors import InvalidConfigurationError
from octavo.server.process.key_limits import KeyLimits, read_entries

log = structlog.get_logger("octavo.server")

POLL_SECONDS = 1.0
MAX_BYTES = 2**20
"""Of one file: what a Secret may hold."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key that is accepted, as its digest. The name may be told, the key itself never."""

    name: str
    digest: bytes
    limits: KeyLimits = field(default_factory=KeyLimits)


class ApiKeys:
    """The keys that are accepted now.

    They are kept and compared as digests, in constant time, so that neither length nor prefix shows.

    Args:
        given: Keys that hold as long as the server runs.
        file: A file, or a folder of them, whose keys hold as long as they are in it.

    Raises `InvalidConfigurationError` when the file cannot be read or holds none.
    """

    def __init__(self, given: Sequence[str] = (), file: Path | None = None) -> None:
        self._given = [Key(f"given:{number}", _digest(key)) for number, key in enumerate(given, 1)]
        self._file = file
        self._has_file = file is not None
        self._in_file: list[Key] = []
        self.on_change: Callable[[list[Key]], None] | None = None
        """Told of the file's keys when they have changed."""
        self._problem = ""
        if file is not None:
            self._in_file = read_keys(file)
            if not self._in_file:
                raise InvalidConfigurationError(f"api_key_file is {file}; it holds no key.")

    @classmethod
    def told(cls, given: Sequence[str], *, has_file: bool, in_file: list[Key]) -> ApiKeys:
        """Where another process reads the file, and tells of it by `take`."""
        keys = cls(given)
        keys._has_file = has_file
        keys._in_file = in_file
        return keys

    @property
    def are_needed(self) -> bool:
        """Whether requests must bring one; also while the file is empty, when none will do."""
        return bool(self._given) or self._has_file

    @property
    def in_file(self) -> list[Key]:
        return self._in_file

    def find(self, key: str) -> Key | None:
        """The key that this is; None when it is none."""
        digest, found = _digest(key), None
        # No early exit: the time must not tell which key came close.
        for known in (*self._given, *self._in_file):
            if hmac.compare_digest(digest, known.digest):
                found = known
        return found

    def name_of(self, key: str) -> str | None:
        """The name of the key that this is; None when it is none."""
        found = self.find(key)
        return None if found is None else found.name

    async def watch(self) -> None:
        """Reads the file anew again and again, until it is cancelled."""
        while self._file is not None:
            try:
                keys = await asyncio.to_thread(read_keys, self._file)
            except InvalidConfigurationError as error:
                self._say(f"{error} The keys that were read before go on.")
            else:
                if keys != self._in_file:
                    log.info("API keys changed", names=[key.name for key in keys])
                self.take(keys)
                self._say("" if keys else f"{self._file} holds no key: nobody is let in.")
            await asyncio.sleep(POLL_SECONDS)

    def take(self, keys: list[Key]) -> None:
        """These are the file's now. Whoever reads it logs that, not who is told."""
        if keys != self._in_file:
            self._in_file = keys
            if self.on_change is not None:
                self.on_change(keys)

    def _say(self, problem: str) -> None:
        """Logs what is wrong once, not at every look."""
        if problem and problem != self._problem:
            log.error("API keys", problem=problem)
        self._problem = problem


def read_keys(path: Path) -> list[Key]:
    """The keys in a file, or in every file of a folder: what white space separates, or JSON with limits.

    A key is named after its file; the second of a file `a` is `a:2`. Raises `InvalidConfigurationError`.
    """
    while True:
        state = _state(path)
        try:
            found = [each for file in _files(state) for each in _keys_in(file, path)]
            break
        except OSError as error:
            if _state(path) != state:
                continue  # the kubelet took away what was being read: there is newer
            name = str(error.filename or path).replace(str(state), str(path))
            raise InvalidConfigurationError(
                f"api_key_file: {name} cannot be read ({error.strerror})."
            ) from None
    places: dict[bytes, str] = {}
    for key, place in found:
        if (first := places.setdefault(key.digest, place)) != place:
            raise InvalidConfigurationError(
                f"api_key_file: {first} and {place} are the same key, which may have one name and "
                "its limits once. Take one of the two out."
            )
    return [key for key, _ in found]


def _state(path: Path) -> Path:
    """Where to read. Of a folder that the kubelet fills: the one that its link shows at present, which holds
    all files of one state. Those outside lead there one by one, and are made and taken away after the change,
    so that a key whose entry got another name would be in none of them meanwhile.
    """
    link = path / "..data"
    return Path(os.path.realpath(link)) if os.path.isdir(link) else path  # noqa: PTH112 (never raises)


def _files(state: Path) -> list[Path]:
    if not state.is_dir():
        return [state]
    return [each for each in sorted(state.iterdir()) if _holds_keys(each)]


def _holds_keys(file: Path) -> bool:
    """Of a folder's: no hidden one, among which are the links by which the kubelet changes all files at once,
    and no backup of an editor's (`a~`, `#a#`), which would keep a key that was taken out. No entry of a
    Secret can have such a backup's name.
    """
    return not file.name.startswith((".", "#")) and not file.name.endswith("~") and file.is_file()


def _keys_in(file: Path, path: Path) -> list[tuple[Key, str]]:
    """Each with its place, for messages, in which the file is where it was asked for."""
    shown = path if file == path else path / file.name
    text = _text(file, shown)
    if text.lstrip().startswith(("{", "[")):
        keys = [
            Key(entry.name or _name(file, number), _digest(entry.key), entry.limits)
            for number, entry in enumerate(read_entries(text, str(shown)), 1)
        ]
    else:
        keys = [
            Key(_name(file, number), _digest(key)) for number, key in enumerate(text.split(), 1)
        ]
    return [(key, f"{key.name} (entry {number} of {shown})") for number, key in enumerate(keys, 1)]


def _name(file: Path, number: int) -> str:
    return file.name if number == 1 else f"{file.name}:{number}"


def _text(file: Path, shown: Path) -> str:
    if file.exists() and not file.is_file():
        raise InvalidConfigurationError(
            f"api_key_file: {shown} is no regular file, which could be read again."
        )
    with file.open("rb") as opened:
        content = opened.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InvalidConfigurationError(f"api_key_file: {shown} is larger than {MAX_BYTES} bytes.")
    text = content.removeprefix(codecs.BOM_UTF8).decode("ascii", "replace")
    if not all(each.isascii() and (each.isprintable() or each.isspace()) for each in text):
        # What a header cannot carry would be a key that nobody can send.
        raise InvalidConfigurationError(
            f"api_key_file: {shown} holds characters that are not printable ASCII."
        )
    return text


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
