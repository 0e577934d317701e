"""The pre-norm transformer decoder that the supported families share."""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F  # noqa: N812 (its established name)

from octavo.kernels.interface import Kernels
from octavo.layers.attention import AttentionStep
from octavo.layers.linear import Linear, make_linear
from octavo.loading import WeightSource
from octavo.models.config import DecoderConfig
from octavo.models.decoder_layer import load_layer, load_norm

# Old checkpoints carry rotary tables as tensors; ours are computed.
_IGNORED = re.compile(r".*\.rotary_emb\.(inv_freq|cos_cached|sin_cached)")


class Decoder:
    """A causal language model. Built from a `WeightSource`; raises `ModelInvalidError` on a mismatch."""

    def __init__(self, config: DecoderConfig, source: WeightSource, kernels: Kernels) -> None:
        self.config = config
        table = (config.vocab_size, config.hidden_size)
        self._embedding = source.take("model.embed_tokens.weight", table)
        # Rounded as the activations are, which is what the models were trained with.
        self._embedding_scale = torch.tensor(
            config.embedding_scale, dtype=self._embedding.dtype
        ).item()
        self._layers = [load_layer(config, source, i, kernels) for i in range(config.num_layers)]
        self._norm = load_norm(config, source, "model.norm", kernels)
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
        if self._embedding_scale != 1.0:
            residual.mul_(self._embedding_scale)
        delta: torch.Tensor | None = None
        for layer, cache in zip(self._layers, caches, strict=True):
            delta = layer(residual, delta, cache, step)
        return residual if delta is None else residual.add_(delta)

    def normalise(self, residual: torch.Tensor) -> torch.Tensor:
        """The last hidden state, `[rows, hidden]`, of rows of the residual stream."""
        return self._norm(residual)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Scores of the next token, `[rows, vocab]`, for rows of the last hidden state."""
        logits = self._head(hidden)
        cap = self.config.logits_softcap
        return logits if cap is None else logits.div_(cap).tanh_().mul_(cap)

    def _is_ignored(self, name: str) -> bool:
        is_tied_copy = name == "lm_head.weight" and self.config.tie_word_embeddings
        return is_tied_copy or _IGNORED.fullmatch(name) is not None
