"""Start of a model that several ranks share: the first sizes and leads, the others load and follow."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass

import torch

from octavo.config import EngineConfig, NodePlace
from octavo.errors import OctavoError, start_error
from octavo.models.base import CausalLM
from octavo.worker import machine
from octavo.worker.batch import Executor
from octavo.worker.compile_ahead import CompilingAhead, compiling_ahead
from octavo.worker.cpu.executor import host_runner, start_host_executor
from octavo.worker.cpu.runner import ModelRunner
from octavo.worker.ranks.agreement import Hello, Plan, agree, hello_of
from octavo.worker.ranks.device_group import DeviceRanks
from octavo.worker.ranks.following import Follower, HostFollower
from octavo.worker.ranks.frames import NextFrame
from octavo.worker.ranks.group import GroupRanks, RankLostError, join_group
from octavo.worker.ranks.leading import LeadingRunner
from octavo.worker.ranks.meeting import Meeting
from octavo.worker.ranks.messages import (
    LOAD_SECONDS,
    Arrived,
    Assignment,
    Loaded,
    MeetingFile,
    MeetingPoint,
)
from octavo.worker.ranks.on_gpus import (
    check_gpu,
    follow_on_gpu,
    gpu_path,
    lead_on_gpus,
    ranks_on,
    take_gpu,
)
from octavo.worker.ranks.spread_team import SpreadTeam
from octavo.worker.ranks.team import Team
from octavo.worker.start.memory import KVCacheSize, format_bytes
from octavo.worker.start.phases import PhaseTimer, size_host_cache
from octavo.worker.start.plan import StartPlan, plan_start, translated_load_errors
from octavo.worker.wakeable import Wakeable

logger = logging.getLogger(__name__)

# Libraries load in seconds: who is that much later hangs.
ARRIVAL_SECONDS = 300.0
PLAN = "plan"
Joined = tuple[KVCacheSize, GroupRanks, MeetingFile | MeetingPoint]


def hello_key(node: int) -> str:
    return f"hello/{node}"


def create_shared_executor(config: EngineConfig, phase: PhaseTimer) -> Executor:
    """As `create_executor`, for `tensor_parallel_size` ranks.

    Raises also `OctavoError` where a rank's process ends or does not come.
    """
    team: Team | None = None
    try:
        with ExitStack() as stack:
            with phase("load"):
                take_gpu(config, 0)
                plan = plan_start(config)
                check_gpu(plan)
                start = (
                    LocalStart(plan) if config.place is None else SpreadStart(plan, config.place)
                )
                team = start.team
                size, control, meeting = start.join()
                ranks = _connected(plan, control, meeting, team)
                ahead = stack.enter_context(_compiling(plan))
                with translated_load_errors():
                    model = plan.build(ranks)
                start.wait_until_loaded()
            if ahead is not None:
                with phase("compile"):
                    ahead.wait()
        return _lead(plan, model, ranks, control, size, start, phase)
    except BaseException as error:
        if team is not None:
            team.end_with(error)
        raise


def _connected(
    plan: StartPlan, control: GroupRanks, meeting: MeetingFile | MeetingPoint, team: Team
) -> GroupRanks | DeviceRanks:
    try:
        return ranks_on(plan, control, meeting)
    except OctavoError as error:
        raise team.start_failure() or error from error


def _lead(
    plan: StartPlan,
    model: CausalLM,
    ranks: GroupRanks | DeviceRanks,
    control: GroupRanks,
    size: KVCacheSize,
    start: LocalStart | SpreadStart,
    phase: PhaseTimer,
) -> Executor:
    config, team, path = plan.config, start.team, gpu_path(plan.device)
    if path is not None:
        return lead_on_gpus(
            plan,
            path,
            model,
            ranks,
            control=control,
            team=team,
            name=start.name_of(0),
            phase=phase,
            heartbeat=start.heartbeat,
        )
    return start_host_executor(
        config,
        model,
        size,
        device=plan.device,
        dtype=plan.dtype,
        phase=phase,
        reload=lambda: plan.build_anew(ranks),
        lead=lambda runner: LeadingRunner(runner, team, config.tensor_parallel_size),
        followers=team,
        lifelines=team.lifelines,
        heartbeat=start.heartbeat,
    )


def _compiling(plan: StartPlan) -> AbstractContextManager[CompilingAhead | None]:
    """Of this rank's part; on its node the others', which are mostly as large, then find it done."""
    if plan.device.type != "cuda":
        return nullcontext()
    return compiling_ahead(plan.config, plan.model, plan.dtype, plan.device, plan.stored)


class LocalStart:
    """All ranks on this machine."""

    heartbeat = None

    def __init__(self, plan: StartPlan) -> None:
        config = plan.config
        self._plan = plan
        self._size = config.tensor_parallel_size
        self.team = Team(range(1, self._size), self.name_of, config.distributed_timeout_seconds)

    def name_of(self, rank: int) -> str:
        return f"rank {rank} of {self._size}"

    def join(self) -> Joined:
        """The size of each rank's KV cache, the group that they have formed, and where."""
        self.team.wait_for(Arrived, ARRIVAL_SECONDS)
        size, meeting = size_cache_of_node(self._plan), self.team.meeting_file
        return size, _join(self._plan, self.team, size, meeting), meeting

    def wait_until_loaded(self) -> None:
        tell_peaks(self.team)


