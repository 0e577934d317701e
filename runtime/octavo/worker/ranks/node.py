"""Headless node: one that has ranks of a model which another node serves.

Its process spawns the ranks, watches them, and tells the first node how one has ended. No port is open but
those of its ranks, on the group's network.
"""

from __future__ import annotations

import logging
import select
import threading
import time

from octavo.config import EngineConfig, NodePlace
from octavo.errors import InvalidConfigurationError, OctavoError, start_error
from octavo.worker.ranks.agreement import Plan
from octavo.worker.ranks.gathering import (
    ARRIVAL_SECONDS,
    PLAN,
    AnyPlan,
    assign,
    hello_key,
    node_hello,
)
from octavo.worker.ranks.meeting import Meeting
from octavo.worker.ranks.messages import Arrived, MeetingPoint, Verdict, Word
from octavo.worker.ranks.on_gpus import take_gpu
from octavo.worker.ranks.spread_team import REMOTE_WORDS_SECONDS, VERDICT, word_key
from octavo.worker.ranks.team import LAST_WORDS_SECONDS, Member, Team, ending, last_report
from octavo.worker.start.encoder import plan_model
from octavo.worker.start.memory import KVCacheSize

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5
_FOR_EVER_SECONDS = 10.0 * 365 * 86400
# Beyond the time in which the first rank finds out.
_VERDICT_SECONDS = LAST_WORDS_SECONDS + REMOTE_WORDS_SECONDS + 2.0


def run_node(
    config: EngineConfig, place: NodePlace, must_end: threading.Event, drain_seconds: float
) -> None:
    """Returns when the first node has ended the group, or `drain_seconds` after `must_end`.

    Raises `OctavoError`, of the kind that says why the group is none or ended.
    """
    take_gpu(config, config.local_ranks.start)
    plan = plan_model(config)
    seconds = config.distributed_timeout_seconds
    meeting = Meeting.find(place, seconds)
    if not meeting.take_place(place.node_rank):
        raise InvalidConfigurationError(
            f"node_rank is {place.node_rank}, and another node has that place already. Give each its own; a "
            "node that restarts joins when the first has restarted, too."
        )
    size = config.tensor_parallel_size
    where = f"on node {place.node_rank} ({meeting.address})"
    team = Team(config.local_ranks, lambda rank: f"rank {rank} of {size} {where}", seconds)
    try:
        _join(plan, place, meeting, team)
        logger.info("node %d of %d has joined.", place.node_rank, place.num_nodes)
        verdict = _VerdictWatch(Meeting.find(place, seconds))
        _watch(team, verdict, must_end, drain_seconds)
        own = None if verdict.is_known else _tell_ends(team, meeting)
        if own is not None:
            raise OctavoError(own)
        if not verdict.wait(_VERDICT_SECONDS) and not must_end.is_set():
            raise OctavoError(
                f"rank 0 of {size} on node 0 ({place.master_addr}) is gone, or did not answer within "
                f"{seconds:g} s (--distributed-timeout-seconds)."
            )
        if verdict.failure is not None:
            raise start_error(verdict.reason, verdict.failure)
    finally:
        team.end()


def _join(plan: AnyPlan, place: NodePlace, meeting: Meeting, team: Team) -> None:
    seconds = plan.config.distributed_timeout_seconds
    team.wait_for(Arrived, ARRIVAL_SECONDS)
    meeting.post(hello_key(place.node_rank), node_hello(plan, meeting.address))
    try:
        # All others have as long, and the first node then says who did not come.
        agreed = meeting.read(PLAN, Plan, seconds + _VERDICT_SECONDS)
    except TimeoutError:
        raise OctavoError(
            f"Node 0 ({place.master_addr}) did not say within {seconds:g} s whether all nodes are there "
            "(--distributed-timeout-seconds)."
        ) from None
    if agreed.refusal is not None:
        raise start_error(agreed.reason, agreed.refusal)
    cache = KVCacheSize(agreed.num_blocks, agreed.max_model_len, is_capped=False)
    point = MeetingPoint(meeting.first_address, place.master_port, meeting.address)
    assign(plan, team, cache, point)


class _VerdictWatch:
    """Waits for the first node's verdict: a rank that hangs here ends nothing by itself.

    Args:
        meeting: A connection of its own, which it waits in.
    """

    def __init__(self, meeting: Meeting) -> None:
        self.failure: str | None = None
        self.reason = OctavoError.reason
        self._known = threading.Event()
        self._meeting = meeting
        threading.Thread(target=self._read, name="verdict", daemon=True).start()

    @property
    def is_known(self) -> bool:
        return self._known.is_set()

    def wait(self, seconds: float) -> bool:
        """Whether there is one by then."""
        return self._known.wait(seconds)

    def _read(self) -> None:
        try:
            verdict = self._meeting.read(VERDICT, Verdict, _FOR_EVER_SECONDS)
        except (TimeoutError, OctavoError):
            return  # the first node is gone: its ranks' absence tells
        self.failure, self.reason = verdict.failure, verdict.reason
        self._known.set()


def _watch(
    team: Team, verdict: _VerdictWatch, must_end: threading.Event, drain_seconds: float
) -> None:
    """Returns when a rank has ended, the group has, or it is time."""
    deadline: float | None = None
    while not select.select(team.lifelines, (), (), _LOOK_SECONDS)[0]:
        if must_end.is_set() and deadline is None:
            deadline = time.monotonic() + drain_seconds
        if verdict.is_known or (deadline is not None and time.monotonic() > deadline):
            return


def _tell_ends(team: Team, meeting: Meeting) -> str | None:
    """Tells the first node of each rank that has ended here; returns the first that did so by itself."""
    own: str | None = None
    deadline = time.monotonic() + LAST_WORDS_SECONDS
    for member in team.members:
        message = _word(member, deadline)
        if message is None:
            continue
        meeting.post(word_key(member.rank), Word(message=message or None))
        if message:
            own = own or f"{member.name} {message}"
    return own


def _word(member: Member, deadline: float) -> str | None:
    """Why it has ended; empty: it lost another rank. None: it has not."""
    try:
        report = last_report(member, deadline)
    except TimeoutError:
        return None
    if report is None:
        return ending(member)
    return "" if report.is_lost else f"failed: {report.message}"
