"""Options as JSON: how a server's processes hand them on. Never by a command line, which all may read."""

from __future__ import annotations

from pathlib import Path, PurePath

import msgspec

from octavo.server.process.options import ServeOptions


def encode_options(options: ServeOptions) -> bytes:
    return msgspec.json.encode(options, enc_hook=_plain)


def decode_options(text: bytes) -> ServeOptions:
    """Raises `InvalidConfigurationError`, as `ServeOptions` does."""
    return msgspec.json.decode(text, type=ServeOptions, dec_hook=_path)


def _plain(value: object) -> str:
    if isinstance(value, PurePath):
        return str(value)
    raise NotImplementedError(type(value).__name__)


def _path(kind: type, value: object) -> object:
    if issubclass(kind, PurePath) and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(kind.__name__)
