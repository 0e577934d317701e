"""Outline of a transformers model: its layers and tensors, found by running it without values.

The model is made of fake tensors, which have shapes and no memory, and sees a few tokens. What it calls
attention with is what its layers are. Where that is not what paged attention computes, the model is refused
by name, before a weight is read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import PreTrainedConfig
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.initialization import no_init_weights

from octavo.kernels.attention_options import AttentionOptions
from octavo.layers.step import AttentionSpec
from octavo.models.from_transformers import experts as experts_interface
from octavo.models.from_transformers.expert_weights import Conversions
from octavo.models.from_transformers.experts import (
    ExpertsCall,
    ExpertsLayer,
    experts_of,
    recorded_experts,
)
from octavo.models.from_transformers.heads import HeadParts, head_parts
from octavo.models.from_transformers.interface import RECORDED, Call, recorded_calls, register
from octavo.models.from_transformers.products import (
    LinearCall,
    find_products,
    replaceable,
    transposed,
    watched_linears,
    with_token_rows,
)
from octavo.models.from_transformers.refusals import ModulesRefusedError, refuse, translated_errors
from octavo.models.from_transformers.rotary import hold_frequencies, rope_types

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# No number of heads or channels, so that a tensor that lies otherwise is noticed.
_TOKENS = 7
# Arguments of a call that say nothing about what is computed, or that training alone uses.
_HARMLESS = frozenset(
    {
        "cache_position",
        "dropout",
        "layer_idx",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "position_embeddings",
        "position_ids",
        "return_dict",
        "use_cache",
    }
)
_READ = frozenset(("scaling", "sliding_window", "softcap", "is_causal", "s_aux"))


@dataclass(frozen=True, slots=True)
class Outline:
    """What a model is made of.

    Args:
        base: Path of the module whose output the head reads.
        attentions: Paths of the attention modules, in the order of layers.
        layers: What each of them computes.
        parameters: Shapes by name.
        products: Paths of linear modules that Octavo's products stand in for, those of one product together.
        transposed: Paths of linear modules whose weights lie `[inputs, outputs]`.
        with_token_rows: Paths of linear modules below the head that are called with a row for each token.
        heads: What else attention has of its heads.
        embedding, head: Names of the two tables' modules.
        tied_bias: The parameter that the head's bias is; None: its own.
        has_plain_tables: They do nothing but look up and multiply, so that Octavo's can stand in for them.
        position_offset: Where the model counts positions from.
        rope_types: By which modules turn queries and keys of every layer.
        experts: Of layers whose experts Octavo's products stand in for: of all that ask by transformers'
            interface, or of none.
        experts_problem: Why of none, though some ask.
        conversions: How a checkpoint's names become the modules'.
    """

    base: str
    attentions: tuple[str, ...]
    layers: tuple[AttentionSpec, ...]
    hidden_size: int
    parameters: Mapping[str, tuple[int, ...]]
    products: tuple[tuple[str, ...], ...]
    transposed: frozenset[str]
    with_token_rows: frozenset[str]
    heads: HeadParts
    embedding: str
    head: str
    tied_bias: str | None
    has_plain_tables: bool
    is_tied: bool
    position_offset: int
    rope_types: frozenset[str]
    experts: tuple[ExpertsLayer, ...]
    experts_problem: str | None
    conversions: Conversions

    @property
    def windows(self) -> tuple[int | None, ...]:
        return tuple(layer.options.sliding_window for layer in self.layers)

    def sizes(self, module: str) -> tuple[int, ...]:
        """Outputs and inputs of a linear module."""
        shape = self.parameters[f"{module}.weight"]
        return shape[::-1] if module in self.transposed else shape


def outline_of(
    name: str, model_class: type[PreTrainedModel], config: PreTrainedConfig, num_layers: int
) -> Outline:
    """
    Args:
        name: By which config.json calls the class.

    Raises `ModelUnsupportedError`.
    """
    first_calls: list[tuple[str, Any]] = []
    with translated_errors(name, "without values"), without_values():
        model = fake_model(model_class, config, RECORDED)
        _record_first_calls(model, first_calls)
        position_ids = torch.arange(_TOKENS)[None]
        with (
            recorded_calls() as calls,
            recorded_experts() as expert_calls,
            watched_linears(model) as linear_calls,
        ):
            model(
                input_ids=torch.zeros((1, _TOKENS), dtype=torch.int64),
                position_ids=position_ids,
                use_cache=False,
            )
        return _outline(name, model, calls, expert_calls, first_calls, linear_calls, num_layers)


def fake_model(
    model_class: type[PreTrainedModel], config: PreTrainedConfig, attention: str
) -> PreTrainedModel:
    """Of fake tensors, within `without_values`. Its experts are recorded; see `recorded_experts`."""
    register()
    experts_interface.register()
    with no_init_weights():
        model: PreTrainedModel = model_class._from_config(  # noqa: SLF001 (what AutoModel.from_config calls)
            deepcopy(config),
            attn_implementation=attention,
            experts_implementation=RECORDED,
            dtype=torch.float32,
        ).eval()
    model.tie_weights()  # which some leave to the initialisation that is skipped
    hold_frequencies(model)
    return model


@contextmanager
def without_values() -> Iterator[None]:
    """Tensors are fake, and the traces that torch logs of what fails are left out: the refusal says it."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    was_disabled, log.disabled = log.disabled, True
    try:
        with FakeTensorMode(), torch.no_grad():
            yield
    finally:
        log.disabled = was_disabled


