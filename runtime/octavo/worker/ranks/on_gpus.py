"""GPUs that ranks share a model on: which one each has, what it runs there, and what ends all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch

from octavo.config import Device, EngineConfig
from octavo.errors import InvalidConfigurationError
from octavo.kernels.protocols.device import DeviceKernels
from octavo.layers.ranks import Ranks
from octavo.models.base import CausalLM
from octavo.models.seated_adapters import SeatedAdapters
from octavo.worker.batch import Executor, Heartbeat
from octavo.worker.gpu.cuda_graphs import Capture
from octavo.worker.gpu.drafter import GpuDrafting
from octavo.worker.loaded import Loaded
from octavo.worker.ranks.commands import Kind, unpack_command
from octavo.worker.ranks.device_group import DeviceRanks, check_group, join_device_group
from octavo.worker.ranks.device_watch import DeviceWatch, FaultWatch
from octavo.worker.ranks.following import Follower, GpuFollower
from octavo.worker.ranks.frames import NextFrame
from octavo.worker.ranks.group import GroupRanks, RankLostError
from octavo.worker.ranks.leading_gpu import LeadingGpuExecutor, Teller
from octavo.worker.ranks.messages import MeetingFile, MeetingPoint
from octavo.worker.ranks.team import Team
from octavo.worker.start.draft import DrafterPlan, beside
from octavo.worker.start.dtype import choose_cache_dtype
from octavo.worker.start.encoder import EncoderPlan
from octavo.worker.start.gpu_fit import check_gpu_generation, check_gpu_memory
from octavo.worker.start.phases import PhaseTimer
from octavo.worker.start.plan import StartPlan

# Where nothing is compiled ahead, every rank compiles while the others wait for it.
_PREPARE_SECONDS = 1800.0


@dataclass(frozen=True, slots=True)
class GpuPath:
    """How a rank computes where it does not compute as a CPU does.

    Args:
        new_capture: Of CUDA when absent.
    """

    kernels: DeviceKernels
    new_capture: Callable[[], Capture] | None = None


def gpu_path(device: torch.device) -> GpuPath | None:
    """None on a CPU."""
    if device.type != "cuda":
        return None
    from octavo.kernels.gpu import device as kernels  # triton: not on every platform

    return GpuPath(kernels)


def take_gpu(config: EngineConfig, rank: int) -> None:
    """Makes this process's current GPU the rank's own: of its node the one of its number there. Nothing
    happens where the model runs on a CPU.

    Raises `InvalidConfigurationError` where the node has too few, or not all of one kind.
    """
    if config.device is Device.CPU or not torch.cuda.is_available():
        return
    count, local = torch.cuda.device_count(), config.local_ranks
    where = f"tensor_parallel_size is {config.tensor_parallel_size}"
    if config.num_nodes > 1:
        where += f" over {config.num_nodes} nodes"
    if count < len(local):
        raise InvalidConfigurationError(
            f"{where}, which takes {len(local)} GPUs of this machine, and it has {count}. Give it as many "
            "(resources.gpu), use a smaller --tensor-parallel-size, or --device cpu."
        )
    names = [torch.cuda.get_device_name(index) for index in range(len(local))]
    if len(set(names)) > 1:
        raise InvalidConfigurationError(
            f"{where}, and this machine's GPUs are of several kinds ({', '.join(names)}): ranks compute the "
            "same to the bit on one kind alone. Name such GPUs by CUDA_VISIBLE_DEVICES."
        )
    torch.cuda.set_device(rank - local.start)


def check_gpu(plan: StartPlan | EncoderPlan, drafts: DrafterPlan | None = None) -> None:
    """Raises `InvalidConfigurationError` and `OutOfMemoryError`, before weights are read.

    Args:
        drafts: What the first rank has beside the model.
    """
    if plan.device.type != "cuda" or isinstance(plan, EncoderPlan):
        return  # encoders run on CPUs
    name = torch.cuda.get_device_name(plan.device)
    capability = torch.cuda.get_device_capability(plan.device)
    config = plan.config
    check_gpu_generation(name, capability, config.kv_cache_dtype)
    check_gpu_memory(
        config, plan.model, plan.device, plan.dtype, plan.scheme, beside(drafts, config)
    )


def ranks_on(
    plan: StartPlan | EncoderPlan, control: GroupRanks, meeting: MeetingFile | MeetingPoint
) -> GroupRanks | DeviceRanks:
    """What layers sum by, connected and tested."""
    if plan.device.type != "cuda":
        check_group(control, plan.device)
        return control
    return join_device_group(
        control.rank,
        control.size,
        meeting=meeting,
        device=plan.device,
        timeout_seconds=plan.config.distributed_timeout_seconds,
    )


def lead_on_gpus(
    plan: StartPlan,
    path: GpuPath,
    read: Callable[[CausalLM], Loaded[GpuDrafting]],
    loaded: Loaded[GpuDrafting],
    ranks: GroupRanks | DeviceRanks,
    *,
    control: GroupRanks,
    team: Team,
    name: str,
    phase: PhaseTimer,
    heartbeat: Heartbeat | None,
) -> Executor:
    """The first rank's executor, when all are prepared.

    Args:
        read: With what guesses where the engine does not: on this rank alone.
        ranks: Of this rank's part of the model.
        name: Of this rank.

    Raises what a rank's start fails with.
    """
    from octavo.kernels.gpu.compiling.watch import CompileWatch
    from octavo.worker.gpu.executor import start_gpu_executor

    config, teller, compiled = plan.config, Teller(team), CompileWatch()
    watch = DeviceWatch(team.lifelines, config.distributed_timeout_seconds, _ending(ranks))
    team.before_end(watch.close)
    team.before_end(_ending(ranks))
    team.wait_on_devices()
    try:
        with watch.over(_PREPARE_SECONDS):
            executor = start_gpu_executor(
                config,
                loaded,
                path.kernels,
                device=plan.device,
                dtype=plan.dtype,
                phase=phase,
                reload=lambda: read(plan.build_anew(ranks)),
                ranks=ranks,
                tell=teller,
                least=lambda own: control.least(own, _PREPARE_SECONDS),
                new_capture=path.new_capture,
                adapters=plan.adapters,
            )
    except Exception as error:
        if isinstance(error, RankLostError) or not watch.check():
            raise team.start_failure() or team.failure(str(error)) from error
        raise
    compiled.serving_begins()
    info = dataclasses.replace(executor.info, lifelines=team.lifelines, heartbeat=heartbeat)
    return LeadingGpuExecutor(executor, team, teller, watch, name, info)


def follow_on_gpu(
    plan: StartPlan,
    path: GpuPath,
    model: CausalLM,
    ranks: GroupRanks | DeviceRanks,
    *,
    control: GroupRanks,
    frames: NextFrame,
    leave: Callable[[Exception], None],
) -> Follower:
    """Another rank's, when all are prepared.

    Args:
        leave: Ends the process with what it is told of.
    """
    from octavo.worker.gpu.following import FollowingRunner
    from octavo.worker.gpu.packed_runner import RunnerLimits
    from octavo.worker.gpu.prepare import prepare_gpu

    config, seconds = plan.config, plan.config.distributed_timeout_seconds
    lost = RankLostError(f"waited for another rank for {seconds:g} s")
    watch = DeviceWatch((), seconds, lambda: leave(lost))

    def next_step() -> bytes:
        frame = frames(_PREPARE_SECONDS)
        kind, payload = (Kind.QUIT, b"") if frame is None else unpack_command(frame)
        if kind is not Kind.STEP:
            raise RankLostError("the first rank does not go on")
        return payload

    def make(of: Loaded[GpuDrafting], limits: RunnerLimits) -> FollowingRunner:
        return FollowingRunner(
            of.model,
            path.kernels,
            limits,
            device=plan.device,
            dtype=plan.dtype,
            cache_dtype=choose_cache_dtype(config.kv_cache_dtype, plan.dtype),
            ranks=ranks,
            next_step=next_step,
            adapters=plan.adapters if isinstance(plan.adapters, SeatedAdapters) else None,
        )

    with watch.over(_PREPARE_SECONDS):
        prepared = prepare_gpu(
            config,
            Loaded(model),
            make,
            device=plan.device,
            dtype=plan.dtype,
            phase=PhaseTimer(lambda _: None),
            reload=lambda: Loaded(plan.build_anew(ranks)),
            least=lambda own: control.least(own, _PREPARE_SECONDS),
            new_capture=path.new_capture,
        )
    faults = FaultWatch(leave) if plan.device.type == "cuda" else None
    return GpuFollower(prepared, watch, faults, plan.adapters)


def _ending(ranks: Ranks) -> Callable[[], None]:
    """Of waits for other ranks; Gloo's end by themselves."""
    return ranks.abort if isinstance(ranks, DeviceRanks) else lambda: None
