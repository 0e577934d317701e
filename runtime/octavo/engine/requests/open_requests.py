"""Open requests: which completions of which request wait or run, by the names that both sides give them."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as AbstractSequence

from octavo.engine.requests.sequence import Sequence


class OpenRequests:
    """A request is open while one of its completions is."""

    def __init__(self) -> None:
        self._ids: dict[str, dict[int, int]] = {}  # request_id → completion index → sequence_id

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._ids

    def open(self, request_id: str, sequences: AbstractSequence[Sequence]) -> None:
        """With all of its completions."""
        self._ids[request_id] = {one.index: one.sequence_id for one in sequences}

    def sequence_ids(
        self, request_ids: Iterable[str], indexes: Iterable[int] | None = None
    ) -> list[int]:
        """Of the completions of these requests, or of those alone that have one of `indexes`, each once.
        Unknown requests have none."""
        chosen = None if indexes is None else set(indexes)
        return [
            sequence_id
            for request_id in dict.fromkeys(request_ids)
            for index, sequence_id in self._ids.get(request_id, {}).items()
            if chosen is None or index in chosen
        ]

    def close(self, sequence: Sequence) -> None:
        """One completion has ended."""
        left = self._ids[sequence.request_id]
        del left[sequence.index]
        if not left:
            del self._ids[sequence.request_id]