def _record_first_calls(model: torch.nn.Module, found: list[tuple[str, Any]]) -> None:
    """Of the modules that the model itself calls, the paths and outputs, in order."""
    depth = 0

    def enter(*_: Any) -> None:
        nonlocal depth
        depth += 1

    def leave(path: str, output: Any) -> None:
        nonlocal depth
        depth -= 1
        if depth == 0:
            found.append((path, output))

    for path, module in model.named_modules():
        if path:
            module.register_forward_pre_hook(enter)
            module.register_forward_hook(lambda *out, path=path: leave(path, out[-1]))


def _outline(
    name: str,
    model: Any,
    calls: list[Call],
    expert_calls: list[ExpertsCall],
    first_calls: list[tuple[str, Any]],
    linear_calls: list[LinearCall],
    num_layers: int,
) -> Outline:
    paths = {module: path for path, module in model.named_modules()}
    attentions = [paths[call.module] for call in calls]
    if len(calls) != num_layers or len(set(attentions)) != num_layers:
        refuse(
            name,
            f"these call attention {len(calls)} times in {len(set(attentions))} modules for {num_layers} "
            "layers, where each layer must do it once: layers that are recurrent, share a module, or have an "
            "attention of their own are not implemented",
        )
    layers = tuple(_layer(name, path, call) for path, call in zip(attentions, calls, strict=True))
    shapes = {(layer.num_heads, layer.num_kv_heads, layer.head_dim) for layer in layers}
    if len(shapes) != 1:
        refuse(name, f"its layers differ in heads, key heads and head size: {sorted(shapes)}")
    base, hidden = _base(name, attentions, first_calls)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if embedding not in paths or head not in paths:
        refuse(name, "it has no embedding, or no head, that transformers names")
    tables = {embedding, head}
    are_plain = (
        tables <= replaceable(linear_calls)
        and embedding.max_norm is None
        and embedding.num_embeddings == head.out_features
        and embedding.embedding_dim == head.in_features == hidden
    )
    parameters = {n: tuple(tensor.shape) for n, tensor in model.state_dict().items()}
    experts, experts_problem = experts_of(expert_calls, paths)
    products = find_products(
        linear_calls,
        paths,
        kept={*tables, *_kept_wide(model)},
        router_widths=_router_widths(model.config.get_text_config(decoder=True)),
        attentions=attentions,
    )
    return Outline(
        base=base,
        attentions=tuple(attentions),
        layers=layers,
        hidden_size=hidden,
        parameters=parameters,
        products=products,
        transposed=transposed(paths),
        with_token_rows=with_token_rows(linear_calls, paths, within=base, num_tokens=_TOKENS),
        heads=head_parts(calls, paths, {path for names in products for path in names}),
        embedding=paths[embedding],
        head=paths[head],
        tied_bias=model.all_tied_weights_keys.get(f"{paths[head]}.bias"),
        has_plain_tables=are_plain,
        is_tied=head.weight is embedding.weight,
        position_offset=_position_offset(model.get_submodule(base)),
        rope_types=rope_types(model),
        experts=experts,
        experts_problem=experts_problem,
        conversions=Conversions(
            get_model_conversion_mapping(model), model.base_model_prefix, parameters
        ),
    )


