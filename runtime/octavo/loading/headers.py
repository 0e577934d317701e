"""Headers of safetensors: names, dtypes and shapes of tensors, from the beginnings of a checkpoint's files.

A file begins with the header's length, eight bytes, and the header, a JSON object: two ranges are all that a
remote place is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from octavo.errors import ModelInvalidError

# As safetensors' own readers allow.
_MOST_BYTES = 100_000_000
_LENGTH_BYTES = 8

ReadRange = Callable[[str, int, int], bytes]
"""The bytes `[start, end)` of a file of this name."""


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """`dtype` as the format calls it, such as `BF16`."""

    dtype: str
    shape: tuple[int, ...]
    num_bytes: int


def read_headers(place: str, files: Iterable[str], read: ReadRange) -> dict[str, TensorHeader]:
    """Of all tensors in the files.

    Args:
        place: Folder or URL, for messages.

    Raises `ModelInvalidError` for a file that begins otherwise, and whatever `read` raises.
    """
    found: dict[str, TensorHeader] = {}
    for name in files:
        length = int.from_bytes(read(name, 0, _LENGTH_BYTES), "little")
        if not 2 <= length <= _MOST_BYTES:
            raise _damaged(place, name, f"its header has {length} bytes")
        try:
            header = json.loads(read(name, _LENGTH_BYTES, _LENGTH_BYTES + length))
            header.pop("__metadata__", None)
            for tensor, said in header.items():
                begin, end = said["data_offsets"]
                shape = tuple(map(int, said["shape"]))
                found[tensor] = TensorHeader(str(said["dtype"]), shape, int(end) - int(begin))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _damaged(place, name, repr(error)) from error
    return found


def _damaged(place: str, name: str, why: str) -> ModelInvalidError:
    return ModelInvalidError(f"{place}/{name} is no safetensors file ({why:.200}).")
