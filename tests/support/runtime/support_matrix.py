"""Support matrix: what goes with which family, by what a start refuses and what it does not.

Each mark is backed by a test of every family: ranks by `test_sharing` and `test_generic_ranks`, adapters by
`test_adapters`, drafts by `test_drafts_of_families`; all three at once by `test_sharing`. Of transformers'
modules `family_table` tries ranks and adapters of each family.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from octavo.config import EngineConfig
from octavo.engine.speculation.start import start_speculation
from octavo.errors import InvalidConfigurationError
from octavo.models.base import BaseConfig
from octavo.models.config_reader import ConfigReader
from octavo.models.registry import ENCODERS, FAMILIES
from octavo.models.sharing import check_sharing
from octavo.models.spec import Task
from octavo.speculative_config import SpeculativeConfig, SpeculativeMethod
from octavo.worker.batch import ExecutorInfo
from octavo.worker.start.implementation import check_adapters

_SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "num_labels": 1,
}
_NGRAM = SpeculativeConfig(method=SpeculativeMethod.NGRAM)
_HEAD = """## What goes with what

On CPUs, and all of it together: [ranks](../how-to/tensor-parallel.md) (`--tensor-parallel-size`),
[speculative decoding](../how-to/speculative-decoding.md) and [LoRA adapters](../how-to/lora.md).

| architecture | ranks | speculative | LoRA |
|---|---|---|---|
"""
_FOOT = """| others, by transformers' modules | ¹ | yes | ¹ |

Drafts by n-grams; a draft model where no layer has a sliding window, a head (`eagle3`) where some layer has
none and the code is Octavo's own.

¹ As the table below says of each family.
"""


@dataclass(frozen=True, slots=True)
class Marks:
    """Of one architecture."""

    architecture: str
    ranks: bool
    speculative: bool
    adapters: bool

    def __str__(self) -> str:
        marks = ("yes" if one else "–" for one in (self.ranks, self.speculative, self.adapters))
        return f"| `{self.architecture}` | {' | '.join(marks)} |"


def marks() -> Iterator[Marks]:
    """Of every family of Octavo's own, encoders behind decoders."""
    for families in (FAMILIES, ENCODERS):
        for architecture in sorted(families):
            raw = {"architectures": [architecture], **_SIZES}
            yield _marks_of(architecture, families[architecture](ConfigReader(raw)))


def section() -> str:
    return _HEAD + "".join(f"{one}\n" for one in marks()) + _FOOT


def _marks_of(architecture: str, model: BaseConfig) -> Marks:
    config = EngineConfig(model="", enable_lora=True, tensor_parallel_size=2)
    can_generate = model.spec.task is Task.GENERATE
    info = ExecutorInfo(128, 8, 16, 96, "float32", "cpu", {}, can_generate=can_generate)

    return Marks(
        architecture,
        _is_taken(lambda: check_sharing(model, 2)),
        _is_taken(lambda: start_speculation(_NGRAM, info)),
        _is_taken(lambda: check_adapters(config, model)),
    )


def _is_taken(check: Callable[[], object]) -> bool:
    try:
        check()
    except InvalidConfigurationError:
        return False
    return True
