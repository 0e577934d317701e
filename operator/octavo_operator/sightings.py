"""Sightings: since when something is seen that passes by itself within seconds, or is worth a word."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from octavo_operator.manifest import ObjectKey


@dataclass(slots=True)
class Sightings:
    """What is seen of each object, by topic; `now` is seconds on any steady clock."""

    patience_seconds: float
    _since: dict[tuple[ObjectKey, str], dict[str, float]] = field(default_factory=dict)

    def lasting(
        self,
        owner: ObjectKey,
        topic: str,
        items: Collection[str],
        now: float,
        *,
        was_told: bool = False,
    ) -> tuple[list[str], float | None]:
        """Which of the items have been seen at every look for longer than the patience, or all where it
        was told before, as after a restart; and the seconds after which there will be more."""
        before = self._since.get((owner, topic), {})
        since = {each: before.get(each, now) for each in items}
        self._since[owner, topic] = since
        left = {each: at + self.patience_seconds - now for each, at in since.items()}
        lasting = [each for each, seconds in left.items() if was_told or seconds <= 0]
        return lasting, min((left[each] for each in left if each not in lasting), default=None)

    def forget(self, owner: ObjectKey) -> None:
        """The object is gone."""
        for key in [key for key in self._since if key[0] == owner]:
            del self._since[key]
