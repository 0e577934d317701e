"""Spread team: the ranks of several nodes, as the first rank holds them.

What goes to all of them goes by the group's broadcast. Those of this node are its children; of the others
their nodes' processes tell, in the store where they met, when one has ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from octavo.errors import DeviceFaultError, OctavoError
from octavo.worker.batch import Heartbeat
from octavo.worker.ranks.commands import Kind, pack_command
from octavo.worker.ranks.meeting import Meeting
from octavo.worker.ranks.messages import LOAD_SECONDS, Verdict, Word
from octavo.worker.ranks.team import Team

VERDICT = "verdict"
# Of the timeout: beats are so much closer than ranks wait for one.
_BEATS_PER_TIMEOUT = 4
_TELL_SECONDS = 0.3
REMOTE_WORDS_SECONDS = 8.0
"""That another node has to say how its ranks ended: its process must be woken, bury them, and write."""


def word_key(rank: int) -> str:
    return f"word/{rank}"


class SpreadTeam(Team):
    """
    Args:
        meeting: Of all nodes.
        local, remote: Ranks of this node but the first, and of the others.
        name_of: Which of how many a rank is, on which node.
    """

    def __init__(
        self,
        meeting: Meeting,
        local: Sequence[int],
        remote: Sequence[int],
        name_of: Callable[[int], str],
        timeout_seconds: float,
    ) -> None:
        super().__init__(local, name_of, timeout_seconds)
        self._meeting_of_nodes = meeting
        self._remote = remote
        self._name_of = name_of
        self._has_ended = False

    @property
    def heartbeat(self) -> Heartbeat:
        return Heartbeat(self._timeout_seconds / _BEATS_PER_TIMEOUT, self._beat)

    def wait_until_awake(self) -> None:
        """Also after the start. Raises `DeviceFaultError` where a rank has ended, or takes too long."""
        self._together(lambda group: group.meet(LOAD_SECONDS))

    def fail(self, message: str) -> DeviceFaultError:
        self._failure = self._failure or message  # `end` tells it
        return super().fail(self._failure)

    def end(self) -> None:
        self._tell(self._failure)
        super().end()

    def _tell(self, failure: str | None) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        self._meeting_of_nodes.post(VERDICT, Verdict(failure=failure, reason=self._reason))
        time.sleep(_TELL_SECONDS)  # the store ends with this process

    def _send(self, frame: bytes) -> None:
        self._together(lambda group: group.broadcast(frame))

    def _beat(self) -> None:
        self._send(pack_command(Kind.BEAT))
        self._together(lambda group: group.meet(self._timeout_seconds))

    def _diagnosis(self) -> str | None:
        return super()._diagnosis() or self._remote_diagnosis()

    def _remote_diagnosis(self) -> str | None:
        """As `_diagnosis`, of what their nodes say of the others."""
        deadline = time.monotonic() + REMOTE_WORDS_SECONDS
        silent, lost = [], []
        for rank in self._remote:
            try:
                word = self._meeting_of_nodes.read(
                    word_key(rank), Word, deadline - time.monotonic()
                )
            except (TimeoutError, OctavoError):
                silent.append(rank)
                continue
            if word.message is not None:
                return f"{self._name_of(rank)} {word.message}"
            lost.append(rank)
        names = " and ".join(map(self._name_of, silent or lost))
        seconds = f"{self._timeout_seconds:g} s (--distributed-timeout-seconds)"
        if silent:
            return f"{names} did not answer within {seconds}."
        if not lost:
            return None
        return (
            f"{names} lost another rank as this one did, and none has ended by itself: what nodes send each "
            f"other did not arrive within {seconds}, or one was held up for as long. See the network between "
            "them."
        )
