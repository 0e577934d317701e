"""Id of a request: what its answer and its line in the log are found by."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable

_HEADER = b"x-request-id"
_GIVEN = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The client's own, where its first header of that name holds one, else a new one.

    Args:
        headers: By their names in lower case.
    """
    given = next((bytes(value).decode("latin-1") for name, value in headers if name == _HEADER), "")
    return given if _GIVEN.fullmatch(given) else uuid.uuid4().hex
