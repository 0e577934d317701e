"""Start of an encoder's executor: checks, weights and warm-up, on a CPU."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from octavo.config import EngineConfig, ModelImplementation
from octavo.errors import InvalidConfigurationError, ModelUnsupportedError
from octavo.kernels.protocols.layers import Kernels
from octavo.kernels.select import kernels_for
from octavo.layers.ranks import ALONE, Ranks
from octavo.loading import Placement
from octavo.loading.pooling import Pooling, read_pooling
from octavo.loading.text_options import read_text_options
from octavo.models.base import Encoder, EncoderConfig
from octavo.models.building import build_encoder
from octavo.models.quantization_config import read_quantization_config
from octavo.models.registry import encoder_named_in, read_encoder_config
from octavo.models.sharing import check_sharing
from octavo.models.spec import ModelSpec, Task
from octavo.quantization import Scheme, Unquantised, check_quantization, scheme_for
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams
from octavo.worker import machine
from octavo.worker.batch import ExecutorInfo, Heartbeat, ScheduledSequence
from octavo.worker.cpu.encoder import EncoderExecutor, EncoderRunner, PromptRunner
from octavo.worker.cpu.followers import Followers
from octavo.worker.start.dtype import choose_dtype, held_dtype
from octavo.worker.start.implementation import check_adapters
from octavo.worker.start.memory import check_positions, room_on_host
from octavo.worker.start.phases import PhaseTimer
from octavo.worker.start.plan import StartPlan, choose_device, open_weights, plan_start
from octavo.worker.start.weight_bytes import rounded_weight_bytes, weight_bytes
from octavo.worker.wakeable import Wakeable

logger = logging.getLogger(__name__)

_WARM_UP_TOKENS = 4


def check_encoder(
    architecture: str, device: torch.device, quantization: Mapping[str, Any] | None
) -> None:
    """What runs for decoders alone.

    Args:
        quantization: As the checkpoint says it.

    Raises `InvalidConfigurationError` on a GPU, `ModelUnsupportedError` for weights that are quantised.
    """
    if quantization is not None:
        raise ModelUnsupportedError(
            f"config.json: architecture {architecture} is an encoder, and its weights are quantised "
            f"({quantization.get('quant_method')}), which is implemented for decoders alone. Use the model's "
            "16- or 32-bit checkpoint; --quantization int8 rounds that as it is read."
        )
    if device.type != "cpu":
        raise InvalidConfigurationError(
            f"config.json: architecture {architecture} is an encoder, and encoders run on CPUs alone; the "
            f"engine runs on {device.type}. Use --device cpu, and pods without a GPU (resources.gpu)."
        )


@dataclass(frozen=True, slots=True)
class EncoderPlan:
    """What is loaded, and how; see `StartPlan`.

    Args:
        pooling: None for a model that scores.
    """

    config: EngineConfig
    device: torch.device
    model: EncoderConfig
    dtype: torch.dtype
    kernels: Kernels
    placement: Placement
    scheme: Scheme
    pooling: Pooling | None
    max_model_len: int

    @torch.inference_mode()
    def build(self, ranks: Ranks = ALONE) -> Encoder:
        """Reads the weights, or what one of the ranks has of them. Raises `ModelInvalidError` where they are
        not what config.json says."""
        made = build_encoder(
            self.model,
            open_weights(self.config, self.model, self.placement),
            scheme=self.scheme,
            kernels=self.kernels,
            placement=self.placement,
            ranks=ranks,
        )
        machine.return_freed_memory()
        return made

    def check_memory(self) -> None:
        """Raises `OutOfMemoryError` where the machine has no room for the weights of its ranks."""
        can_round, size = isinstance(self.scheme, Unquantised), self.config.tensor_parallel_size
        needed = weight_bytes(self.model, self.dtype, self.scheme, size)
        room_on_host(
            weight_bytes=len(self.config.local_ranks) * needed,
            available_bytes=machine.available_memory_bytes(),
            rounded=rounded_weight_bytes(self.model, self.dtype) if can_round else {},
        )

    def runner(self, model: Encoder) -> EncoderRunner:
        return EncoderRunner(model, self.pooling)

    def start(
        self,
        model: Encoder,
        phase: PhaseTimer,
        *,
        ranks: Ranks = ALONE,
        lead: Callable[[EncoderRunner], PromptRunner] = lambda runner: runner,
        followers: Followers | None = None,
        lifelines: tuple[int, ...] = (),
        heartbeat: Heartbeat | None = None,
    ) -> EncoderExecutor:
        """Phase warmup.

        Args:
            lead, followers, lifelines, heartbeat: See `start_host_executor`.
        """
        info = replace(
            _info(self.config, self.model.spec, self.max_model_len, self.placement, phase.seconds),
            lifelines=lifelines,
            heartbeat=heartbeat,
        )
        loaded: Wakeable[Encoder, PromptRunner] = Wakeable(
            model, lambda one: lead(self.runner(one)), lambda: self.build(ranks)
        )
        executor = EncoderExecutor(loaded, info, followers)
        with phase("warmup"):
            _warm_up(executor)
        return executor


def plan_encoder(config: EngineConfig, model: EncoderConfig) -> EncoderPlan:
    """Raises `ModelInvalidError`, `ModelUnsupportedError` and `InvalidConfigurationError`."""
    folder, spec, device = Path(config.model), model.spec, choose_device(config)
    check_sharing(model, config.tensor_parallel_size)
    check_adapters(config, model)
    check_encoder(spec.architecture, device, read_quantization_config(folder))
    check_quantization(config, device, None)
    check_positions(config.max_model_len, spec.context)
    kernels, dtype = kernels_for(device), choose_dtype(config.dtype, model, device)
    return EncoderPlan(
        config,
        device,
        model,
        dtype,
        kernels,
        Placement(dtype, device),
        scheme_for(config.quantization, kernels, held_dtype=held_dtype(model, device)),
        _pooling(folder, spec),
        _longest(config, folder, spec),
    )


def plan_model(config: EngineConfig) -> StartPlan | EncoderPlan:
    """Of a model of any kind. Raises as `plan_start` and `plan_encoder`."""
    encoder = encoder_of(config)
    return plan_start(config) if encoder is None else plan_encoder(config, encoder)


def encoder_of(config: EngineConfig) -> EncoderConfig | None:
    """None where the model is none. Raises as `read_encoder_config`, and `InvalidConfigurationError` where
    another's code is to run one."""
    folder = Path(config.model)
    if config.model_impl is not ModelImplementation.TRANSFORMERS:
        return read_encoder_config(folder)
    if (architecture := encoder_named_in(folder)) is not None:
        raise InvalidConfigurationError(
            f"model_impl is transformers, and {architecture} is an encoder, which Octavo's own code alone "
            "runs. Leave model_impl out."
        )
    return None


