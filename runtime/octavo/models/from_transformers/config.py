"""Config of a model that runs by transformers' own modules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from transformers import PreTrainedConfig

from octavo.errors import ModelInvalidError
from octavo.kernels.protocols.layers import ExpertKernels, Kernels
from octavo.layers.projection import Projection, Shard
from octavo.layers.rotary import RopeConfig
from octavo.models.base import CausalLM, ModelConfig, Tables
from octavo.models.building import ModelBuilder
from octavo.models.config_reader import ConfigReader
from octavo.models.from_transformers.auto_class import auto_class
from octavo.models.from_transformers.experts import ExpertsLayer
from octavo.models.from_transformers.interface import Running
from octavo.models.from_transformers.outline import Outline, outline_of
from octavo.models.from_transformers.plans import PLANS
from octavo.models.from_transformers.refusals import own_code_first, refuse, translated_errors
from octavo.models.from_transformers.rotary import context_of
from octavo.models.from_transformers.tensor_parallel import SharingPlan, Style, sharing_plan
from octavo.models.quantization_config import read_quantization_config
from octavo.models.sliding_window import KINDS
from octavo.models.spec import ModelSpec, Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from octavo.models.from_transformers.model import TransformersLM

# The modules turn queries and keys themselves.
_NOTHING_TURNS = RopeConfig(width=0)
_CHUNKED = "chunked_attention"
_EPSILONS = ("eps", "epsilon")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformersConfig(ModelConfig):
    """See `octavo.models.from_transformers`.

    Args:
        given: transformers' own config.
        sharing: How ranks cut the products.
        experts: Of layers whose experts are Octavo's products.
        has_own_code: Octavo's own code takes the config.json, too.
    """

    is_generic: ClassVar[bool] = True
    prefix: ClassVar[str] = ""  # what a checkpoint calls a tensor is transformers' affair

    model_class: type[PreTrainedModel]
    given: PreTrainedConfig
    outline: Outline
    sharing: SharingPlan
    experts: tuple[ExpertsLayer, ...]
    has_own_code: bool = False

    def with_kernels(self, kernels: Kernels) -> Self:
        """Experts that the device's kernels do not compute are transformers' own."""
        if isinstance(kernels, ExpertKernels) and any(one.gate is None for one in self.experts):
            return self.with_own_experts_alone("their gate has no GPU kernel")
        return self

    def with_own_experts_alone(self, why: str) -> Self:
        """All experts by transformers' own implementation."""
        return replace(self, experts=(), outline=replace(self.outline, experts_problem=why))

    @property
    def tables(self) -> Tables:
        outline = self.outline
        return Tables.of(
            self.spec,
            embedding=outline.embedding,
            head=outline.head,
            is_tied=self.is_tied,
            head_bias=f"{outline.head}.bias" in outline.parameters,
            tied_bias=outline.tied_bias,
        )

    @property
    def keeps_tables(self) -> bool:
        return not self.outline.has_plain_tables

    def projections(self) -> list[Projection]:
        """What Octavo's products stand in for."""
        experts = (self.experts_of(layer) for layer in self.experts)
        return [
            *self.linear_projections(),
            *(one for layer in experts for products in layer for one in products),
        ]

    def linear_projections(self) -> list[Projection]:
        """Of linear modules."""
        outline, found = self.outline, []
        for names in outline.products:
            widths = tuple(outline.sizes(name)[0] for name in names)
            depth, has_bias = outline.sizes(names[0])[1], f"{names[0]}.bias" in outline.parameters
            style, unit = self.sharing.style_of(names), 1
            shard = Shard.WHOLE if style is None else style.shard
            if style is Style.COLUMN and names[0].startswith(self._attentions):
                unit = self.spec.head_dim
            found.append(Projection(names, depth, widths, bias=has_bias, shard=shard, unit=unit))
        return found

    def adaptable_projections(self) -> list[Projection]:
        """Of linear modules whose rows are a step's tokens."""
        rows = self.outline.with_token_rows
        return [one for one in self.linear_projections() if rows.issuperset(one.names)]

    @property
    def adapter_prefix(self) -> str:
        return f"{self.model_class.base_model_prefix}."

    def experts_of(self, layer: ExpertsLayer) -> list[tuple[Projection, Projection]]:
        """Gate and up, and down, of each expert of a layer."""
        return layer.projections(is_cut=self.sharing.cuts_experts)

    @property
    def _attentions(self) -> tuple[str, ...]:
        return tuple(f"{path}." for path in self.outline.attentions)

    @property
    def recording_problem(self) -> str | None:
        from octavo.models.from_transformers.recording import recording_problem

        return recording_problem(self.model_class, self.given, self.outline)

    @property
    def sharing_problem(self) -> str | None:
        return self.sharing.problem

    def kept_projections(self) -> list[Projection]:
        """All else that has two dimensions or more: what is kept in three, such as experts, counts as one."""
        modules = [name for names in self.outline.products for name in names]
        own = {f"{name}.weight" for name in (*modules, self.outline.embedding, self.outline.head)}
        own.update(name for layer in self.experts for name in layer.parameters)
        return [
            Projection((name,), shape[-1], (_product(shape[:-1]),), bias=False, shard=Shard.WHOLE)
            for name, shape in self.outline.parameters.items()
            if len(shape) > 1 and name not in own
        ]

    def ignores(self, name: str) -> bool:
        patterns = self.model_class._keys_to_ignore_on_load_unexpected or ()  # noqa: SLF001
        if self.outline.tied_bias is not None and name == f"{self.outline.head}.bias":
            return True  # a copy
        return ModelConfig.ignores(self, name) or any(re.search(one, name) for one in patterns)

    def build(self, load: ModelBuilder) -> TransformersLM:
        from octavo.models.from_transformers.adapters import leave_others_alone
        from octavo.models.from_transformers.model import TransformersLM
        from octavo.models.from_transformers.weights import load_module

        config, running, adapters = self.with_kernels(load.kernels), Running(), load.adapters
        module, experts = load_module(config, load, running)
        if adapters is not None:
            leave_others_alone(module, self.outline, adapters)
        return TransformersLM(self.spec, module, self.outline, experts, running, load.ranks.size)

    def check(self, model: CausalLM, load: ModelBuilder) -> None:
        from octavo.models.from_transformers.model import TransformersLM
        from octavo.models.from_transformers.self_check import check

        if isinstance(model, TransformersLM):  # as `build` gave it
            name = self.spec.architecture
            with (
                own_code_first(has_own_code=self.has_own_code),
                translated_errors(name, "in the check at start"),
            ):
                check(model, load.placement, load.adapters)


