"""JSON text: how an object is written, and which of its characters a grammar writes by itself."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class JsonText:
    """`keys` are ranges [first, end) of `text`: each key with what stands around it, up to its value."""

    text: str
    keys: tuple[tuple[int, int], ...]


def write_object(values: dict[str, Any], *, compact: bool = False) -> JsonText:
    """As `json.dumps` writes it, Unicode as it is; `compact` leaves out the spaces."""
    comma, colon = (",", ":") if compact else (", ", ": ")
    parts: list[str] = []
    keys: list[tuple[int, int]] = []

    def write(value: Any) -> None:
        if not isinstance(value, dict):
            parts.append(json.dumps(value, ensure_ascii=False, separators=(comma, colon)))
            return
        parts.append("{")
        start = sum(map(len, parts)) - 1
        for index, (key, inner) in enumerate(value.items()):
            if index:
                parts.append(comma)
                start = sum(map(len, parts)) - (len(comma) - 1)
            parts.append(f"{json.dumps(key, ensure_ascii=False)}{colon}")
            # A text's quotation mark is given too; of what else follows, not even the space.
            end = 1 if isinstance(inner, str) else 1 - len(colon)
            keys.append((start, sum(map(len, parts)) + end))
            write(inner)
        parts.append("}")

    write(values)
    return JsonText("".join(parts), tuple(keys))