def _warm_up(executor: EncoderExecutor) -> None:
    """Runs a prompt, so that the first request does not pay for libraries that wake up lazily."""
    state = SamplingState(SamplingParams(), None, (), (), is_pooled=True)
    length = min(_WARM_UP_TOKENS, executor.info.max_model_len)
    executor.run([ScheduledSequence(0, [0] * length, 0, (), state)])


def _pooling(folder: Path, spec: ModelSpec) -> Pooling | None:
    """None for a model that scores. Raises `ModelUnsupportedError` where nothing says how it embeds."""
    if spec.task is Task.SCORE:
        return None
    pooling = read_pooling(folder)
    if pooling is None:
        raise ModelUnsupportedError(
            f"{folder} holds no modules.json, which says how the hidden states of {spec.architecture} become "
            "one vector. Save the model with sentence-transformers (Transformer, Pooling and perhaps "
            "Normalize), or serve one that was trained to embed."
        )
    return pooling


def _longest(config: EngineConfig, folder: Path, spec: ModelSpec) -> int:
    """Tokens of a prompt: what the user wants, else what the embedder was trained with."""
    if config.max_model_len is not None:
        return config.max_model_len
    limit = read_text_options(folder).max_tokens
    return spec.context if limit is None else min(limit, spec.context)


def _info(
    config: EngineConfig,
    spec: ModelSpec,
    longest: int,
    placement: Placement,
    phases: dict[str, float],
) -> ExecutorInfo:
    budget = config.max_num_batched_tokens
    if longest > budget:
        logger.info(
            "A step takes %d tokens, not %d (--max-num-batched-tokens): an encoder sees prompts whole.",
            longest,
            budget,
        )
        budget = longest
    return ExecutorInfo(
        max_model_len=longest,
        # As many as a step can fill.
        num_kv_blocks=-(-budget // config.block_size) + config.max_num_seqs,
        block_size=config.block_size,
        vocab_size=spec.vocab_size,
        dtype=str(placement.dtype).removeprefix("torch."),
        device=str(placement.device),
        phases=phases,
        can_generate=False,
        gives_scores=spec.task is Task.SCORE,
        runs_whole_prompts=True,
    )
