"""Start of a model that several ranks share: the first sizes and leads, the others load and follow."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial

import torch

from octavo.config import EngineConfig
from octavo.errors import OctavoError
from octavo.models.base import CausalLM, Encoder
from octavo.worker.batch import Executor
from octavo.worker.compile_ahead import CompilingAhead, compiling_ahead
from octavo.worker.cpu.drafter import MakeDrafter
from octavo.worker.cpu.encoder import EncoderExecutor
from octavo.worker.cpu.executor import host_pooling, host_runner, start_host_executor
from octavo.worker.cpu.runner import ModelRunner
from octavo.worker.loaded import Loaded
from octavo.worker.ranks.device_group import DeviceRanks
from octavo.worker.ranks.following import EncodingFollower, Follower, HostFollower
from octavo.worker.ranks.frames import NextFrame
from octavo.worker.ranks.gathering import AnyPlan, LocalStart, SpreadStart
from octavo.worker.ranks.group import GroupRanks, join_group
from octavo.worker.ranks.leading import LeadingPromptRunner, LeadingRunner
from octavo.worker.ranks.messages import Assignment, MeetingFile, MeetingPoint
from octavo.worker.ranks.on_gpus import (
    check_gpu,
    follow_on_gpu,
    gpu_path,
    lead_on_gpus,
    ranks_on,
    take_gpu,
)
from octavo.worker.ranks.team import Team
from octavo.worker.start.draft import (
    DrafterPlan,
    loaded_on_gpu_with,
    loaded_with,
    plan_drafter,
)
from octavo.worker.start.encoder import EncoderPlan, plan_model
from octavo.worker.start.memory import KVCacheSize
from octavo.worker.start.phases import PhaseTimer
from octavo.worker.start.plan import StartPlan, translated_load_errors
from octavo.worker.wakeable import Wakeable


@dataclass(frozen=True, slots=True)
class _Group:
    """All ranks, which have met.

    Args:
        size: Of each rank's KV cache.
        control: By which they tell each other things; layers sum by `ranks`.
    """

    start: LocalStart | SpreadStart
    size: KVCacheSize
    control: GroupRanks
    ranks: GroupRanks | DeviceRanks

    @property
    def team(self) -> Team:
        return self.start.team


def create_shared_executor(config: EngineConfig, phase: PhaseTimer) -> Executor:
    """As `create_executor`, for `tensor_parallel_size` ranks.

    Raises also `OctavoError` where a rank's process ends or does not come.
    """
    team: Team | None = None
    try:
        with ExitStack() as stack:
            with phase("load"):
                take_gpu(config, 0)
                plan = plan_model(config)
                drafts = None if isinstance(plan, EncoderPlan) else plan_drafter(config, plan)
                check_gpu(plan, drafts)
                start = (
                    LocalStart(plan, drafts)
                    if config.place is None
                    else SpreadStart(plan, config.place, drafts)
                )
                team = start.team
                size, control, meeting = start.join()
                group = _Group(start, size, control, _connected(plan, control, meeting, team))
                lead: Callable[[], Executor]
                if isinstance(plan, EncoderPlan):
                    ahead = None
                    lead = partial(_lead_encoder, plan, plan.build(group.ranks), group, phase)
                else:
                    ahead = stack.enter_context(_compiling(plan))
                    with translated_load_errors():
                        model = plan.build(group.ranks)
                        lead = _leading(plan, model, drafts, group, phase)
                start.wait_until_loaded()
            if ahead is not None:
                with phase("compile"):
                    ahead.wait()
        return lead()
    except BaseException as error:
        if team is not None:
            team.end_with(error)
        raise


def _connected(
    plan: AnyPlan, control: GroupRanks, meeting: MeetingFile | MeetingPoint, team: Team
) -> GroupRanks | DeviceRanks:
    try:
        return ranks_on(plan, control, meeting)
    except OctavoError as error:
        raise team.start_failure() or error from error


def _leading(
    plan: StartPlan,
    model: CausalLM,
    drafts: DrafterPlan | None,
    group: _Group,
    phase: PhaseTimer,
) -> Callable[[], Executor]:
    """What makes the first rank's executor when all are loaded, with what guesses for the model."""
    config, path = plan.config, gpu_path(plan.device)
    if path is None:
        read = partial(loaded_with, drafts, config, group.size)
        return partial(_lead_on_host, plan, read, read(model), group, phase)
    read_on_gpu = partial(loaded_on_gpu_with, drafts, config, path.kernels)
    return partial(
        lead_on_gpus,
        plan,
        path,
        read_on_gpu,
        read_on_gpu(model),
        group.ranks,
        control=group.control,
        team=group.team,
        name=group.start.name_of(0),
        phase=phase,
        heartbeat=group.start.heartbeat,
    )


def _lead_on_host(
    plan: StartPlan,
    read: Callable[[CausalLM], Loaded[MakeDrafter]],
    loaded: Loaded[MakeDrafter],
    group: _Group,
    phase: PhaseTimer,
) -> Executor:
    config, team = plan.config, group.team
    return start_host_executor(
        config,
        loaded,
        group.size,
        device=plan.device,
        dtype=plan.dtype,
        phase=phase,
        reload=lambda: read(plan.build_anew(group.ranks)),
        lead=lambda runner: LeadingRunner(runner, team, config.tensor_parallel_size),
        followers=team,
        lifelines=team.lifelines,
        heartbeat=group.start.heartbeat,
        adapters=plan.adapters,
    )


def _lead_encoder(
    plan: EncoderPlan, model: Encoder, group: _Group, phase: PhaseTimer
) -> EncoderExecutor:
    team, count = group.team, plan.config.tensor_parallel_size
    return plan.start(
        model,
        phase,
        ranks=group.ranks,
        lead=lambda runner: LeadingPromptRunner(runner, team, count),
        followers=team,
        lifelines=team.lifelines,
        heartbeat=group.start.heartbeat,
    )


def _compiling(plan: StartPlan) -> AbstractContextManager[CompilingAhead | None]:
    """Of this rank's part; on its node the others', which are mostly as large, then find it done."""
    if plan.device.type != "cuda" or plan.model.is_generic:
        return nullcontext()
    return compiling_ahead(plan.config, plan.model, plan.dtype, plan.device, plan.stored)


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
    plan = plan_model(config)
    check_gpu(plan)
    control = join_group(
        rank,
        config.tensor_parallel_size,
        meeting=assignment.meeting,
        timeout_seconds=config.distributed_timeout_seconds,
    )
    ranks = ranks_on(plan, control, assignment.meeting)
    if isinstance(plan, EncoderPlan):
        encoder = plan.build(ranks)
        return LoadedRank(
            control, is_on_gpu=False, prepare=lambda _: _encoding(plan, encoder, ranks)
        )
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
    pooling = host_pooling(plan.config, model.spec)

    def make(loaded: CausalLM) -> ModelRunner:
        return host_runner(
            plan.config, loaded, size, device=plan.device, dtype=plan.dtype, pooling=pooling
        )

    return HostFollower(Wakeable(model, make, lambda: plan.build_anew(ranks)), plan.adapters)


def _encoding(
    plan: EncoderPlan, model: Encoder, ranks: GroupRanks | DeviceRanks
) -> EncodingFollower:
    return EncodingFollower(Wakeable(model, plan.runner, lambda: plan.build(ranks)))
