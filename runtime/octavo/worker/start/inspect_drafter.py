"""Inspection of what guesses for a model: what a draft model or a head takes beside it, from its config.json
and the names of its tensors. The numbers are those that a start counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from octavo.config import EngineConfig
from octavo.errors import ModelInvalidError
from octavo.kernels.reference import device as reference_kernels
from octavo.kernels.select import kernels_for
from octavo.loading import SafetensorsWeights
from octavo.loading.headers import TensorHeader
from octavo.models.base import ModelConfig
from octavo.models.eagle3.head import EMBEDDING
from octavo.models.quantization_config import read_stored_format
from octavo.models.registry import read_model_config
from octavo.quantization import scheme_for
from octavo.speculative_config import SpeculativeMethod
from octavo.worker.start.draft import DRAFT_MODEL
from octavo.worker.start.drafter_checks import check_context, check_is_whole, naming
from octavo.worker.start.dtype import choose_cache_dtype, choose_dtype, held_dtype
from octavo.worker.start.eagle import beside_model, read_head
from octavo.worker.start.gpu_fit import NOTHING, Beside
from octavo.worker.start.phases import cache_block_bytes
from octavo.worker.start.vocabulary import check_vocabulary
from octavo.worker.start.weight_bytes import weight_bytes


@dataclass(frozen=True, slots=True)
class DrafterNeeds:
    """Beside the model's own, on the first of its ranks.

    Args:
        weight_bytes: With an embedding that a start may find to be the model's, and not keep.
        kv_bytes_per_token: In blocks of the model's numbers.
    """

    method: str
    weight_bytes: int
    kv_bytes_per_token: int

    @classmethod
    def of(cls, config: EngineConfig, beside: Beside) -> DrafterNeeds | None:
        wanted = config.speculative_config
        if wanted is None or wanted.model is None:
            return None
        return cls(
            wanted.method.value,
            beside.weight_bytes_of(config.tensor_parallel_size),
            beside.block_bytes // config.block_size,
        )


def inspect_drafter(
    config: EngineConfig,
    model: ModelConfig,
    dtype: torch.dtype,
    device: torch.device,
    headers: Mapping[str, TensorHeader] | None,
) -> Beside:
    """What a start counts; nothing where the engine guesses by itself, or nobody does.

    Args:
        dtype, device: Of the model.
        headers: Of the draft model's or head's weights, where these are not in its folder.

    Raises as a start does.
    """
    wanted = config.speculative_config
    if wanted is None or wanted.model is None:
        return NOTHING
    folder = Path(wanted.model)
    if wanted.method is SpeculativeMethod.EAGLE3:
        head, watched = read_head(config, folder, model)
        spec = head.spec
        has_embedding = head.needs_embedding or _has(EMBEDDING, folder, headers)
        found = beside_model(config, head, len(watched), dtype, has_embedding=has_embedding)
    else:
        check_is_whole(config, folder)
        with naming(DRAFT_MODEL, folder):
            draft = read_model_config(folder, config.model_impl)
        check_vocabulary(config, draft, model, folder)
        dtype = choose_dtype(config.dtype, draft, device)
        # What a GPU's kernels read, without what they are compiled with.
        kernels = kernels_for(device) if device.type == "cpu" else reference_kernels
        stored = read_stored_format(folder)
        scheme = scheme_for(None, kernels, stored, held_dtype=held_dtype(draft, device))
        spec, cache_dtype = draft.spec, choose_cache_dtype(config.kv_cache_dtype, dtype)
        block = cache_block_bytes(config, spec, cache_dtype)
        found = Beside(weight_bytes(draft, dtype, scheme), block)
    if config.max_model_len is not None:
        check_context(config, f"what lies in {folder}", spec, config.max_model_len)
    return found


def _has(name: str, folder: Path, headers: Mapping[str, TensorHeader] | None) -> bool:
    if headers is not None:
        return name in headers
    try:
        return SafetensorsWeights(folder).has(name)
    except ModelInvalidError:  # only some are there, or none
        return False
