"""Text part of a checkpoint that holds other parts, too: the text model's tensors, by its own names."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping

import torch

from octavo.loading.source import Slice, WeightSource
from octavo.loading.view import SourceView

logger = logging.getLogger(__name__)

# What stands before the names of the text model's layers, where they call it `model.`: as published, and as
# transformers 5 saves it; Qwen2-VL was published with the text's names as they are.
_LAYOUTS = ("language_model.model.", "model.language_model.", "model.")
_OWN = "model."
_HEADS = ("language_model.lm_head.", "lm_head.")
_OWN_HEAD = "lm_head."
_EMBEDDING = "embed_tokens.weight"


class TextPart(SourceView):
    """A `WeightSource` that is asked for `model.norm.weight` and reads `language_model.model.norm.weight`.

    What is not the text's is left alone, and the log says so.
    """

    def __init__(self, source: WeightSource) -> None:
        super().__init__(source)
        stored = source.names()
        layout = next((one for one in _LAYOUTS if source.has(one + _EMBEDDING)), _OWN)
        prefixes = {layout: _OWN, **dict.fromkeys(_HEADS, _OWN_HEAD)}
        self._stored: dict[str, str] = {}
        others = []
        for name in stored:
            prefix = next((one for one in prefixes if name.startswith(one)), None)
            if prefix is None:
                others.append(name)
            else:
                self._stored[prefixes[prefix] + name.removeprefix(prefix)] = name
        self._own = {name: own for own, name in self._stored.items()}
        self._others = others

    def names(self) -> Collection[str]:
        return self._stored.keys()

    def has(self, name: str) -> bool:
        return name in self._stored

    def shape(self, name: str) -> tuple[int, ...] | None:
        return self._source.shape(self._stored.get(name, name))

    def tensors(
        self, shapes: Mapping[str, tuple[int, ...]], part: Slice | None = None
    ) -> list[torch.Tensor]:
        stored = {self._stored.get(name, name): shape for name, shape in shapes.items()}
        return self._source.tensors(stored, part)

    def finish(self, is_ignored: Callable[[str], bool]) -> None:
        if self._others:
            parts = sorted({".".join(name.split(".")[:2]) for name in self._others})
            logger.warning(
                "Text alone is served: %d tensors of %s are not read.",
                len(self._others),
                ", ".join(parts),
            )
        self._source.finish(lambda name: name not in self._own or is_ignored(self._own[name]))
