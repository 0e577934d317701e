"""Prefix hashes. Names for the contents of full KV blocks, so that equal prefixes are found whoever computed
them.

Keys and values of a block depend on its tokens and on all before them: a block's name is the SHA-256 of
its predecessor's name and its own token ids (the hash chain of vLLM's automatic prefix caching). Whoever
could make two prefixes collide could read another tenant's cache, hence a cryptographic hash; a salt in
front of the first block keeps tenants apart that must not even learn from timing what others asked. With an
adapter the same tokens have other keys and values, so its id goes in front too.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from struct import pack

_TOKEN_BYTES = 4


class BlockNames:
    """The names of one sequence's full blocks, made as far as they are asked for.

    Args:
        salt: Sequences find only blocks that were named under their own salt; None is the common one.
        adapter_id: As `salt`; 0 is the base model's.
    """

    __slots__ = ("_names", "_root")

    def __init__(self, salt: str | None = None, adapter_id: int = 0) -> None:
        self._names: list[bytes] = []
        self._root = b"" if salt is None else sha256(salt.encode()).digest()
        if adapter_id:
            self._root = sha256(b"adapter" + pack("<q", adapter_id) + self._root).digest()

    def __len__(self) -> int:
        return len(self._names)

    def between(self, first: int, stop: int) -> list[bytes]:
        """Of these blocks, which were named."""
        return self._names[first:stop]

    def extend(self, token_ids: Sequence[int], block_size: int) -> None:
        """Names the next blocks, which hold `token_ids`; `block_size` tokens each."""
        names = self._names
        name = names[-1] if names else self._root
        content = pack(f"<{len(token_ids)}i", *token_ids)
        width = block_size * _TOKEN_BYTES
        for start in range(0, len(content), width):
            name = sha256(name + content[start : start + width]).digest()
            names.append(name)

    def tail(self, num_full: int, token_ids: Sequence[int]) -> bytes:
        """The name of a block that holds `token_ids` so far, fewer than it has room for, after the first
        `num_full` blocks, which were named. No full block has such a name."""
        parent = self._names[num_full - 1] if num_full else self._root
        return sha256(b"tail" + parent + pack(f"<{len(token_ids)}i", *token_ids)).digest()

    def inherit(self, other: BlockNames, count: int) -> None:
        """Takes over the first `count` names of a sequence that begins alike, if it has more of them."""
        if len(self._names) < count <= len(other):
            self._names = other._names[:count]