def _base(name: str, attentions: list[str], first_calls: list[tuple[str, Any]]) -> tuple[str, int]:
    """Path of the module that holds all layers, and the width of what it gives."""
    for path, output in first_calls:
        if all(one.startswith(f"{path}.") for one in attentions):
            hidden = output[0]
            if hidden.shape[:2] != (1, _TOKENS):
                refuse(name, f"{path} gives {list(hidden.shape)} for {_TOKENS} tokens")
            return path, int(hidden.shape[2])
    raise ModulesRefusedError(name, "no single module of it holds all its layers")


def _kept_wide(model: Any) -> Iterator[torch.nn.Module]:
    """Modules that stay in float32, whatever the others are in."""
    words = [
        word
        for field in ("_keep_in_fp32_modules", "_keep_in_fp32_modules_strict")
        for word in getattr(model, field, None) or ()
    ]
    for path, module in model.named_modules():
        if any(word in path for word in words):
            yield module


def _router_widths(config: PreTrainedConfig) -> set[int]:
    """As many outputs as there are experts, or one: a gate's."""
    fields = config.to_dict().items()
    counts = {
        value
        for name, value in fields
        if "expert" in name and "size" not in name and isinstance(value, int)
    }
    return {1, *counts}


def _position_offset(base: Any) -> int:
    """RoBERTa's kin count from behind the padding's place in their table."""
    embeddings = getattr(base, "embeddings", None)
    if embeddings is None or not hasattr(embeddings, "create_position_ids_from_input_ids"):
        return 0
    return int(embeddings.padding_idx) + 1


def _layer(name: str, path: str, call: Call) -> AttentionSpec:
    query, key, value = call.shapes
    num_heads, num_kv_heads, head_dim = query[1], key[1], query[3]
    if value != key or key[3] != head_dim:
        refuse(
            name,
            f"{path} attends with queries of {query[3]} channels, {key[1]} keys of {key[3]} and {value[1]} "
            f"values of {value[3]}; they must be alike (multi-head latent attention is not implemented)",
        )
    if query[0] != 1 or query[2] != _TOKENS or key[2] != _TOKENS:
        refuse(
            name,
            f"{path} attends with queries {list(query)} and keys {list(key)}, not a token each",
        )
    if head_dim % 2 or num_heads % num_kv_heads:
        refuse(
            name,
            f"{path} has {num_heads} heads of {head_dim} channels over {num_kv_heads} key heads: the "
            "channels must be even, and the heads a multiple",
        )
    _check_others(name, path, call)
    scale = call.others.get("scaling")
    return AttentionSpec(
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        options=AttentionOptions(
            scale=head_dim**-0.5 if scale is None else float(scale),
            sliding_window=_window(name, path, call),
            softcap=call.others.get("softcap"),
        ),
    )


def _check_others(name: str, path: str, call: Call) -> None:
    others = call.others
    sinks, num_heads = others.get("s_aux"), call.shapes[0][1]
    if sinks is not None and tuple(sinks.shape) != (num_heads,):
        refuse(
            name,
            f"{path} has sinks (s_aux) of {list(sinks.shape)}; a number for each of its {num_heads} heads is "
            "implemented",
        )
    unknown = sorted(set(others) - _HARMLESS - _READ)
    if unknown:
        refuse(
            name, f"{path} gives attention {', '.join(unknown)}, whose meaning is not implemented"
        )
    is_causal = others.get("is_causal", getattr(call.module, "is_causal", True))
    if not is_causal:
        refuse(name, f"{path} is not causal (is_causal is False)")


def _window(name: str, path: str, call: Call) -> int | None:
    """From the mask, which is what counts where attention is spelt out; the argument must say the same."""
    if call.mask is None:
        refuse(name, f"{path} attends without a mask, or with one that it made itself")
    window, said = call.mask.window, call.others.get("sliding_window")
    if said is not None and said != window:
        refuse(name, f"{path} says sliding_window {said}, and its mask says {window}")
    return window
