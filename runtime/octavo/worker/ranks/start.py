"""Start of a model that several ranks share: the first sizes and leads, the others load and follow."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from octavo.config import EngineConfig
from octavo.errors import InvalidConfigurationError
from octavo.layers.ranks import Ranks
from octavo.models.base import CausalLM
from octavo.worker import machine
from octavo.worker.batch import Executor
from octavo.worker.cpu.executor import host_runner, start_host_executor
from octavo.worker.cpu.runner import ModelRunner
from octavo.worker.ranks.group import RankLostError, join_group
from octavo.worker.ranks.leading import LeadingRunner
from octavo.worker.ranks.messages import Arrived, Assignment, Loaded
from octavo.worker.ranks.team import LOAD_SECONDS, Team
from octavo.worker.start.memory import KVCacheSize, format_bytes
from octavo.worker.start.phases import PhaseTimer, size_host_cache
from octavo.worker.start.plan import StartPlan, plan_start
from octavo.worker.wakeable import Wakeable

logger = logging.getLogger(__name__)

# Libraries load in seconds: who is that much later hangs.
_ARRIVAL_SECONDS = 300.0


def create_shared_executor(config: EngineConfig, phase: PhaseTimer) -> Executor:
    """As `create_executor`, for `tensor_parallel_size` ranks.

    Raises also `OctavoError` where a rank's process ends or does not come.
    """
    team: Team | None = None
    try:
        with phase("load"):
            plan = plan_start(config)
            _check_device(plan)
            team = Team(config.tensor_parallel_size, config.distributed_timeout_seconds)
            size, ranks = _assign(plan, team)
            model = _load(plan, team, ranks)
        lead = team
        return start_host_executor(
            plan.config,
            model,
            size,
            device=plan.device,
            dtype=plan.dtype,
            phase=phase,
            reload=lambda: plan.build_anew(ranks),
            lead=lambda runner: LeadingRunner(runner, lead),
            followers=lead,
            lifelines=team.lifelines,
        )
    except BaseException:
        if team is not None:
            team.end()
        raise


def load_rank(assignment: Assignment) -> Wakeable[CausalLM, ModelRunner]:
    """A rank but the first, ready for steps. Raises as `create_executor`."""
    config, rank = assignment.config, assignment.rank
    torch.set_num_threads(assignment.num_threads)
    plan = plan_start(config)
    ranks = join_group(
        rank,
        config.tensor_parallel_size,
        meeting_file=Path(assignment.meeting_file),
        device=plan.device,
        timeout_seconds=config.distributed_timeout_seconds,
    )
    size = KVCacheSize(assignment.num_blocks, assignment.max_model_len, is_capped=False)

    def make(model: CausalLM) -> ModelRunner:
        return host_runner(plan.config, model, size, device=plan.device, dtype=plan.dtype)

    return Wakeable(plan.build(ranks), make, lambda: plan.build_anew(ranks))


def _assign(plan: StartPlan, team: Team) -> tuple[KVCacheSize, Ranks]:
    """The size of each rank's KV cache, and the group that they have formed."""
    config = plan.config
    team.wait_for(Arrived, _ARRIVAL_SECONDS)
    # The other ranks' libraries take their memory by now.
    available = machine.available_memory_bytes()
    size = size_host_cache(config, plan.model, plan.dtype, plan.scheme, available)
    cores = max(1, machine.available_cpus() // team.size)
    num_threads = machine.threads_for(plan.model.num_parameters // team.size, cores)
    team.assign(
        lambda rank: Assignment(
            config=config,
            rank=rank,
            meeting_file=str(team.meeting_file),
            num_threads=num_threads,
            num_blocks=size.num_blocks,
            max_model_len=size.max_model_len,
        )
    )
    torch.set_num_threads(num_threads)
    try:
        ranks = join_group(
            0,
            team.size,
            meeting_file=team.meeting_file,
            device=plan.device,
            timeout_seconds=config.distributed_timeout_seconds,
        )
    except RankLostError as error:
        raise team.failure(str(error)) from error
    return size, ranks


def _load(plan: StartPlan, team: Team, ranks: Ranks) -> CausalLM:
    model = plan.build(ranks)
    for rank, loaded in enumerate(team.wait_for(Loaded, LOAD_SECONDS), start=1):
        logger.info(
            "rank %d of %d is loaded; peak memory %s.",
            rank,
            team.size,
            format_bytes(loaded.peak_memory_bytes),
        )
    return model


def _check_device(plan: StartPlan) -> None:
    if plan.device.type != "cpu":
        raise InvalidConfigurationError(
            f"tensor_parallel_size is {plan.config.tensor_parallel_size}, and ranks share a model on CPUs "
            f"alone so far; the engine runs on {plan.device.type}. Use --tensor-parallel-size 1, or "
            "--device cpu."
        )
