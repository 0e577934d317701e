"""Key limits: what one API key may have, as an entry of a keys file in JSON says it."""

from __future__ import annotations

from typing import Annotated

import msgspec

from octavo.errors import InvalidConfigurationError
from octavo.server.http.doubled_keys import doubled_key

Least1 = Annotated[int, msgspec.Meta(ge=1, le=2**53)]


class KeyLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """None and 0 limit nothing.

    Args:
        requests_per_minute, tokens_per_minute: Tokens are those of prompts and answers.
        max_concurrent_requests: Under way at a time.
        priority: Of its requests; they may ask for a later turn, and not for an earlier one.
        models: The served names that it may use.
        cache_salt: Its prompts share cached prefixes with nobody else's.
    """

    requests_per_minute: Least1 | None = None
    tokens_per_minute: Least1 | None = None
    max_concurrent_requests: Least1 | None = None
    priority: Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)] = 0
    models: Annotated[list[str], msgspec.Meta(min_length=1)] | None = None
    cache_salt: Annotated[str, msgspec.Meta(min_length=1, max_length=256)] | None = None

    def allows(self, model: str) -> bool:
        return self.models is None or model in self.models

    def priority_of(self, requested: int) -> int:
        """Of a request that asks for `requested`; 0 is what those have that ask for nothing."""
        return max(requested, self.priority) if requested else self.priority

    def salt_of(self, requested: str | None) -> str | None:
        if self.cache_salt is None:
            return requested
        return f"{self.cache_salt}\0{requested or ''}"


class KeyEntry(KeyLimits, frozen=True, kw_only=True):
    """One of a file; without a name it is named after that."""

    key: Annotated[str, msgspec.Meta(min_length=1)]
    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._:-]{1,64}$")] | None = None

    @property
    def limits(self) -> KeyLimits:
        fields = KeyLimits.__struct_fields__
        return KeyLimits(**{name: getattr(self, name) for name in fields})


def read_entries(text: str, origin: str) -> list[KeyEntry]:
    """One entry, or a list of them. Raises `InvalidConfigurationError`, which tells no key."""
    try:
        found = msgspec.json.decode(text, type=KeyEntry | list[KeyEntry])
    except msgspec.MsgspecError as error:
        raise InvalidConfigurationError(f"api_key_file: {origin}: {error}.") from None
    if (path := doubled_key(text.encode(), msgspec.json.decode(text))) is not None:
        raise InvalidConfigurationError(
            f"api_key_file: {origin}: {path} is there twice. Keep the one that is meant."
        )
    return found if isinstance(found, list) else [found]
