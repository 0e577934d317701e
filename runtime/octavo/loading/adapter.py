"""Adapter: the low-rank matrices of one LoRA adapter, as PEFT stores them.

`adapter_model.safetensors` names each by the module that it changes. A pickle is refused, as everywhere.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch

from octavo.absent_folder import why_no_folder
from octavo.errors import ModelInvalidError, ModelUnsupportedError
from octavo.loading.adapter_config import CONFIG_NAME, AdapterConfig, read_adapter_config

logger = logging.getLogger(__name__)

WEIGHTS_NAME = "adapter_model.safetensors"
_PICKLE_NAME = "adapter_model.bin"
_MATRIX = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<which>[AB])\.weight")
_FLOATS = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class LowRank:
    """Of one module: it adds `x @ down.T @ up.T * scale`.

    Args:
        down: `[rank, in_features]`, as it is stored (PEFT's A).
        up: `[out_features, rank]`, as it is stored (PEFT's B).
    """

    down: torch.Tensor
    up: torch.Tensor
    scale: float

    @property
    def rank(self) -> int:
        return self.down.shape[0]


@dataclass(frozen=True, slots=True)
class Adapter:
    """One adapter on the host.

    Args:
        file: Of the matrices, for messages.
        modules: By the name of the module, without PEFT's own prefix.
    """

    file: Path
    modules: Mapping[str, LowRank]


def read_adapter(folder: Path) -> Adapter:
    """Raises `ModelInvalidError` for files that are missing, damaged or contradict each other, and
    `ModelUnsupportedError` for what is not implemented."""
    problem = why_no_folder(folder)
    if problem is not None:
        raise ModelInvalidError(
            f"{problem} An adapter is named by a local folder that holds {CONFIG_NAME} and {WEIGHTS_NAME}."
        )
    config = read_adapter_config(folder)
    file = folder / WEIGHTS_NAME
    if not file.is_file():
        if (folder / _PICKLE_NAME).is_file():
            raise ModelInvalidError(
                f"{folder} holds {_PICKLE_NAME} alone: reading a pickle runs code from the file, so it is "
                f"refused. Save the adapter as {WEIGHTS_NAME}."
            )
        raise ModelInvalidError(f"{folder} holds no {WEIGHTS_NAME}.")
    halves: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in _tensors(file).items():
        module, which = _place(file, name)
        if tensor.dim() != 2 or tensor.dtype not in _FLOATS:
            raise ModelInvalidError(
                f"{file}: {name} is {tensor.dtype} of shape {list(tensor.shape)}; it must be a matrix in "
                "float32, float16 or bfloat16."
            )
        if not torch.isfinite(tensor).all():
            raise ModelInvalidError(f"{file}: {name} holds numbers that are not finite.")
        halves.setdefault(module, {})[which] = tensor
    if not halves:
        raise ModelInvalidError(f"{file} holds no matrices.")
    _check_targets(folder, halves, config)
    return Adapter(file, {name: _whole(file, name, own, config) for name, own in halves.items()})


def _check_targets(folder: Path, modules: Collection[str], config: AdapterConfig) -> None:
    for name in modules:
        if not config.is_target(name):
            raise ModelInvalidError(
                f"{folder / WEIGHTS_NAME}: {name} has matrices, and target_modules, exclude_modules or "
                f"layers_to_transform of {CONFIG_NAME} leave it out: PEFT would not read them. Name it "
                "there, or save the adapter again."
            )
    for target in config.targets or ():
        if target in config.excluded:
            continue
        if not any(name == target or name.endswith(f".{target}") for name in modules):
            logger.warning(
                "%s: target_modules names %r, and %s holds no matrices of it: nothing is added there.",
                folder / CONFIG_NAME,
                target,
                WEIGHTS_NAME,
            )


def _tensors(file: Path) -> dict[str, torch.Tensor]:
    """Copies: the file may change while the adapter is in use."""
    try:
        with safetensors.safe_open(str(file), framework="pt") as opened:
            return {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelInvalidError(f"{file} is damaged: {error}. Save the adapter again.") from error


def _place(file: Path, name: str) -> tuple[str, str]:
    found = _MATRIX.fullmatch(name)
    if found is None:
        raise ModelUnsupportedError(
            f"{file}: {name} is no low-rank matrix (*.lora_A.weight, *.lora_B.weight) of a linear module; "
            "embeddings, magnitudes, biases and whole modules of an adapter are not implemented. Merge the "
            "adapter into its base model (PEFT's merge_and_unload) and serve that."
        )
    return found["module"], found["which"]


def _whole(
    file: Path, module: str, halves: Mapping[str, torch.Tensor], config: AdapterConfig
) -> LowRank:
    for which in ("A", "B"):
        if which not in halves:
            raise ModelInvalidError(f"{file}: {module}.lora_{which}.weight is missing.")
    down, up = halves["A"], halves["B"]
    rank = config.rank_of(module)
    for name, dim, found in (("A", 0, down.shape[0]), ("B", 1, up.shape[1])):
        if found != rank:
            raise ModelInvalidError(
                f"{file}: {module}.lora_{name}.weight has the rank {found} (dimension {dim}), where "
                f"adapter_config.json says {rank}."
            )
    return LowRank(down, up, config.scale_of(module))
