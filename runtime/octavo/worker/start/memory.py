"""Memory budget. How many KV blocks fit, and how long a sequence may therefore be. Pure arithmetic."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from octavo.errors import InvalidConfigurationError, OutOfMemoryError

_MIB = 2**20

# A chat template and a short question; who wants less asks for it with --max-model-len.
_LEAST_TOKENS = 64

# On a CPU the KV cache shares memory with activations, the API process, the page cache and other programs.
_HOST_CACHE_SHARE = 0.4
_HOST_CACHE_LIMIT_BYTES = 4 * 2**30


class BudgetSource(enum.Enum):
    """What decides how much memory the KV cache gets."""

    GPU_SHARE = "what --gpu-memory-utilization leaves beside weights and activations"
    HOST_SHARE = "a share of what the weights leave"
    FLAG = "--kv-cache-memory"


@dataclass(frozen=True, slots=True)
class KVCacheSize:
    """`is_capped`: the model could go further than `max_model_len`, were there more memory."""

    num_blocks: int
    max_model_len: int
    is_capped: bool


def bytes_per_block(
    *, block_size: int, num_layers: int, num_kv_heads: int, head_dim: int, element_bytes: int
) -> int:
    """Keys and values of `block_size` tokens in all layers."""
    return 2 * block_size * num_layers * num_kv_heads * head_dim * element_bytes


def size_kv_cache(
    *,
    budget_bytes: int,
    block_bytes: int,
    block_size: int,
    max_num_seqs: int,
    model_max_len: int,
    wanted_max_len: int | None,
    source: BudgetSource,
) -> KVCacheSize:
    """Fits the KV cache into `budget_bytes`.

    Args:
        budget_bytes: Memory for keys and values.
        source: Where the budget comes from, for the message that says what to do.
        block_bytes: Of one block, all layers, with what guesses for the model keeps of the same tokens.
        max_num_seqs: Sequences that run at once; more blocks than these can fill are not allocated.
        model_max_len: Context in tokens that the model was trained for.
        wanted_max_len: What the user asked for, or None for as much as fits.

    Raises `InvalidConfigurationError` when the user asks for more than the model knows, and
    `OutOfMemoryError` when the cache would not hold one sequence of the length, or of a length that is of
    any use when none was asked for.
    """
    check_positions(wanted_max_len, model_max_len)
    fitting_blocks = budget_bytes // block_bytes
    fitting_len = min(fitting_blocks * block_size, model_max_len)
    least_len = min(model_max_len, _LEAST_TOKENS) if wanted_max_len is None else wanted_max_len
    if fitting_len < least_len:
        needed_bytes = -(-least_len // block_size) * block_bytes
        if wanted_max_len is None and fitting_len > 0:
            raise OutOfMemoryError(_is_of_no_use(fitting_len, budget_bytes, needed_bytes, source))
        raise OutOfMemoryError(
            _does_not_fit(least_len, fitting_len, budget_bytes, needed_bytes, block_bytes, source)
        )
    max_len = fitting_len if wanted_max_len is None else wanted_max_len
    useful_blocks = max_num_seqs * -(-max_len // block_size)
    return KVCacheSize(
        num_blocks=min(fitting_blocks, useful_blocks),
        max_model_len=max_len,
        is_capped=wanted_max_len is None and fitting_len < model_max_len,
    )


def check_positions(wanted_max_len: int | None, model_max_len: int) -> None:
    """Raises `InvalidConfigurationError` when the user asks for more than the model knows."""
    if wanted_max_len is not None and wanted_max_len > model_max_len:
        raise InvalidConfigurationError(
            f"max_model_len is {wanted_max_len}, but the model knows {model_max_len} positions "
            f"(max_position_embeddings and rope_parameters of its config.json). Use at most {model_max_len}."
        )


def room_on_gpu(*, weight_bytes: int, free_bytes: int, total_bytes: int, utilization: float) -> int:
    """Bytes of a GPU that its weights leave, known before minutes of loading.

    Args:
        free_bytes, total_bytes: Of the GPU's memory now.
        utilization: Share of `total_bytes` that may be used in all.

    Raises `OutOfMemoryError` when the weights alone exceed what may be used.
    """
    usable = free_bytes - int(total_bytes * (1.0 - utilization))
    if weight_bytes <= usable:
        return usable - weight_bytes
    hint = "Use a larger GPU or a smaller model"
    if weight_bytes <= free_bytes:
        hint += f", or raise --gpu-memory-utilization above {utilization:g}"
    raise OutOfMemoryError(
        f"The model does not fit: its weights take {format_bytes(weight_bytes)}, and "
        f"{format_bytes(usable)} of the GPU's {format_bytes(total_bytes)} may be used "
        f"({format_bytes(free_bytes)} are free). No --max-model-len would fit. {hint}."
    )


def room_on_host(
    *, weight_bytes: int, available_bytes: int, rounded: Mapping[str, int] | None = None
) -> int:
    """Bytes of a CPU pod that its weights leave, before the kernel would kill it for reading them.

    Args:
        available_bytes: What can be allocated now.
        rounded: Bytes that the weights would take under each value of --quantization.

    Raises `OutOfMemoryError` when the weights alone exceed what is available.
    """
    if weight_bytes <= available_bytes:
        return available_bytes - weight_bytes
    hint = (
        f"Give the pod at least {format_bytes(weight_bytes - available_bytes)} more "
        "(spec.resources.memory), or use a smaller model"
    )
    for name, size in sorted((rounded or {}).items(), key=lambda item: item[1], reverse=True):
        if size <= available_bytes:
            hint += f", or --quantization {name}, which takes {format_bytes(size)}"
            break
    raise OutOfMemoryError(
        f"The model does not fit: its weights take {format_bytes(weight_bytes)}, and "
        f"{format_bytes(available_bytes)} of memory are available. No --max-model-len would fit. {hint}."
    )


def host_cache_budget(room_bytes: int) -> int:
    """Bytes for keys and values of what a CPU pod's weights leave."""
    return min(int(room_bytes * _HOST_CACHE_SHARE), _HOST_CACHE_LIMIT_BYTES)


