"""Names for the contents of full KV blocks, so that equal prefixes are found whoever computed them.

Keys and values of a block depend on its tokens and on all before them: a block's name is the SHA-256 of
its predecessor's name and its own token ids (the hash chain of vLLM's automatic prefix caching). Whoever
could make two prefixes collide could read another tenant's cache, hence a cryptographic hash; a salt in
front of the first block keeps tenants apart that must not even learn from timing what others asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import msgspec

_encode = msgspec.msgpack.Encoder().encode  # one length-prefixed form per list, faster than array()


class BlockNames:
    """The names of one sequence's full blocks, made as far as they are asked for.

    Args:
        salt: Sequences find only blocks that were named under their own salt; None is the common one.
    """

    __slots__ = ("_names", "_root")

    def __init__(self, salt: str | None = None) -> None:
        self._names: list[bytes] = []
        self._root = b"" if salt is None else sha256(salt.encode()).digest()

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> bytes:
        return self._names[index]

    def append(self, token_ids: Sequence[int]) -> bytes:
        """Names the next block, which holds `token_ids`."""
        parent = self._names[-1] if self._names else self._root
        name = sha256(parent + _encode(token_ids)).digest()
        self._names.append(name)
        return name

    def inherit(self, other: BlockNames, count: int) -> None:
        """Takes over the first `count` names of a sequence that begins alike, if it has more of them."""
        if len(self._names) < count <= len(other):
            self._names = other._names[:count]
