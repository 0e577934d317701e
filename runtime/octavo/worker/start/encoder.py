"""Start of an encoder's executor: checks, weights and warm-up, on a CPU."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from octavo.config import EngineConfig
from octavo.errors import InvalidConfigurationError, ModelUnsupportedError
from octavo.kernels.protocols.layers import Kernels
from octavo.loading import Placement, WeightSource
from octavo.loading.pooling import Pooling, read_pooling
from octavo.loading.text_options import read_text_options
from octavo.models.base import Encoder, EncoderConfig
from octavo.models.building import build_encoder
from octavo.models.spec import ModelSpec, Task
from octavo.quantization import Scheme, Unquantised
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams
from octavo.worker import machine
from octavo.worker.batch import ExecutorInfo, ScheduledSequence
from octavo.worker.cpu.encoder import EncoderExecutor
from octavo.worker.start.memory import check_positions, room_on_host
from octavo.worker.start.weight_bytes import rounded_weight_bytes, weight_bytes

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


def load_encoder(
    config: EngineConfig,
    model: EncoderConfig,
    open_weights: Callable[[], WeightSource],
    *,
    scheme: Scheme,
    kernels: Kernels,
    placement: Placement,
    phases: dict[str, float],
) -> EncoderExecutor:
    """
    Args:
        open_weights: The checkpoint's, none of which is read yet.
        phases: What the start took, in seconds; it grows meanwhile.

    Raises `ModelInvalidError`, `ModelUnsupportedError`, `OutOfMemoryError` or `InvalidConfigurationError`.
    """
    folder, spec = Path(config.model), model.spec
    check_positions(config.max_model_len, spec.context)
    pooling = _pooling(folder, spec)
    torch.set_num_threads(machine.threads_for(model.num_parameters, machine.available_cpus()))
    can_round = isinstance(scheme, Unquantised)
    room_on_host(
        weight_bytes=weight_bytes(model, placement.dtype, scheme),
        available_bytes=machine.available_memory_bytes(),
        rounded=rounded_weight_bytes(model, placement.dtype) if can_round else {},
    )

    @torch.inference_mode()
    def load() -> Encoder:
        source = open_weights()
        made = build_encoder(model, source, scheme=scheme, kernels=kernels, placement=placement)
        machine.return_freed_memory()
        return made

    info = _info(config, spec, _longest(config, folder, spec), placement, phases)
    return EncoderExecutor(load(), pooling, info, load)


def warm_up_encoder(executor: EncoderExecutor) -> None:
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
