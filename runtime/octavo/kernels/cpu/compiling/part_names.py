"""Names of a kernel's parts, which tell apart what one factory makes: of other tiles, widths or formats.

A kernel in numba's cache brings the machine code of its parts along, under names made of a part's qualified
name, its arguments' types and a number that is unique in the process that compiled it, there alone. Of two
kernels that two processes compiled, the part of the one would be called by the other as well, where a third
process loads both and these names are the same: the linker takes a name's first definition.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable
from types import FunctionType
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.dispatcher import Dispatcher

_PLAIN = (bool, int, float, str, enum.Enum, types.Type, ir.Type, type(None))


def distinct_name(function: Callable[..., object]) -> str:
    """The qualified name, with a digest of what the function closes over, the same in every process.

    Raises:
        ValueError: It closes over something whose content is not known.
    """
    name = function.__qualname__
    if not function.__closure__:
        return name
    digest = hashlib.sha256(_contents(function).encode()).hexdigest()
    return f"{name}_{digest[:16]}"


def _contents(value: Any) -> str:
    """A text that is another for everything that would be compiled otherwise."""
    if isinstance(value, _PLAIN):
        return f"{type(value).__qualname__} {value}"
    if isinstance(value, tuple | list):
        return f"({', '.join(_contents(one) for one in value)})"
    if isinstance(value, Dispatcher):  # a part, whose name is distinct
        return f"{value.py_func.__module__} {value.py_func.__qualname__}"
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        given = (value.__defaults__ or (), tuple((value.__kwdefaults__ or {}).items()))
        return f"{value.__module__} {value.__qualname__} {_contents(cells)} {_contents(given)}"
    if isinstance(wrapped := getattr(value, "__wrapped__", None), FunctionType):  # an intrinsic
        return _contents(wrapped)
    raise ValueError(
        f"A part of a kernel closes over {value!r}, whose content has no name here; give the part what it "
        "needs of it as numbers, or name its kind in part_names."
    )
