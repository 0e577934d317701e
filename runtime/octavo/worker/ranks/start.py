"""Start of a model that several ranks share: the first sizes and leads, the others load and follow."""

from __future__ import annotations

import logging
import time

import torch

from octavo.config import EngineConfig, NodePlace
from octavo.errors import InvalidConfigurationError, OctavoError, start_error
from octavo.layers.ranks import Ranks
from octavo.models.base import CausalLM
from octavo.worker import machine
from octavo.worker.batch import Executor
from octavo.worker.cpu.executor import host_runner, start_host_executor
from octavo.worker.cpu.runner import ModelRunner
from octavo.worker.ranks.agreement import Hello, Plan, agree, hello_of
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
from octavo.worker.ranks.spread_team import SpreadTeam
from octavo.worker.ranks.team import Team
from octavo.worker.start.memory import KVCacheSize, format_bytes
from octavo.worker.start.phases import PhaseTimer, size_host_cache
from octavo.worker.start.plan import StartPlan, plan_start
from octavo.worker.wakeable import Wakeable

logger = logging.getLogger(__name__)

# Libraries load in seconds: who is that much later hangs.
ARRIVAL_SECONDS = 300.0
PLAN = "plan"


def hello_key(node: int) -> str:
    return f"hello/{node}"


def create_shared_executor(config: EngineConfig, phase: PhaseTimer) -> Executor:
    """As `create_executor`, for `tensor_parallel_size` ranks.

    Raises also `OctavoError` where a rank's process ends or does not come.
    """
    team: Team | None = None
    try:
        with phase("load"):
            plan = plan_start(config)
            check_device(plan)
            if config.place is not None:
                start: SpreadStart | LocalStart = SpreadStart(plan, config.place)
            else:
                start = LocalStart(plan)
            team = start.team
            size, ranks = start.join()
            model = plan.build(ranks)
            start.wait_until_loaded()
        lead = team
        return start_host_executor(
            plan.config,
            model,
            size,
            device=plan.device,
            dtype=plan.dtype,
            phase=phase,
            reload=lambda: plan.build_anew(ranks),
            lead=lambda runner: LeadingRunner(runner, lead, config.tensor_parallel_size),
            followers=lead,
            lifelines=team.lifelines,
            heartbeat=start.heartbeat,
        )
    except BaseException as error:
        if team is not None:
            team.end_with(error)
        raise


class LocalStart:
    """All ranks on this machine."""

    heartbeat = None

    def __init__(self, plan: StartPlan) -> None:
        config = plan.config
        self._plan = plan
        self._size = config.tensor_parallel_size
        self.team = Team(
            range(1, self._size),
            lambda rank: f"rank {rank} of {self._size}",
            config.distributed_timeout_seconds,
        )

    def join(self) -> tuple[KVCacheSize, Ranks]:
        """The size of each rank's KV cache, and the group that they have formed."""
        self.team.wait_for(Arrived, ARRIVAL_SECONDS)
        size = size_cache_of_node(self._plan)
        return size, _join(self._plan, self.team, size, self.team.meeting_file)

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

        def name_of(rank: int) -> str:
            node = rank // len(local)
            known = node < len(self._addresses)
            where = f" ({self._addresses[node]})" if known else ""
            return f"rank {rank} of {size} on node {node}{where}"

        self.team = SpreadTeam(
            self._meeting, local[1:], range(local.stop, size), name_of, self._seconds
        )
        self.heartbeat = self.team.heartbeat

    def join(self) -> tuple[KVCacheSize, Ranks]:
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
        ranks = _join(self._plan, self.team, size, point)
        self.team.use(ranks)
        return size, ranks

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


def load_rank(assignment: Assignment) -> tuple[Wakeable[CausalLM, ModelRunner], GroupRanks]:
    """A rank but the first, ready for steps. Raises as `create_executor`."""
    config, rank = assignment.config, assignment.rank
    torch.set_num_threads(assignment.num_threads)
    plan = plan_start(config)
    ranks = join_group(
        rank,
        config.tensor_parallel_size,
        meeting=assignment.meeting,
        device=plan.device,
        timeout_seconds=config.distributed_timeout_seconds,
    )
    size = KVCacheSize(assignment.num_blocks, assignment.max_model_len, is_capped=False)

    def make(model: CausalLM) -> ModelRunner:
        return host_runner(plan.config, model, size, device=plan.device, dtype=plan.dtype)

    return Wakeable(plan.build(ranks), make, lambda: plan.build_anew(ranks)), ranks


def node_hello(plan: StartPlan, address: str) -> Hello:
    """Of this node, when the libraries of its ranks have taken their memory."""
    size = size_cache_of_node(plan)
    return hello_of(
        plan.config,
        address,
        dtype=str(plan.dtype),
        num_blocks=size.num_blocks,
        max_model_len=size.max_model_len,
    )


def size_cache_of_node(plan: StartPlan) -> KVCacheSize:
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
            device=plan.device,
            timeout_seconds=plan.config.distributed_timeout_seconds,
        )
    except RankLostError as error:
        raise team.failure(str(error)) from error


def check_device(plan: StartPlan) -> None:
    if plan.device.type != "cpu":
        raise InvalidConfigurationError(
            f"tensor_parallel_size is {plan.config.tensor_parallel_size}, and ranks share a model on CPUs "
            f"alone so far; the engine runs on {plan.device.type}. Use --tensor-parallel-size 1, or "
            "--device cpu."
        )
