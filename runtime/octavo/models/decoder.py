"""The pre-norm transformer decoder that the supported families share."""

from __future__ import annotations

import re

import torch

from octavo.config import Quantization
from octavo.kernels.protocols.layers import Kernels
from octavo.layers.attention import AttentionStep
from octavo.layers.embedding import Embedding, make_head, table_embedding, tie
from octavo.layers.linear import Linear
from octavo.loading import WeightSource
from octavo.models.config import DecoderConfig
from octavo.models.decoder_layer import load_layer, load_norm

# Old checkpoints carry rotary tables as tensors; ours are computed.
_IGNORED = re.compile(r".*\.rotary_emb\.(inv_freq|cos_cached|sin_cached)")


class Decoder:
    """A causal language model. Built from a `WeightSource`; raises `ModelInvalidError` on a mismatch.

    Args:
        quantization: What the weights of products are rounded to, layer by layer as they are read (CPU).
    """

    def __init__(
        self,
        config: DecoderConfig,
        source: WeightSource,
        kernels: Kernels,
        quantization: Quantization | None = None,
    ) -> None:
        self.config = config
        self._embedding, self._head = self._load_tables(source, quantization)
        self._layers = [
            load_layer(config, source, index, kernels, quantization)
            for index in range(config.num_layers)
        ]
        self._norm = load_norm(config, source, "model.norm", kernels)
        source.finish(self._is_ignored)

    def _load_tables(
        self, source: WeightSource, quantization: Quantization | None
    ) -> tuple[Embedding, Linear]:
        shape = (self.config.vocab_size, self.config.hidden_size)
        table = source.take("model.embed_tokens.weight", shape)
        # Rounded as the activations are, which is what the models were trained with.
        self._embedding_scale = torch.tensor(self.config.embedding_scale, dtype=table.dtype).item()
        if self.config.tie_word_embeddings:
            return tie(table, quantization)
        head = make_head(source.take("lm_head.weight", shape), quantization)
        return table_embedding(table), head

    def forward(
        self, token_ids: torch.Tensor, caches: list[torch.Tensor], step: AttentionStep
    ) -> torch.Tensor:
        """The residual stream after all layers.

        Args:
            token_ids: `[tokens]` int64.
            caches: KV cache of each layer; see `octavo.kernels.paged_attention`.

        Returns `[tokens, hidden]`, to be given to `normalise`.
        """
        residual = self._embedding(token_ids)
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
