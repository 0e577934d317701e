"""Plans of how ranks share families for which transformers has none, or one that leaves attention whole.

In transformers' words: patterns of modules' paths within the base, and how each is cut. `make models` tries
each against one process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

_CUT = "colwise", "rowwise"
# What goes in and comes out is whole: of modules that count heads by config.json.
_BETWEEN_WHOLE = "colwise_gather_output", "rowwise_split_input"


def _plan(
    columns: Iterable[str], rows: Iterable[str], styles: tuple[str, str] = _CUT
) -> dict[str, str]:
    cut = {**dict.fromkeys(columns, styles[0]), **dict.fromkeys(rows, styles[1])}
    return {f"layers.*.{name}": style for name, style in cut.items()}


def _gated(block: str) -> dict[str, str]:
    return _plan((f"{block}.gate_proj", f"{block}.up_proj"), (f"{block}.down_proj",))


_QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_ATTENTION = _plan(_QKV, ("self_attn.o_proj",))

PLANS: Final[Mapping[str, Mapping[str, str]]] = {
    "afmoe": {
        **_ATTENTION,
        **_plan(("self_attn.gate_proj",), ()),
        **_gated("mlp"),
        **_gated("mlp.shared_experts"),
    },
    "biogpt": _plan((*_QKV, "fc1"), ("self_attn.out_proj", "fc2")),
    "flint": _ATTENTION,
    "gpt_oss": _ATTENTION,
    "granitemoe": _ATTENTION,
    "granitemoeshared": _ATTENTION,
    "hunyuan_v1_dense": {**_ATTENTION, **_gated("mlp")},
    "hunyuan_v1_moe": {**_ATTENTION, **_gated("mlp.shared_mlp")},
    "opt": {
        **_plan(_QKV, ("self_attn.out_proj",), _BETWEEN_WHOLE),
        **_plan(("fc1",), ("fc2",)),
    },
    "phimoe": _ATTENTION,
    "stablelm": {**_plan(_QKV, ("self_attn.o_proj",), _BETWEEN_WHOLE), **_gated("mlp")},
}
"""By `model_type`; what stands here counts beside transformers' own (`base_model_tp_plan`)."""
