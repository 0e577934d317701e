"""Weights of transformers' modules: Octavo reads the files, transformers maps names and shapes.

Checkpoints keep other names than modules, and experts one by one; `from_pretrained` turns them into what the
module holds. It gets tensors that are read as it asks for them, and what it reports is noted with the source.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedConfig
from transformers.utils import logging as transformers_logging

from octavo.loading import Placement, WeightSource, floating_tensors
from octavo.models.from_transformers.interface import PAGED
from octavo.models.from_transformers.outline import Outline

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class StoredTensor:
    """One that is read when it is indexed, as a slice of an open file is.

    transformers asks from several threads, and the source keeps a list of what was asked for.
    """

    def __init__(
        self, source: WeightSource, name: str, shape: tuple[int, ...], lock: threading.Lock
    ) -> None:
        self._source = source
        self._name = name
        self._shape = shape
        self._lock = lock

    def __getitem__(self, index: Any) -> torch.Tensor:
        with self._lock:
            (tensor,) = floating_tensors(self._source, {self._name: self._shape})
        return tensor[index]


def load_module(
    model_class: type[PreTrainedModel],
    config: PreTrainedConfig,
    outline: Outline,
    source: WeightSource,
    placement: Placement,
) -> PreTrainedModel:
    """What does not match is noted with the source."""
    shapes = {name: source.shape(name) for name in source.names()} or outline.parameters
    lock = threading.Lock()
    stored = {
        name: StoredTensor(source, name, shape, lock)
        for name, shape in shapes.items()
        if shape is not None
    }
    with _quiet():
        try:
            module, report = model_class.from_pretrained(
                None,
                config=deepcopy(config),
                state_dict=stored,
                dtype=placement.dtype,
                attn_implementation=PAGED,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        except RuntimeError as error:  # its way to tell of tensors that it could not convert
            source.note(" ".join(str(error).split()))
            source.finish(lambda _: True)
            raise
    for name in sorted(report["missing_keys"]):
        source.note(f"{name} is missing")
    for name, found, wanted in sorted(report["mismatched_keys"]):
        source.note(f"{name} has shape {list(found)} where config.json says {list(wanted)}")
    return module.eval().to(placement.device)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without its bar and its tables: what they tell is an error of ours."""
    level = transformers_logging.get_verbosity()
    has_bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if has_bar:
            transformers_logging.enable_progress_bar()