def read_transformers_config(folder: Path, raw: Mapping[str, Any]) -> TransformersConfig:
    """Of the folder's config.json, which `raw` is.

    Raises `ModelUnsupportedError` for what would not run as transformers runs it, and `ModelInvalidError`.
    """
    architecture = str(raw["architectures"][0])
    model_class, given = auto_class(folder, raw)
    with translated_errors(architecture, "with this config.json"):
        text = given.get_text_config(decoder=True)
    for one in (given, text):
        _forget_quantisation(one)
    _check_numbers(text)
    num_layers = _integer(architecture, text, "num_hidden_layers")
    outline = outline_of(architecture, model_class, given, num_layers)
    _check_kinds(architecture, text, outline.windows)
    positions = _integer(architecture, text, "max_position_embeddings")
    context = context_of(text, positions, outline.rope_types)
    context -= outline.position_offset
    plan = getattr(text, "base_model_tp_plan", None) or {}
    sharing = sharing_plan(outline, {**plan, **PLANS.get(text.model_type, {})})
    shape = outline.layers[0]
    if outline.transposed and read_quantization_config(folder) is not None:
        refuse(
            architecture,
            "its weights lie transposed (Conv1D), of which quantised ones are not implemented",
        )
    widths = [size[-2] for size in outline.parameters.values() if len(size) > 1]
    widths += [outline.sizes(name)[0] for name in outline.transposed]
    tables = {outline.parameters[f"{name}.weight"][0] for name in (outline.embedding, outline.head)}
    spec = ModelSpec(
        architecture=architecture,
        task=Task.GENERATE,
        vocab_size=outline.parameters[f"{outline.head}.weight"][0],
        hidden_size=outline.hidden_size,
        inner_size=max(width for width in widths if width not in tables),
        num_layers=num_layers,
        num_heads=shape.num_heads,
        num_kv_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        windows=outline.windows,
        rotary=(_NOTHING_TURNS,),
        context=context,
        default_context=context,
        stored_dtype=str(raw.get("dtype") or raw.get("torch_dtype") or "float32"),
        shares_heads=sharing.whole_heads is None,
    )
    return TransformersConfig(
        spec=spec,
        is_tied=outline.is_tied,
        model_class=model_class,
        given=given,
        outline=outline,
        sharing=sharing,
        experts=outline.experts,
    )


def _forget_quantisation(config: PreTrainedConfig) -> None:
    """Octavo reads quantised weights: transformers would look for packages of their formats."""
    for name in ("quantization_config", "compression_config"):
        config.__dict__.pop(name, None)


def _integer(architecture: str, config: PreTrainedConfig, name: str) -> int:
    value = getattr(config, name, None)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelInvalidError(
            f"config.json: {name} of {architecture} is {value!r}; it must be a positive integer."
        )
    return value


def _check_numbers(config: PreTrainedConfig) -> None:
    """Raises `ModelInvalidError` for numbers with which every score would be NaN."""
    fields = config.to_dict()
    reader = ConfigReader(fields)
    for name, value in fields.items():
        if type(value) is not float:
            continue
        if name.endswith(_EPSILONS):
            reader.epsilon(name, value)
        else:
            reader.number(name)


def _check_kinds(
    architecture: str, config: PreTrainedConfig, windows: tuple[int | None, ...]
) -> None:
    """The class heeds what config.json calls its layers. A check of the class against itself is blind to
    that."""
    kinds = getattr(config, "layer_types", None)
    if not isinstance(kinds, list | tuple):
        return
    for layer, (kind, window) in enumerate(zip(kinds, windows, strict=False)):
        is_other = kind in KINDS and (kind == KINDS[0]) != (window is not None)
        # Whoever heeds chunks has a mask that the check at start knows to be none of ours.
        has_chunks = window is not None and window == getattr(config, "attention_chunk_size", None)
        if is_other or (kind == _CHUNKED and not has_chunks):
            sees = "all tokens" if window is None else f"{window} tokens"
            refuse(architecture, f"layer {layer}, whose layer_types is {kind}, sees {sees} there")


def _product(sizes: tuple[int, ...]) -> int:
    return int(torch.Size(sizes).numel())
