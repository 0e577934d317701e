"""Flag names. Errors call an option what a caller from Python writes; who runs a command wrote its flag, and
the operator finds the fields of a spec by flags."""

from __future__ import annotations

import re

from octavo.config import EngineConfig
from octavo.options import option_fields
from octavo.server.process.options import ServeOptions
from octavo.server.process.tls_options import TlsOptions

_FLAGS = {
    field.spelling: field.flags[0]
    for kind in (ServeOptions, TlsOptions, EngineConfig)
    for field in option_fields(kind)
}


def in_flags(message: str) -> str:
    """The message of an `InvalidConfigurationError` with flags in place of keywords."""
    return _KEYWORD.sub(lambda found: _FLAGS[found[0]], message)


def _as_keyword(name: str) -> str:
    # Not within a path, a value, a flag, or the name of something longer.
    if "_" in name:
        return rf"(?<![\w./'\"-]){name}(?![\w/'\"=-]|\.\w)"
    # A word of any sentence, unless the sentence tells its value.
    return rf"(?:^|(?<=, )|(?<=and )|(?<=but )){name}(?= is )"


_KEYWORD = re.compile("|".join(map(_as_keyword, _FLAGS)))
