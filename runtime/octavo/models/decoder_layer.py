"""One layer of the decoder: its parts, and how they are loaded."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch

from octavo.config import Quantization
from octavo.kernels.attention_options import AttentionOptions
from octavo.kernels.protocols.layers import ExpertKernels, FewRowKernels, Kernels
from octavo.layers.attention import Attention, AttentionSpec, AttentionStep
from octavo.layers.linear import Linear, load_linear
from octavo.layers.mlp import GatedMLP
from octavo.layers.moe import ExpertLoop, Router, StackedExperts, stack_experts
from octavo.layers.norm import HeadNorm, RMSNorm
from octavo.loading import WeightSource
from octavo.models.config import Activation, DecoderConfig, ExpertsConfig
from octavo.models.fused_layer import FusedLayer

# `load_linear` with all that is the same for every product of a layer.
LinearLoader = Callable[..., Linear]
# Of `[tokens, hidden]`, and of `AttentionStep.num_live`.
FeedForward = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]


class DecoderLayer:
    """Attention and feed-forward, each on a normalised copy of the residual stream."""

    __slots__ = ("attention", "attention_norm", "mlp", "mlp_norm")

    def __init__(
        self, attention_norm: RMSNorm, attention: Attention, mlp_norm: RMSNorm, mlp: FeedForward
    ) -> None:
        self.attention_norm = attention_norm
        self.attention = attention
        self.mlp_norm = mlp_norm
        self.mlp = mlp

    def __call__(
        self,
        residual: torch.Tensor,
        delta: torch.Tensor | None,
        cache: torch.Tensor,
        step: AttentionStep,
    ) -> torch.Tensor:
        """Adds the layer before (`delta`) and half of this one to `residual`, in place.

        Args:
            residual: `[tokens, hidden]`.
            delta: What the layer before returned; None in the first one.

        Returns `[tokens, hidden]`: what is left to be added, so that each sum is one pass with the norm
        that follows it.
        """
        norm = self.attention_norm
        hidden = norm(residual) if delta is None else norm.add(residual, delta)
        attended = self.attention(hidden, cache, step)
        return self.mlp(self.mlp_norm.add(residual, attended), step.num_live)


class SandwichLayer:
    """A `DecoderLayer` that also normalises what attention and feed-forward add (Gemma 2)."""

    __slots__ = ("_attention", "_attention_norms", "_mlp", "_mlp_norms")

    def __init__(
        self,
        attention_norms: tuple[RMSNorm, RMSNorm],
        attention: Attention,
        mlp_norms: tuple[RMSNorm, RMSNorm],
        mlp: FeedForward,
    ) -> None:
        self._attention_norms = attention_norms
        self._attention = attention
        self._mlp_norms = mlp_norms
        self._mlp = mlp

    def __call__(
        self,
        residual: torch.Tensor,
        delta: torch.Tensor | None,
        cache: torch.Tensor,
        step: AttentionStep,
    ) -> torch.Tensor:
        """As in `DecoderLayer`."""
        before, after = self._attention_norms
        hidden = before(residual) if delta is None else before.add(residual, delta)
        attended = after(self._attention(hidden, cache, step))
        before, after = self._mlp_norms
        return after(self._mlp(before.add(residual, attended), step.num_live))


def load_layer(
    config: DecoderConfig,
    source: WeightSource,
    index: int,
    kernels: Kernels,
    quantization: Quantization | None = None,
) -> DecoderLayer | FusedLayer | SandwichLayer:
    """Layer `index`, counted from 0; `quantization` as in `Decoder`."""
    prefix = f"model.layers.{index}"

    def norm(name: str) -> RMSNorm:
        return load_norm(config, source, f"{prefix}.{name}", kernels)

    fuses = kernels if isinstance(kernels, FewRowKernels) else None
    load = functools.partial(
        load_linear, source, quantization=quantization, is_plain=fuses is not None
    )
    attention = _load_attention(config, source, index, load)
    if config.experts is None:
        names = [f"{prefix}.mlp.{name}_proj" for name in ("gate", "up", "down")]
        mlp: FeedForward = _load_mlp(config, names, kernels, load)
    else:
        name = f"{prefix}.block_sparse_moe"
        mlp = _load_experts(config, config.experts, source, name, kernels, load)
    if config.has_output_norms:
        return SandwichLayer(
            (norm("input_layernorm"), norm("post_attention_layernorm")),
            attention,
            (norm("pre_feedforward_layernorm"), norm("post_feedforward_layernorm")),
            mlp,
        )
    layer = DecoderLayer(norm("input_layernorm"), attention, norm("post_attention_layernorm"), mlp)
    if fuses is None:
        return layer
    is_gelu = config.activation is Activation.GELU_TANH
    return FusedLayer.of(layer, fuses, is_gelu=is_gelu) or layer


def load_norm(config: DecoderConfig, source: WeightSource, name: str, kernels: Kernels) -> RMSNorm:
    if not config.has_offset_norms:
        return RMSNorm.load(source, name, config.hidden_size, config.rms_norm_eps, kernels)
    weight = source.take(f"{name}.weight", (config.hidden_size,))
    # In float32: near 1, bfloat16 would drop most bits of what is stored.
    return RMSNorm(weight.float() + 1.0, config.rms_norm_eps, kernels)


def _load_attention(
    config: DecoderConfig, source: WeightSource, index: int, load: LinearLoader
) -> Attention:
    prefix = f"model.layers.{index}.self_attn"
    query_width = config.num_heads * config.head_dim
    kv_width = config.num_kv_heads * config.head_dim
    qkv = load(
        [f"{prefix}.q_proj", f"{prefix}.k_proj", f"{prefix}.v_proj"],
        in_features=config.hidden_size,
        out_features=[query_width, kv_width, kv_width],
        bias=config.qkv_bias,
    )
    output = load(
        [f"{prefix}.o_proj"],
        in_features=query_width,
        out_features=[config.hidden_size],
        bias=config.output_bias,
    )
    head_norm = None
    if config.has_head_norm:
        head_norm = HeadNorm.of(
            source.take(f"{prefix}.q_norm.weight", (config.head_dim,)),
            source.take(f"{prefix}.k_norm.weight", (config.head_dim,)),
            num_query_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
            eps=config.rms_norm_eps,
        )
    spec = AttentionSpec(
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        options=AttentionOptions(
            scale=config.attention_scale or config.head_dim**-0.5,
            sliding_window=config.sliding_windows[index] if config.sliding_windows else None,
            softcap=config.attention_softcap,
        ),
        head_norm=head_norm,
    )
    return Attention(qkv, output, spec)


def _load_mlp(
    config: DecoderConfig, names: Sequence[str], kernels: Kernels, load: LinearLoader
) -> GatedMLP:
    """`names` are the prefixes of gate, up and down."""
    width = config.intermediate_size
    gate_up = load(
        names[:2],
        in_features=config.hidden_size,
        out_features=[width, width],
        bias=config.mlp_bias,
    )
    down = load(
        names[2:],
        in_features=width,
        out_features=[config.hidden_size],
        bias=config.mlp_bias,
    )
    return GatedMLP(gate_up, down, _gate(config, kernels))


def _load_experts(
    config: DecoderConfig,
    experts: ExpertsConfig,
    source: WeightSource,
    prefix: str,
    kernels: Kernels,
    load: LinearLoader,
) -> FeedForward:
    hidden, width = config.hidden_size, config.intermediate_size
    weight = source.take(f"{prefix}.gate.weight", (experts.num_experts, hidden))
    names = [
        [f"{prefix}.experts.{expert}.{name}" for name in ("w1", "w3", "w2")]
        for expert in range(experts.num_experts)
    ]
    if not isinstance(kernels, ExpertKernels):
        router = Router(weight, experts.num_per_token)
        blocks = [_load_mlp(config, three, kernels, load) for three in names]
        return ExpertLoop(router, blocks)
    gate_up, down = stack_experts(source, names, hidden, width, like=weight)
    return StackedExperts(
        weight,
        gate_up,
        down,
        kernels,
        num_per_token=experts.num_per_token,
        is_gelu=config.activation is Activation.GELU_TANH,
    )


def _gate(config: DecoderConfig, kernels: Kernels) -> Callable[[torch.Tensor], torch.Tensor]:
    if config.activation is Activation.GELU_TANH:
        return kernels.gelu_and_mul
    return kernels.silu_and_mul
