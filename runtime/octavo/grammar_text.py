"""Grammar text: literals in Lark's syntax, with special tokens by their ids, and what ends with one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping


def written(text: str, special_ids: Mapping[str, int]) -> str:
    """Nothing of an empty text.

    Args:
        special_ids: Of special tokens by their text.
    """
    known = [re.escape(one) for one in special_ids if one and one in text]
    pieces = re.split(f"({'|'.join(known)})", text) if known else [text]
    return " ".join(
        f"<[{special_ids[piece]}]>"
        if piece in special_ids
        else json.dumps(piece, ensure_ascii=False)
        for piece in pieces
        if piece
    )


def text_up_to(rule: str, end: str, text: str = "TEXT") -> str:
    """The rule of any text and the first `end` behind it, which `written` has written.

    Args:
        text: The terminal of any text.
    """
    # A special token stands in no lexeme, and none of them takes it for text.
    return f"{rule}: {text} {end}" if end.startswith("<[") else f"{rule}[lazy]: {text} {end}"