def check_cache_fits(*, cache_bytes: int, room_bytes: int) -> None:
    """Refuses, before the weights are loaded, a --kv-cache-memory that they leave no room for.

    Args:
        cache_bytes: What of it would be used.
        room_bytes: What the weights leave, all of it.

    Raises `OutOfMemoryError`.
    """
    if cache_bytes > room_bytes:
        raise OutOfMemoryError(
            f"The KV cache does not fit: it takes {format_bytes(cache_bytes)} (--kv-cache-memory), and "
            f"the weights leave {format_bytes(room_bytes)}. Lower --kv-cache-memory, --max-model-len or "
            "--max-num-seqs, or give more memory."
        )


def check_length_fits(
    *, room_bytes: int, reserve_bytes: int, block_bytes: int, block_size: int, wanted_max_len: int
) -> None:
    """Refuses, before the weights are loaded, a length that fits a GPU in no case.

    Args:
        room_bytes: What the weights leave, all of it.
        reserve_bytes: A guess of what activations take of it. The length that the message offers keeps
            it free; what is refused does not depend on it.

    Raises `OutOfMemoryError`.
    """
    needed = -(-wanted_max_len // block_size) * block_bytes
    if needed > room_bytes:
        budget = room_bytes - reserve_bytes
        fitting_len = max(budget, 0) // block_bytes * block_size
        source = BudgetSource.GPU_SHARE
        raise OutOfMemoryError(
            _does_not_fit(wanted_max_len, fitting_len, budget, needed, block_bytes, source)
        )


def format_bytes(count: int) -> str:
    """For people: `16.06 GiB`, `24.00 MiB`, `1.00 KiB`; below zero is nothing."""
    for unit, name in ((2**30, "GiB"), (_MIB, "MiB"), (2**10, "KiB")):
        if count >= unit:
            return f"{count / unit:.2f} {name}"
    return f"{max(count, 0)} bytes"


def _does_not_fit(
    max_len: int,
    fitting_len: int,
    budget_bytes: int,
    needed_bytes: int,
    block_bytes: int,
    source: BudgetSource,
) -> str:
    room = f"the KV cache gets {format_bytes(budget_bytes)} ({source.value})"
    more = _way_to_more(source, needed_bytes)
    if fitting_len < 1:
        return (
            f"The model does not fit: {room}, and one block takes {format_bytes(block_bytes)}. "
            f"{more[0].upper()}{more[1:]}."
        )
    return (
        f"max_model_len {max_len} does not fit: {room}, which holds {fitting_len} tokens. Use "
        f"--max-model-len {fitting_len} or less, or {more}."
    )


def _is_of_no_use(
    fitting_len: int, budget_bytes: int, needed_bytes: int, source: BudgetSource
) -> str:
    more = _way_to_more(source, needed_bytes)
    return (
        f"The KV cache gets {format_bytes(budget_bytes)} ({source.value}), which holds {fitting_len} tokens "
        f"of prompt and output together: too few to be of use. {more[0].upper()}{more[1:]}; or set "
        f"--max-model-len {fitting_len} to have it so."
    )


def _way_to_more(source: BudgetSource, needed_bytes: int) -> str:
    needed = f"{-(-needed_bytes // _MIB)}Mi"  # as the flag takes it, rounded up
    match source:
        case BudgetSource.FLAG:
            return f"raise --kv-cache-memory to {needed}"
        case BudgetSource.HOST_SHARE:
            return f"give the pod more memory, or set --kv-cache-memory to at least {needed}"
        case BudgetSource.GPU_SHARE:
            return "raise --gpu-memory-utilization, or use a larger GPU"
