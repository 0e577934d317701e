"""Gathering of ranks: before a model is loaded they meet, on one machine or on several nodes, and agree on
the size of each one's KV cache."""

from __future__ import annotations

import logging
import time

import torch

from octavo.config import NodePlace
from octavo.errors import OctavoError, start_error
from octavo.worker import machine
from octavo.worker.ranks.agreement import Hello, Plan, agree, hello_of
from octavo.worker.ranks.group import GroupRanks, RankLostError, join_group
from octavo.worker.ranks.meeting import Meeting
from octavo.worker.ranks.messages import (
    LOAD_SECONDS,
    Arrived,
    Assignment,
    Loaded,
    MeetingFile,
    MeetingPoint,
)
from octavo.worker.ranks.on_gpus import gpu_path
from octavo.worker.ranks.spread_team import SpreadTeam
from octavo.worker.ranks.team import Team
from octavo.worker.start.draft import DrafterPlan, size_cache_with
from octavo.worker.start.encoder import EncoderPlan
from octavo.worker.start.memory import KVCacheSize, format_bytes
from octavo.worker.start.plan import StartPlan

logger = logging.getLogger(__name__)

# Libraries load in seconds: who is that much later hangs.
ARRIVAL_SECONDS = 300.0
PLAN = "plan"
AnyPlan = StartPlan | EncoderPlan
Joined = tuple[KVCacheSize, GroupRanks, MeetingFile | MeetingPoint]


def hello_key(node: int) -> str:
    return f"hello/{node}"


class LocalStart:
    """All ranks on this machine."""

    heartbeat = None

    def __init__(self, plan: AnyPlan, drafts: DrafterPlan | None) -> None:
        config = plan.config
        self._plan = plan
        self._drafts = drafts
        self._size = config.tensor_parallel_size
        self.team = Team(range(1, self._size), self.name_of, config.distributed_timeout_seconds)

    def name_of(self, rank: int) -> str:
        return f"rank {rank} of {self._size}"

    def join(self) -> Joined:
        """The size of each rank's KV cache, the group that they have formed, and where."""
        self.team.wait_for(Arrived, ARRIVAL_SECONDS)
        size, meeting = size_cache_of_node(self._plan, self._drafts), self.team.meeting_file
        control = _join(self._plan, self.team, size, meeting)
        self.team.use(control)
        return size, control, meeting

    def wait_until_loaded(self) -> None:
        tell_peaks(self.team)


class SpreadStart:
    """Ranks on several nodes, of which this is the first."""

    def __init__(self, plan: AnyPlan, place: NodePlace, drafts: DrafterPlan | None) -> None:
        config = plan.config
        self._plan = plan
        self._drafts = drafts
        self._place = place
        self._seconds = config.distributed_timeout_seconds
        self._meeting = Meeting.open(place, self._seconds)
        self._addresses = [self._meeting.address]
        local, size = config.local_ranks, config.tensor_parallel_size
        self.team = SpreadTeam(
            self._meeting, local[1:], range(local.stop, size), self.name_of, self._seconds
        )
        self.heartbeat = self.team.heartbeat

    def name_of(self, rank: int) -> str:
        config = self._plan.config
        node = rank // len(config.local_ranks)
        known = node < len(self._addresses)
        where = f" ({self._addresses[node]})" if known else ""
        return f"rank {rank} of {config.tensor_parallel_size} on node {node}{where}"

    def join(self) -> Joined:
        """As that of `LocalStart`. Raises `OctavoError` where a node does not come, or is another kind of
        node."""
        self.team.wait_for(Arrived, ARRIVAL_SECONDS)
        agreed = agree([self._own_hello(), *self._others()])
        if agreed.refusal is not None:
            self._meeting.post(PLAN, agreed)
            raise start_error(agreed.reason, agreed.refusal)
        self._meeting.post(PLAN, agreed)
        size = KVCacheSize(agreed.num_blocks, agreed.max_model_len, is_capped=False)
        point = MeetingPoint(self._meeting.address, self._place.master_port, self._meeting.address)
        control = _join(self._plan, self.team, size, point)
        self.team.use(control)
        return size, control, point

    def wait_until_loaded(self) -> None:
        tell_peaks(self.team)
        self.team.wait_until_awake()

    def _own_hello(self) -> Hello:
        return node_hello(self._plan, self._meeting.address, self._drafts)

    def _others(self) -> list[Hello]:
        deadline = time.monotonic() + self._seconds
        found = []
        for node in range(1, self._place.num_nodes):
            try:
                hello = self._meeting.read(hello_key(node), Hello, deadline - time.monotonic())
            except TimeoutError:
                count = len(self._plan.config.local_ranks)
                ranks = f"ranks {node * count} to {node * count + count - 1}"
                if count == 1:
                    ranks = f"rank {node}"
                message = (
                    f"Node {node} of {self._place.num_nodes} with {ranks} of "
                    f"{self._plan.config.tensor_parallel_size} did not come within {self._seconds:g} s "
                    "(--distributed-timeout-seconds)."
                )
                self._meeting.post(PLAN, Plan(refusal=message))
                raise OctavoError(message) from None
            self._addresses.append(hello.address)
            found.append(hello)
        return found


