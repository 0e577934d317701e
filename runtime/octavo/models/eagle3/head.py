"""EAGLE-3 head: one decoder layer that guesses a model's tokens from its hidden states.

Its row at a position reads two things: the hidden states that the model had there between some of its layers,
fused by a product, and the embedding of the token behind it, which is known already. It guesses the token
behind that. A guess of a guess has the head's own last row in place of the model's hidden states (Li et al.,
2025, "EAGLE-3: Scaling up Inference Acceleration of Large Language Models via Training-Time Test").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from octavo.kernels.protocols.layers import Kernels
from octavo.layers.attention import Attention
from octavo.layers.linear import Linear, Lookup
from octavo.layers.mlp import FeedForward
from octavo.layers.norm import Norm
from octavo.layers.step import Step
from octavo.loading import Placement, WeightSource, WithoutPrefix
from octavo.loading.renamed import Renamed
from octavo.models.building import ModelBuilder
from octavo.models.eagle3.config import Eagle3Config
from octavo.models.families.qwen3 import Qwen3Config
from octavo.models.spec import ModelSpec
from octavo.quantization import scheme_for
from octavo.quantization.forms import table_lookup

EMBEDDING = "embed_tokens.weight"
_ROWS_AT_ONCE = 4096
_PREFIX = "model."
_LAYER = f"{_PREFIX}layers.0."
_OLDER_LAYER = "midlayer."
# What a training needs, and tables that are computed here.
_NOT_NEEDED = ("t2d", "verifier_lm_head.weight", "verifier_norm.weight")


@dataclass(frozen=True, slots=True)
class Eagle3Head:
    """
    Args:
        targets: `[draft_vocab]` int64, the model's token of each that the head scores; None: they are the
            same.
        states_norm: Of all hidden states side by side; or `each_norm`, of each by itself.
    """

    spec: ModelSpec
    embed: Lookup
    states_norm: Norm | None
    each_norm: Sequence[Norm]
    fc: Linear
    embedding_norm: Norm
    hidden_norm: Norm
    attention: Attention
    mlp_norm: Norm
    mlp: FeedForward
    norm: Norm
    lm_head: Linear
    targets: torch.Tensor | None
    norm_before_residual: bool
    norm_output: bool

    def fuse(self, states: torch.Tensor) -> torch.Tensor:
        """`[rows, hidden]` of the model's hidden states, `[rows, watched * target_hidden]`."""
        if self.states_norm is not None:
            states = self.states_norm(states)
        if self.each_norm:
            parts = states.chunk(len(self.each_norm), dim=-1)
            pairs = zip(self.each_norm, parts, strict=True)
            states = torch.cat([norm(part.contiguous()) for norm, part in pairs], dim=-1)
        return self.fc(states)

    def forward(
        self, token_ids: torch.Tensor, hidden: torch.Tensor, cache: torch.Tensor, step: Step
    ) -> torch.Tensor:
        """The residual stream behind the layer, `[rows, hidden]`.

        Args:
            token_ids: `[rows]` int64, the token behind each row's position.
            hidden: `[rows, hidden]`, fused, or what `carried` gave.
        """
        normed = self.hidden_norm(hidden)
        both = torch.cat([self.embedding_norm(self.embed(token_ids)), normed], dim=-1)
        residual = normed if self.norm_before_residual else hidden
        residual = residual + self.attention(both, cache, step)
        return residual + self.mlp(self.mlp_norm(residual), step)

    def carried(self, stream: torch.Tensor) -> torch.Tensor:
        """What a guess's own row reads in place of hidden states."""
        return self.norm(stream) if self.norm_output else stream

    def logits(self, stream: torch.Tensor) -> torch.Tensor:
        """Scores of the model's tokens, `[rows, vocab]`; -inf of those that the head cannot guess."""
        scores = self.lm_head(self.norm(stream))
        if self.targets is None:
            return scores
        every = scores.new_full((scores.shape[0], self.spec.vocab_size), -torch.inf)
        return every.index_copy_(1, self.targets, scores)


def build_eagle3(
    config: Eagle3Config,
    source: WeightSource,
    *,
    watched: Sequence[int],
    embed: Lookup,
    kernels: Kernels,
    placement: Placement,
) -> Eagle3Head:
    """Raises `ModelInvalidError` when the weights do not match config.json.

    Args:
        watched: The model's layers that are read.
        embed: The model's own table, for a head without one, or with the same.
    """
    stored = source
    if any(name.startswith(_OLDER_LAYER) for name in source.names()):
        source = Renamed(source, _LAYER.removeprefix(_PREFIX), _OLDER_LAYER)
    scheme = scheme_for(None, kernels)
    load = ModelBuilder(WithoutPrefix(source, _PREFIX), scheme, kernels, placement)
    spec, eps, width = config.spec, config.layer.norm_eps, config.spec.hidden_size
    inputs = config.fuse(len(watched))

    def norm(name: str, size: int = width) -> Norm:
        return load.rms_norm(name, size, eps)

    head_norm = None
    if isinstance(config.layer, Qwen3Config):
        head_norm = load.head_norm(f"{_LAYER}self_attn", spec, eps)
    each = range(len(watched)) if config.fc_norm else ()
    head = Eagle3Head(
        spec=spec,
        embed=_embedding(config, load, embed),
        states_norm=norm("input_norm", inputs.in_features) if config.norm_before_fc else None,
        each_norm=[norm(f"fc_norm.{i}", config.target_hidden_size) for i in each],
        fc=load.linear(inputs),
        embedding_norm=norm(f"{_LAYER}input_layernorm"),
        hidden_norm=norm(f"{_LAYER}hidden_norm"),
        attention=load.attention(spec, 0, *config.attention, head_norm=head_norm),
        mlp_norm=norm(f"{_LAYER}post_attention_layernorm"),
        mlp=load.gated_mlp(*config.mlp, config.layer.activation),
        norm=norm("norm"),
        lm_head=load.linear(config.lm_head),
        targets=_targets(config, source, placement),
        norm_before_residual=config.norm_before_residual,
        norm_output=config.norm_output,
    )
    stored.finish(lambda name: name in _NOT_NEEDED or config.layer.ignores(name))
    return head


def _embedding(config: Eagle3Config, load: ModelBuilder, shared: Lookup) -> Lookup:
    """A stored table that is the model's, as most are, is not kept twice."""
    spec = config.spec
    if not config.needs_embedding and not load.source.has(EMBEDDING):
        return shared
    table = load.tensor(EMBEDDING, spec.vocab_size, spec.hidden_size)
    if config.needs_embedding:
        return table_lookup(table)
    for first in range(0, spec.vocab_size, _ROWS_AT_ONCE):
        rows = torch.arange(first, min(first + _ROWS_AT_ONCE, spec.vocab_size), device=table.device)
        if not torch.equal(shared(rows), table[rows]):
            return table_lookup(table)
    return shared


def _targets(
    config: Eagle3Config, source: WeightSource, placement: Placement
) -> torch.Tensor | None:
    """`d2t` holds how far each token's id in the model lies behind its own."""
    size, vocab = config.draft_vocab_size, config.spec.vocab_size
    if size == vocab and not source.has("d2t"):
        return None
    (offsets,) = source.tensors({"d2t": (size,)})
    targets = torch.arange(size) + offsets.cpu().long()
    named = set(targets.tolist())
    is_known = len(named) == size and min(named) >= 0 and max(named) < vocab
    if source.has("d2t") and (offsets.is_floating_point() or not is_known):
        source.note(f"d2t does not name {size} different tokens of the {vocab}")
    return targets.to(placement.device)
