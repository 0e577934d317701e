"""How many KV blocks fit, and how long a sequence may therefore be. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from octavo.errors import InvalidConfigurationError, OutOfMemoryError

_GIB = 2**30


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
) -> KVCacheSize:
    """Fits the KV cache into `budget_bytes`.

    Args:
        budget_bytes: Memory for keys and values.
        block_bytes: Of one block, all layers.
        max_num_seqs: Sequences that run at once; more blocks than these can fill are not allocated.
        model_max_len: Context in tokens that the model was trained for.
        wanted_max_len: What the user asked for, or None for as much as fits.

    Raises `InvalidConfigurationError` when the user asks for more than the model knows, and
    `OutOfMemoryError` when the cache would not hold one sequence of the length.
    """
    if wanted_max_len is not None and wanted_max_len > model_max_len:
        raise InvalidConfigurationError(
            f"max_model_len is {wanted_max_len}, but the model knows {model_max_len} positions "
            f"(max_position_embeddings). Use at most {model_max_len}."
        )
    fitting_blocks = budget_bytes // block_bytes
    fitting_len = min(fitting_blocks * block_size, model_max_len)
    max_len = fitting_len if wanted_max_len is None else wanted_max_len
    if fitting_len < 1 or max_len > fitting_len:
        raise OutOfMemoryError(_does_not_fit(max_len, fitting_len, budget_bytes, block_bytes))
    useful_blocks = max_num_seqs * -(-max_len // block_size)
    return KVCacheSize(
        num_blocks=min(fitting_blocks, useful_blocks),
        max_model_len=max_len,
        is_capped=wanted_max_len is None and fitting_len < model_max_len,
    )


def room_beside_weights(
    *,
    num_parameters: int,
    element_bytes: int,
    free_bytes: int,
    total_bytes: int,
    utilization: float,
) -> int:
    """Bytes of a GPU that its weights leave, known before minutes of loading.

    Args:
        free_bytes, total_bytes: Of the GPU's memory now.
        utilization: Share of `total_bytes` that may be used in all.

    Raises `OutOfMemoryError` when the weights alone exceed what may be used.
    """
    weights = num_parameters * element_bytes
    usable = free_bytes - int(total_bytes * (1.0 - utilization))
    if weights <= usable:
        return usable - weights
    hint = "Use a larger GPU or a smaller model"
    if weights <= free_bytes:
        hint += f", or raise --gpu-memory-utilization above {utilization:g}"
    raise OutOfMemoryError(
        f"The model does not fit: its weights take {weights / _GIB:.2f} GiB, and "
        f"{max(usable, 0) / _GIB:.2f} GiB of the GPU's {total_bytes / _GIB:.2f} GiB may be used "
        f"({free_bytes / _GIB:.2f} GiB are free). No --max-model-len would fit. {hint}."
    )


def check_length_fits(
    *, room_bytes: int, reserve_bytes: int, block_bytes: int, block_size: int, wanted_max_len: int
) -> None:
    """Refuses, before the weights are loaded, a length that fits in no case.

    Args:
        room_bytes: What the weights leave, all of it.
        reserve_bytes: A guess of what activations take of it. The length that the message offers keeps
            it free; what is refused does not depend on it.

    Raises `OutOfMemoryError`.
    """
    if -(-wanted_max_len // block_size) * block_bytes > room_bytes:
        budget = room_bytes - reserve_bytes
        fitting_len = max(budget, 0) // block_bytes * block_size
        raise OutOfMemoryError(_does_not_fit(wanted_max_len, fitting_len, budget, block_bytes))


def _does_not_fit(max_len: int, fitting_len: int, budget_bytes: int, block_bytes: int) -> str:
    room = f"{max(budget_bytes, 0) / _GIB:.2f} GiB is left for the KV cache"
    if fitting_len < 1:
        return (
            f"The model does not fit: {room}, and one block takes {block_bytes / 2**20:.2f} MiB. "
            "Give the pod more memory, or raise --gpu-memory-utilization."
        )
    return (
        f"max_model_len {max_len} does not fit: {room}, which holds {fitting_len} tokens. Use "
        f"--max-model-len {fitting_len} or less, or give more memory."
    )