def node_hello(plan: AnyPlan, address: str, drafts: DrafterPlan | None = None) -> Hello:
    """Of this node, when the libraries of its ranks have taken their memory."""
    size = size_cache_of_node(plan, drafts)
    return hello_of(
        plan.config,
        address,
        dtype=str(plan.dtype),
        num_blocks=size.num_blocks,
        max_model_len=size.max_model_len,
        gpu=torch.cuda.get_device_name(plan.device) if plan.device.type == "cuda" else None,
    )


def size_cache_of_node(plan: AnyPlan, drafts: DrafterPlan | None) -> KVCacheSize:
    """Nothing on GPUs, whose ranks find it out together; of encoders, which keep nothing, no blocks.

    Args:
        drafts: What the first rank has beside the model, where it is of this node.
    """
    if gpu_path(plan.device) is not None:
        return KVCacheSize(0, 0, is_capped=False)
    if isinstance(plan, EncoderPlan):
        plan.check_memory()
        return KVCacheSize(0, plan.max_model_len, is_capped=False)
    return size_cache_with(drafts, plan)


def threads_of_ranks(plan: AnyPlan) -> int:
    cores = max(1, machine.available_cpus() // len(plan.config.local_ranks))
    share = plan.model.num_parameters // plan.config.tensor_parallel_size
    return machine.threads_for(share, cores)


def assign(
    plan: AnyPlan, team: Team, size: KVCacheSize, meeting: MeetingFile | MeetingPoint
) -> None:
    """To each rank of the team what it is to do. Raises as `Team.assign`."""
    num_threads = threads_of_ranks(plan)
    team.assign(
        lambda rank: Assignment(
            config=plan.config,
            rank=rank,
            meeting=meeting,
            num_threads=num_threads,
            num_blocks=size.num_blocks,
            max_model_len=size.max_model_len,
        )
    )


def tell_peaks(team: Team) -> None:
    """When all ranks of the team are loaded. Raises as `Team.wait_for`."""
    found = team.wait_for(Loaded, LOAD_SECONDS)
    for member, loaded in zip(team.members, found, strict=True):
        peak = format_bytes(loaded.peak_memory_bytes)
        logger.info("%s is loaded; peak memory %s.", member.name, peak)


def _join(
    plan: AnyPlan, team: Team, size: KVCacheSize, meeting: MeetingFile | MeetingPoint
) -> GroupRanks:
    assign(plan, team, size, meeting)
    torch.set_num_threads(threads_of_ranks(plan))
    try:
        return join_group(
            0,
            plan.config.tensor_parallel_size,
            meeting=meeting,
            timeout_seconds=plan.config.distributed_timeout_seconds,
        )
    except RankLostError as error:
        raise team.failure(str(error)) from error
