"""Building a model: the parts that families ask for, of a weight source, a scheme and a device's kernels."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from octavo.kernels.attention_options import AttentionOptions
from octavo.kernels.protocols.layers import Kernels
from octavo.layers.attention import Attention
from octavo.layers.encoder_attention import EncoderAttention
from octavo.layers.linear import Clipped, Linear, Lookup
from octavo.layers.mlp import (
    Activation,
    EncoderGatedMLP,
    FeedForward,
    GatedMLP,
    PlainActivation,
    PlainMLP,
)
from octavo.layers.moe import SharedExpert
from octavo.layers.norm import HeadNorm, LayerNorm, Norm, RMSNorm
from octavo.layers.projection import Projection, Shard, share_of
from octavo.layers.ranks import ALONE, Ranks
from octavo.layers.rotary import RopeConfig, RotaryTable, paired_channels
from octavo.layers.shared_vocabulary import GatheredHead, SharedLookup
from octavo.layers.step import AttentionSpec
from octavo.loading import (
    Placement,
    Slice,
    WeightSource,
    WithoutBiases,
    floating_tensors,
)
from octavo.models.adapters import ModelAdapters
from octavo.models.base import CausalLM, Encoder, EncoderConfig, ModelConfig, Tables
from octavo.models.blocks import ParallelBlock, PreNormBlock
from octavo.models.experts import routed_experts
from octavo.models.spec import ModelSpec
from octavo.models.stored_tables import table_shape, with_own_names, with_stored_head
from octavo.models.stream import Reduce
from octavo.quantization import Scheme, Unquantised
from octavo.quantization.dequantised_source import DequantisedSource
from octavo.quantization.forms import table_lookup
from octavo.quantization.stored_scheme import Stored
from octavo.quantization.unquantised import compact_lookup


def build_model(
    config: ModelConfig,
    source: WeightSource,
    *,
    scheme: Scheme,
    kernels: Kernels,
    placement: Placement,
    ranks: Ranks = ALONE,
    adapters: ModelAdapters | None = None,
) -> CausalLM:
    """The model with its weights, or what one of the ranks has of it. Raises `ModelInvalidError` when these
    do not match its config.json, as `ModelConfig.check`, and as `ModelAdapters.finish`.

    Args:
        adapters: Get to know the products that they may change; None: it takes no adapters.
    """
    config = with_stored_head(config, source)
    source = with_own_names(config, source)
    are_random = not source.names()  # which stand for speed alone
    load = ModelBuilder(source, scheme, kernels, placement, ranks, adapters)
    model = config.build(load)
    source.finish(config.ignores)
    if not are_random:
        config.check(model, load)
    if adapters is not None:
        adapters.finish()
    return model


def build_encoder(
    config: EncoderConfig,
    source: WeightSource,
    *,
    scheme: Scheme,
    kernels: Kernels,
    placement: Placement,
    ranks: Ranks = ALONE,
) -> Encoder:
    """As `build_model`."""
    source = with_own_names(config, source)
    model = config.build(ModelBuilder(source, scheme, kernels, placement, ranks))
    source.finish(config.ignores)
    return model


class ModelBuilder:
    """Parts of a model, loaded.

    Args:
        ranks: Those that share the model. Partial sums of the first hold the biases.
        adapters: See `build_model`.
    """

    def __init__(
        self,
        source: WeightSource,
        scheme: Scheme,
        kernels: Kernels,
        placement: Placement,
        ranks: Ranks = ALONE,
        adapters: ModelAdapters | None = None,
    ) -> None:
        self.adapters = adapters
        self.source = source
        self._scheme = scheme
        self.placement = placement
        self.kernels = kernels
        self._ranks = ranks
        self._rotary_tables: dict[RopeConfig, RotaryTable] = {}
        self.reduce: Reduce | None = None if ranks.size == 1 else ranks.all_reduce

    @property
    def dequantised(self) -> WeightSource:
        """The source, with plain weights in place of quantised ones."""
        if not isinstance(self._scheme, Stored):
            return self.source
        return DequantisedSource(self.source, self._scheme.format, self.placement.dtype)

    @property
    def ranks(self) -> Ranks:
        return self._ranks

    def tensor(self, name: str, *shape: int) -> torch.Tensor:
        """A parameter that is no product's, in the activations' dtype."""
        return self._part(name, shape, None)

    def rounded(self, value: float) -> float:
        """As the activations' dtype holds it, which is what models are trained with."""
        return float(torch.tensor(value, dtype=self.placement.dtype).item())

    def linear(
        self,
        projection: Projection,
        source: WeightSource | None = None,
        *,
        is_adaptable: bool = True,
    ) -> Linear:
        """A product, which adapters may change where all of a step's rows are multiplied by it.

        Args:
            source: Of its weight, in place of the model's.
            is_adaptable: See `BaseConfig.adaptable_projections`; no expert is.
        """
        source = self.of_sums(projection, source or self.source)
        linear = self._scheme.load(self.share(projection), source, self.placement)
        if self.adapters is None or projection.is_routed or not is_adaptable:
            return linear
        return self.adapters.adapted(linear, self.share(projection))

    def of_sums(self, projection: Projection, source: WeightSource) -> WeightSource:
        """Where a product's parameters are read: of ranks' partial sums the first alone has biases."""
        is_first = projection.shard is not Shard.ROW or self._ranks.rank == 0
        return source if is_first else WithoutBiases(source)

    @property
    def keeps_numbers(self) -> bool:
        """Whether weights stay as they are stored."""
        return isinstance(self._scheme, Unquantised)

    def rms_norm(self, name: str, width: int, eps: float) -> RMSNorm:
        return RMSNorm(self.tensor(f"{name}.weight", width), eps, self.kernels)

    def offset_rms_norm(self, name: str, width: int, eps: float) -> RMSNorm:
        """A norm whose weight is stored less one (Gemma)."""
        # In float32: near 1, bfloat16 would drop most bits of what is stored.
        weight = self.tensor(f"{name}.weight", width).float() + 1.0
        return RMSNorm(weight, eps, self.kernels)

    def layer_norm(self, name: str, width: int, eps: float, *, bias: bool = True) -> LayerNorm:
        if not bias:
            return LayerNorm(self.tensor(f"{name}.weight", width), None, eps)
        # Checkpoints that were converted from TensorFlow keep its names.
        is_old = self.source.has(f"{name}.gamma")
        parts = ("gamma", "beta") if is_old else ("weight", "bias")
        weight, shift = (self.tensor(f"{name}.{part}", width) for part in parts)
        return LayerNorm(weight, shift, eps)

    def head_norm(
        self, attention: str, spec: ModelSpec, eps: float, *, is_offset: bool = False
    ) -> HeadNorm:
        """Of the prefix of its parameters, each `[head_dim]`. `is_offset`: they are stored less one."""
        channels = paired_channels(spec.head_dim, spec.rotary_width).to(self.placement.device)
        own, weights = spec.on_rank(self._ranks.size), []
        for name in ("q_norm", "k_norm"):
            weight = self.tensor(f"{attention}.{name}.weight", spec.head_dim)
            weights.append((weight.float() + 1.0 if is_offset else weight)[channels])
        return HeadNorm.of(
            *weights,
            num_query_heads=own.num_heads,
            num_kv_heads=own.num_kv_heads,
            eps=eps,
        )

    def attention(
        self,
        spec: ModelSpec,
        layer: int,
        qkv: Projection,
        output: Projection,
        *,
        head_norm: HeadNorm | None = None,
        rotary: int = 0,
        scale: float | None = None,
        softcap: float | None = None,
        slopes: Sequence[float] | None = None,
        sinks: str | None = None,
        clip: float | None = None,
    ) -> Attention:
        """Of one layer, with its window.

        Args:
            rotary: Which of the spec's tables turns queries and keys.
            scale: Multiplies the scores; None: `head_dim ** -0.5`.
            softcap: Scores become `cap * tanh(score / cap)`; None: they stay.
            slopes: ALiBi's, of each query head of the model; see `AttentionOptions`.
            sinks: Name of their parameter, `[num_heads]`.
            clip: Queries, keys and values stay within `[-clip, clip]`; None: they stay as they are.
        """
        options = AttentionOptions(
            scale=spec.head_dim**-0.5 if scale is None else scale,
            sliding_window=spec.windows[layer],
            softcap=softcap,
            slopes=None if slopes is None else self._of_heads(torch.tensor(slopes)),
            sinks=None if sinks is None else self._of_heads(self.tensor(sinks, spec.num_heads)),
        )
        own = spec.on_rank(self._ranks.size)
        heads = AttentionSpec(
            own.num_heads, own.num_kv_heads, own.head_dim, options, head_norm, rotary
        )
        product = self.linear(qkv)
        if clip is not None:
            product = Clipped(product, clip)
        return Attention(product, self.linear(output), heads)

    def _of_heads(self, values: torch.Tensor) -> torch.Tensor:
        """A number of each query head, of those that the rank has, as kernels read them."""
        own = share_of(len(values), self._ranks.rank, self._ranks.size)
        return values[own.start : own.stop].to(self.placement.device, torch.float32)

    def encoder_attention(
        self,
        spec: ModelSpec,
        layer: int,
        qkv: Projection,
        output: Projection,
        *,
        rotary: int = 0,
    ) -> EncoderAttention:
        """Of one layer, with its window in both directions. `rotary`: as in `attention`."""
        options = AttentionOptions(scale=spec.head_dim**-0.5, sliding_window=spec.windows[layer])
        return EncoderAttention(
            self.linear(qkv),
            self.linear(output),
            spec.head_dim,
            options,
            self._rotary_table(spec, spec.rotary[rotary]) if spec.rotary else None,
        )

    def _rotary_table(self, spec: ModelSpec, config: RopeConfig) -> RotaryTable:
        """One for all of an encoder's layers that turn by it; a decoder's step has them."""
        if config not in self._rotary_tables:
            self._rotary_tables[config] = RotaryTable(
                config,
                spec.head_dim,
                spec.context,
                dtype=self.placement.dtype,
                device=self.placement.device,
            )
        return self._rotary_tables[config]

    def gated_mlp(self, gate_up: Projection, down: Projection, activation: Activation) -> GatedMLP:
        gate = activation.gate(self.kernels)
        return GatedMLP(self.linear(gate_up), self.linear(down), gate, activation)

    def encoder_gated_mlp(
        self, gate_up: Projection, down: Projection, activation: PlainActivation
    ) -> EncoderGatedMLP:
        return EncoderGatedMLP(self.linear(gate_up), self.linear(down), activation)

    def plain_mlp(self, up: Projection, down: Projection, activation: PlainActivation) -> PlainMLP:
        return PlainMLP(self.linear(up), self.linear(down), activation)

    def experts(
        self,
        router: str,
        experts: Sequence[tuple[Projection, Projection]],
        activation: Activation,
        *,
        num_per_token: int,
        is_normalised: bool = True,
    ) -> FeedForward:
        """A mixture of gated blocks. Ranks share each of them, not their number: whichever a router picks,
        all ranks have the same to do. Adapters change none of them (`Projection.is_routed`).

        Args:
            router: Prefix of its parameter, `[experts, hidden]`.
            experts: Of each, gate and up, and down.
            is_normalised: A token's shares are scaled to a sum of 1.
        """
        return routed_experts(
            self,
            router,
            experts,
            activation,
            num_per_token=num_per_token,
            is_normalised=is_normalised,
        )

    def shared_expert(
        self,
        routed: FeedForward,
        gate: str,
        expert: tuple[Projection, Projection],
        activation: Activation,
    ) -> SharedExpert:
        """`routed` and a gated block that every token runs through.

        Args:
            gate: Prefix of its parameter, `[1, hidden]`.
        """
        weight = self.tensor(f"{gate}.weight", 1, expert[0].in_features)
        return SharedExpert(routed, self.gated_mlp(*expert, activation), weight)

    def pre_norm_block(
        self, attention_norm: Norm, attention: Attention, mlp_norm: Norm, mlp: FeedForward
    ) -> PreNormBlock:
        return PreNormBlock(attention_norm, attention, mlp_norm, mlp, self.kernels, self.reduce)

    def parallel_block(
        self, attention_norm: Norm, attention: Attention, mlp_norm: Norm | None, mlp: FeedForward
    ) -> ParallelBlock:
        """`mlp_norm` is None where attention's is the feed-forward block's, too."""
        return ParallelBlock(attention_norm, attention, mlp_norm, mlp, self.reduce)

    def tables(self, tables: Tables) -> tuple[Lookup, Linear | None]:
        """The look-up of token embeddings, and the head.

        A tied head whose form gives rows back is the only copy of the table: it may be rounded, and so are
        the embeddings then.
        """
        lookup, head = self._own_tables(tables)
        ranks, vocab = self._ranks, tables.embedding.width
        if ranks.size == 1:
            return lookup, head
        shared = SharedLookup(lookup, share_of(vocab, ranks.rank, ranks.size), ranks)
        if head is None:
            return shared, None
        return shared, GatheredHead(head, len(share_of(vocab, 0, ranks.size)), vocab, ranks)

    def _own_tables(self, tables: Tables) -> tuple[Lookup, Linear | None]:
        """Of the rank's tokens."""
        name, vocab = f"{tables.embedding.names[0]}.weight", tables.embedding.width
        own = share_of(vocab, self._ranks.rank, self._ranks.size)
        part = None if len(own) == vocab else Slice(0, own.start, own.stop)
        table = self._part(name, table_shape(tables.embedding), part)
        if tables.head is None:
            return compact_lookup(table), None
        if not tables.is_tied:
            own_head = self.share(tables.head)
            head = self._scheme.load_head(own_head, self.source, self.placement)
            return compact_lookup(table), head
        bias = None
        if tables.head.bias:
            bias_name = f"{tables.head.names[0]}.bias"
            if tables.tied_bias is not None and self.source.has(tables.tied_bias):
                bias_name = tables.tied_bias
            bias = self._part(bias_name, (vocab,), part)
        head = self._scheme.head(table, bias, whole_vocab=vocab)
        return head.lookup or table_lookup(table), head

    def share(self, projection: Projection) -> Projection:
        """What of it this rank has."""
        return projection.share(self._ranks.rank, self._ranks.size)

    def _part(self, name: str, shape: tuple[int, ...], part: Slice | None) -> torch.Tensor:
        (stored,) = floating_tensors(self.source, {name: shape}, part)
        return self.placement.put(stored)