class SpreadStart:
    """Ranks on several nodes, of which this is the first."""

    def __init__(self, plan: StartPlan, place: NodePlace) -> None:
        config = plan.config
        self._plan = plan
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
        return node_hello(self._plan, self._meeting.address)

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


@dataclass(frozen=True, slots=True)
class LoadedRank:
    """A rank but the first, which has its part of the model.

    Args:
        control: By which ranks tell each other things.
        prepare: Makes it ready for steps, on GPUs together with all others, by the commands that it is given.
    """

    control: GroupRanks
    is_on_gpu: bool
    prepare: Callable[[NextFrame], Follower]


def load_rank(assignment: Assignment, leave: Callable[[Exception], None]) -> LoadedRank:
    """Raises as `create_executor`.

    Args:
        leave: Ends the process with what it is told of.
    """
    config, rank = assignment.config, assignment.rank
    torch.set_num_threads(assignment.num_threads)
    take_gpu(config, rank)
    plan = plan_start(config)
    check_gpu(plan)
    control = join_group(
        rank,
        config.tensor_parallel_size,
        meeting=assignment.meeting,
        timeout_seconds=config.distributed_timeout_seconds,
    )
    ranks = ranks_on(plan, control, assignment.meeting)
    with translated_load_errors():
        model = plan.build(ranks)
    path = gpu_path(plan.device)
    if path is None:
        size = KVCacheSize(assignment.num_blocks, assignment.max_model_len, is_capped=False)
        return LoadedRank(
            control, is_on_gpu=False, prepare=lambda _: _host(plan, model, ranks, size)
        )
    return LoadedRank(
        control,
        is_on_gpu=True,
        prepare=lambda frames: follow_on_gpu(
            plan, path, model, ranks, control=control, frames=frames, leave=leave
        ),
    )


def _host(
    plan: StartPlan, model: CausalLM, ranks: GroupRanks | DeviceRanks, size: KVCacheSize
) -> Follower:
    def make(loaded: CausalLM) -> ModelRunner:
        return host_runner(plan.config, loaded, size, device=plan.device, dtype=plan.dtype)

    return HostFollower(Wakeable(model, make, lambda: plan.build_anew(ranks)))


def node_hello(plan: StartPlan, address: str) -> Hello:
    """Of this node, when the libraries of its ranks have taken their memory."""
    size = size_cache_of_node(plan)
    return hello_of(
        plan.config,
        address,
        dtype=str(plan.dtype),
        num_blocks=size.num_blocks,
        max_model_len=size.max_model_len,
        gpu=torch.cuda.get_device_name(plan.device) if plan.device.type == "cuda" else None,
    )


def size_cache_of_node(plan: StartPlan) -> KVCacheSize:
    """Nothing on GPUs, whose ranks find it out together."""
    if gpu_path(plan.device) is not None:
        return KVCacheSize(0, 0, is_capped=False)
    available = machine.available_memory_bytes()
    return size_host_cache(plan.config, plan.model, plan.dtype, plan.scheme, available)


def threads_of_ranks(plan: StartPlan) -> int:
    cores = max(1, machine.available_cpus() // len(plan.config.local_ranks))
    share = plan.model.num_parameters // plan.config.tensor_parallel_size
    return machine.threads_for(share, cores)


def assign(
    plan: StartPlan, team: Team, size: KVCacheSize, meeting: MeetingFile | MeetingPoint
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
    plan: StartPlan, team: Team, size: KVCacheSize, meeting: MeetingFile | MeetingPoint
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
