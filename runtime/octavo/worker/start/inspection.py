"""Inspection of a model before anything of it is loaded: what it is, what it takes, whether a GPU holds it.

The numbers are those that a start checks memory with, from the same functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from octavo.config import EngineConfig, ModelImplementation
from octavo.errors import InvalidConfigurationError, ModelInvalidError, OutOfMemoryError
from octavo.kernels.reference import device as reference_kernels
from octavo.kernels.select import kernels_for
from octavo.loading import SafetensorsWeights
from octavo.loading.header_source import HeaderSource
from octavo.loading.headers import TensorHeader
from octavo.models.base import BaseConfig, ModelConfig
from octavo.models.quantization_config import read_quantization_config
from octavo.models.registry import read_model_config
from octavo.models.sharing import check_sharing
from octavo.models.stored_tables import (
    has_head_beside_tie,
    with_stored_head,
    without_missing_head,
)
from octavo.quantization import Scheme, check_quantization, scheme_for, stored_format
from octavo.worker.start.adapters import seats_bytes
from octavo.worker.start.dtype import choose_cache_dtype, choose_dtype, held_dtype
from octavo.worker.start.encoder import check_encoder, encoder_of
from octavo.worker.start.gpu_fit import (
    NOTHING,
    Beside,
    check_gpu_fit,
    gpus_needed,
    seats_hint,
    share_hint,
    taken_on_gpu,
)
from octavo.worker.start.implementation import check_adapters, check_implementation
from octavo.worker.start.inspect_drafter import DrafterNeeds, inspect_drafter
from octavo.worker.start.memory import check_positions, format_bytes
from octavo.worker.start.phases import activation_bytes, cache_block_bytes
from octavo.worker.start.weight_bytes import weight_bytes


@dataclass(frozen=True, slots=True)
class GpuFit:
    """Of GPUs of one size, of which each of the ranks has one.

    Args:
        memory_bytes: Of each.
        longest_context: Tokens of a sequence that they hold beside the weights, about: what activations take
            is measured at the start. 0: they do not hold the model.
        num_gpus: Fewest ranks, a GPU each, that can share the model (`octavo.models.sharing`) and that hold
            it and one sequence of `max_model_len`, else of the model's context; None: no number of them does.
        problem: Why a start on them would fail; None: it would not.
        adapter_bytes: Of the seats of adapters on each; None: the model takes none.
    """

    memory_bytes: int
    longest_context: int
    num_gpus: int | None
    problem: str | None
    adapter_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Inspection:
    """Of a model, as a start on this machine's CPU, or on the GPU that was asked about, would take it.

    Args:
        path: Whose code runs it.
        quantization: Format of its weights; None: as they were trained.
        num_parameters: Weights of the matrices; biases, norms and routers left out.
        weight_bytes: Of the first rank, which has the most.
        kv_cache_dtype, kv_bytes_per_token: Of each rank; None for an encoder, which keeps none.
        context: Tokens of a sequence where nobody asks for more.
        stored_bytes: Of all tensors in the checkpoint's files; None where their headers were not asked for.
        notes: What the headers alone do not decide.
        drafter: What guesses beside it takes, if something does: on the first rank.
        num_ranks: That share the model.
        weights_problem, texts_problem: Why a start would refuse weights, or the tokenizer and what else it
            reads of texts, that are in the folder; None: it would not, or there are none.
        missing: What a start would need beside a folder that only describes a model, as it would say it.
    """

    architecture: str
    path: str
    task: str
    dtype: str
    quantization: str | None
    num_parameters: int
    weight_bytes: int
    kv_cache_dtype: str | None
    kv_bytes_per_token: int | None
    context: int
    gpu: GpuFit | None
    stored_bytes: int | None = None
    notes: tuple[str, ...] = ()
    drafter: DrafterNeeds | None = None
    num_ranks: int = 1
    weights_problem: str | None = None
    texts_problem: str | None = None
    missing: tuple[str, ...] = ()


def inspect_model(
    config: EngineConfig,
    gpu_memory_bytes: int | None = None,
    headers: Mapping[str, TensorHeader] | None = None,
    draft_headers: Mapping[str, TensorHeader] | None = None,
) -> Inspection:
    """
    Args:
        config: `config.model` is a folder; weights need not be in it.
        gpu_memory_bytes: Of the GPU to ask about; None: of the CPU.
        headers: Of the weights, where these lie elsewhere.
        draft_headers: Of those of `speculative_config`'s model, likewise.

    Raises `ModelInvalidError`, `ModelUnsupportedError` and `InvalidConfigurationError` as a start does.
    """
    folder = Path(config.model)
    device = torch.device("cpu" if gpu_memory_bytes is None else "cuda")
    raw = read_quantization_config(folder)
    encoder = encoder_of(config)
    if encoder is not None:
        check_encoder(encoder.spec.architecture, device, raw)
    stored = None if raw is None else stored_format(raw)
    check_quantization(config, device, stored)
    model: BaseConfig = encoder or _decoder(folder, config.model_impl, headers)
    check_implementation(config, model)
    ranks = config.tensor_parallel_size
    check_sharing(model, ranks)
    check_adapters(config, model)
    check_positions(config.max_model_len, model.spec.context)
    dtype = choose_dtype(config.dtype, model, device)
    # What a GPU's kernels read, without what they are compiled with.
    kernels = kernels_for(device) if gpu_memory_bytes is None else reference_kernels
    if isinstance(model, ModelConfig):
        model = model.with_kernels(kernels)
    held = held_dtype(model, device)
    scheme = scheme_for(config.quantization, kernels, stored, held_dtype=held)
    rounding = None if config.quantization is None else config.quantization.value
    fit, cache_dtype, block, beside = None, None, None, NOTHING
    if isinstance(model, ModelConfig):
        beside = inspect_drafter(config, model, dtype, device, draft_headers)
        cache_dtype = choose_cache_dtype(config.kv_cache_dtype, dtype)
        block = cache_block_bytes(config, model.spec.on_rank(ranks), cache_dtype)
        if gpu_memory_bytes is not None:
            fit = _fit(config, model, dtype, scheme, block, gpu_memory_bytes, beside)
    return Inspection(
        architecture=model.spec.architecture,
        path="generic" if model.is_generic else "native",
        task=model.spec.task.value,
        dtype=_name(dtype),
        quantization=rounding if stored is None else stored.method,
        num_parameters=model.num_parameters,
        weight_bytes=weight_bytes(model, dtype, scheme, ranks),
        kv_cache_dtype=None if cache_dtype is None else _name(cache_dtype),
        kv_bytes_per_token=None if block is None else block // config.block_size,
        context=model.spec.default_context,
        gpu=fit,
        stored_bytes=None if headers is None else sum(one.num_bytes for one in headers.values()),
        notes=() if headers is None else _undecided(model, headers, dtype),
        drafter=DrafterNeeds.of(config, beside),
        num_ranks=ranks,
    )


def _decoder(
    folder: Path,
    implementation: ModelImplementation,
    headers: Mapping[str, TensorHeader] | None,
) -> ModelConfig:
    """As a start reads it: a stored head counts where the weights are there to tell."""
    model = read_model_config(folder, implementation)
    try:
        weights = SafetensorsWeights(folder)
    except ModelInvalidError:  # only some are there, or none
        return model if headers is None else without_missing_head(model, HeaderSource(headers))
    return with_stored_head(model, weights)


def _undecided(
    model: BaseConfig, headers: Mapping[str, TensorHeader], dtype: torch.dtype
) -> tuple[str, ...]:
    if not isinstance(model, ModelConfig) or model.tables.head is None:
        return ()
    if not has_head_beside_tie(model, HeaderSource(headers)):
        return ()
    head = model.tables.head
    more = format_bytes(head.num_weights * dtype.itemsize)
    note = (
        f"{head.names[0]}.weight is stored, and config.json calls it the embeddings' own "
        f"(tie_word_embeddings). Where it is another, which a start finds out, weights take up to {more} "
        "more."
    )
    return (note,)


def _fit(
    config: EngineConfig,
    model: ModelConfig,
    dtype: torch.dtype,
    scheme: Scheme,
    block_bytes: int,
    memory_bytes: int,
    beside: Beside,
) -> GpuFit:
    ranks = config.tensor_parallel_size
    block_bytes += beside.block_bytes
    usable = int(memory_bytes * config.gpu_memory_share)
    reserve = activation_bytes(config, model.spec.on_rank(ranks), dtype)
    needed = taken_on_gpu(config, model, dtype, scheme, ranks, beside)
    seats = seats_bytes(config, model, dtype, ranks)
    wanted = config.max_model_len or model.spec.default_context
    room = usable - reserve - needed
    longest = max(room, 0) // block_bytes * config.block_size
    num_gpus = gpus_needed(config, model, dtype, scheme, usable, beside)
    problem = None
    if not longest:
        problem = (
            f"The KV cache does not fit: of the {format_bytes(usable)} that may be used, weights take "
            f"{format_bytes(needed)} and activations about {format_bytes(reserve)}. Lower "
            "--max-num-batched-tokens or --max-num-seqs, or use a larger GPU."
            f"{seats_hint(seats)}{share_hint(config, num_gpus)}"
        )
    try:
        check_gpu_fit(
            config,
            model,
            dtype,
            scheme,
            free_bytes=memory_bytes,
            total_bytes=memory_bytes,
            beside=beside,
        )
    except (OutOfMemoryError, InvalidConfigurationError) as error:
        problem = str(error)
    held = seats if config.enable_lora else None
    return GpuFit(memory_bytes, min(longest, wanted), num_gpus, problem, held)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
