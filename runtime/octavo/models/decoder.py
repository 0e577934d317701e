"""The pre-norm transformer decoder that the supported families share."""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F  # noqa: N812 (its established name)

from octavo.kernels.attention_options import AttentionOptions
from octavo.kernels.interface import Kernels
from octavo.layers.attention import Attention, AttentionSpec, AttentionStep
from octavo.layers.linear import Linear, load_linear, make_linear
from octavo.layers.mlp import GatedMLP
from octavo.layers.norm import HeadNorm, RMSNorm
from octavo.loading import WeightSource
from octavo.models.config import DecoderConfig

# Old checkpoints carry rotary tables as tensors; ours are computed.
_IGNORED = re.compile(r".*\.rotary_emb\.(inv_freq|cos_cached|sin_cached)")


class DecoderLayer:
    """Attention and feed-forward, each on a normalised copy of the residual stream."""

    __slots__ = ("_attention", "_attention_norm", "_mlp", "_mlp_norm")

    def __init__(
        self, attention_norm: RMSNorm, attention: Attention, mlp_norm: RMSNorm, mlp: GatedMLP
    ) -> None:
        self._attention_norm = attention_norm
        self._attention = attention
        self._mlp_norm = mlp_norm
        self._mlp = mlp

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
        norm = self._attention_norm
        hidden = norm(residual) if delta is None else norm.add(residual, delta)
        attended = self._attention(hidden, cache, step)
        return self._mlp(self._mlp_norm.add(residual, attended))


class Decoder:
    """A causal language model. Built from a `WeightSource`; raises `ModelInvalidError` on a mismatch."""

    def __init__(self, config: DecoderConfig, source: WeightSource, kernels: Kernels) -> None:
        self.config = config
        table = (config.vocab_size, config.hidden_size)
        self._embedding = source.take("model.embed_tokens.weight", table)
        self._layers = [_load_layer(config, source, i, kernels) for i in range(config.num_layers)]
        self._norm = RMSNorm.load(
            source, "model.norm", config.hidden_size, config.rms_norm_eps, kernels
        )
        self._head: Linear
        if config.tie_word_embeddings:
            self._head = make_linear(self._embedding)
        else:
            self._head = make_linear(source.take("lm_head.weight", table))
        source.finish(self._is_ignored)

    def forward(
        self, token_ids: torch.Tensor, caches: list[torch.Tensor], step: AttentionStep
    ) -> torch.Tensor:
        """The residual stream after all layers.

        Args:
            token_ids: `[tokens]` int64.
            caches: KV cache of each layer; see `octavo.kernels.paged_attention`.

        Returns `[tokens, hidden]`, to be given to `normalise`.
        """
        residual = F.embedding(token_ids, self._embedding)
        delta: torch.Tensor | None = None
        for layer, cache in zip(self._layers, caches, strict=True):
            delta = layer(residual, delta, cache, step)
        return residual if delta is None else residual.add_(delta)

    def normalise(self, residual: torch.Tensor) -> torch.Tensor:
        """The last hidden state, `[rows, hidden]`, of rows of the residual stream."""
        return self._norm(residual)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Scores of the next token, `[rows, vocab]`, for rows of the last hidden state."""
        return self._head(hidden)

    def _is_ignored(self, name: str) -> bool:
        is_tied_copy = name == "lm_head.weight" and self.config.tie_word_embeddings
        return is_tied_copy or _IGNORED.fullmatch(name) is not None


def _load_layer(
    config: DecoderConfig, source: WeightSource, index: int, kernels: Kernels
) -> DecoderLayer:
    prefix = f"model.layers.{index}"
    hidden, eps = config.hidden_size, config.rms_norm_eps
    return DecoderLayer(
        RMSNorm.load(source, f"{prefix}.input_layernorm", hidden, eps, kernels),
        _load_attention(config, source, f"{prefix}.self_attn"),
        RMSNorm.load(source, f"{prefix}.post_attention_layernorm", hidden, eps, kernels),
        _load_mlp(config, source, f"{prefix}.mlp", kernels),
    )


def _load_attention(config: DecoderConfig, source: WeightSource, prefix: str) -> Attention:
    query_width = config.num_heads * config.head_dim
    kv_width = config.num_kv_heads * config.head_dim
    qkv = load_linear(
        source,
        [f"{prefix}.q_proj", f"{prefix}.k_proj", f"{prefix}.v_proj"],
        in_features=config.hidden_size,
        out_features=[query_width, kv_width, kv_width],
        bias=config.qkv_bias,
    )
    output = load_linear(
        source,
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
        options=AttentionOptions(scale=config.head_dim**-0.5),
        head_norm=head_norm,
    )
    return Attention(qkv, output, spec)


def _load_mlp(
    config: DecoderConfig, source: WeightSource, prefix: str, kernels: Kernels
) -> GatedMLP:
    width = config.intermediate_size
    gate_up = load_linear(
        source,
        [f"{prefix}.gate_proj", f"{prefix}.up_proj"],
        in_features=config.hidden_size,
        out_features=[width, width],
        bias=config.mlp_bias,
    )
    down = load_linear(
        source,
        [f"{prefix}.down_proj"],
        in_features=width,
        out_features=[config.hidden_size],
        bias=config.mlp_bias,
    )
    return GatedMLP(gate_up, down, kernels.silu_and_mul)
