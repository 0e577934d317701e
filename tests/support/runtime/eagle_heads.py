"""EAGLE-3 heads by transformers' own layers: the oracle, and what writes checkpoints of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from transformers import LlamaConfig, Qwen3Config
from transformers.models.llama.modeling_llama import (
    LlamaDecoderLayer,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
)
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer

_LAYERS: dict[str, tuple[Any, Any]] = {
    "llama": (LlamaConfig, LlamaDecoderLayer),
    "qwen3": (Qwen3Config, Qwen3DecoderLayer),
}
_SIZES = {
    "vocab_size": 261,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
}


class ReferenceHead(torch.nn.Module):
    """The paper's head, over one whole sequence. Its parameters are called as `speculators` calls them.

    Args:
        flags: Of config.json, such as `norm_before_residual`.
    """

    layers: Any
    embed_tokens: Any
    fc: Any
    fc_norm: Any
    input_norm: Any
    norm: Any
    lm_head: Any
    d2t: torch.Tensor
    t2d: torch.Tensor

    def __init__(
        self,
        kind: str = "llama",
        *,
        num_watched: int = 3,
        draft_vocab_size: int | None = None,
        flags: tuple[str, ...] = (),
        **sizes: Any,
    ) -> None:
        super().__init__()
        make, layer = _LAYERS[kind]
        self.config = config = make(**{**_SIZES, **sizes})
        config._attn_implementation = "eager"
        self.flags = flags
        width, vocab, eps = config.hidden_size, config.vocab_size, config.rms_norm_eps
        size = draft_vocab_size or vocab
        self.embed_tokens = torch.nn.Embedding(vocab, width)
        self.fc = torch.nn.Linear(num_watched * width, width, bias=False)
        self.layers = torch.nn.ModuleList([layer(config, 0)])
        self.layers[0].hidden_norm = LlamaRMSNorm(width, eps)
        for name in ("q_proj", "k_proj", "v_proj"):
            old = getattr(self.layers[0].self_attn, name)
            new = torch.nn.Linear(2 * width, old.out_features, bias=config.attention_bias)
            setattr(self.layers[0].self_attn, name, new)
        self.norm = LlamaRMSNorm(width, eps)
        self.lm_head = torch.nn.Linear(width, size, bias=False)
        if "norm_before_fc" in flags:
            self.input_norm = LlamaRMSNorm(num_watched * width, eps)
        if "fc_norm" in flags:
            norms = [LlamaRMSNorm(width, eps) for _ in range(num_watched)]
            self.fc_norm = torch.nn.ModuleList(norms)
        for name, parameter in self.named_parameters():
            with torch.no_grad():
                parameter.normal_(1.0 if "norm" in name else 0.0, 0.1 if "norm" in name else 0.2)
        targets = torch.randperm(vocab)[:size].sort().values
        self.register_buffer("d2t", targets - torch.arange(size))
        self.register_buffer(
            "t2d", torch.zeros(vocab, dtype=torch.bool).index_fill(0, targets, True)
        )
        self.rotary = (LlamaRotaryEmbedding(config),)  # in a tuple: no tensor of it is stored

    def fuse(self, states: list[torch.Tensor]) -> Any:
        if "fc_norm" in self.flags:
            states = [norm(one) for norm, one in zip(self.fc_norm, states, strict=True)]
        both = torch.cat(states, -1)
        return self.fc(self.input_norm(both) if "norm_before_fc" in self.flags else both)

    def forward(self, token_ids: torch.Tensor, hidden: torch.Tensor) -> Any:
        """The stream, `[tokens, hidden]`, of a whole sequence's tokens and fused hidden states."""
        layer, count = self.layers[0], len(token_ids)
        normed = layer.hidden_norm(hidden)
        both = torch.cat([layer.input_layernorm(self.embed_tokens(token_ids)), normed], -1)[None]
        mask = torch.full((count, count), -torch.inf).triu(1)[None, None]
        attended, _ = layer.self_attn(
            hidden_states=both,
            position_embeddings=self.rotary[0](both, torch.arange(count)[None]),
            attention_mask=mask,
        )
        stream = (normed if "norm_before_residual" in self.flags else hidden) + attended[0]
        return stream + layer.mlp(layer.post_attention_layernorm(stream))

    def carried(self, stream: torch.Tensor) -> Any:
        return self.norm(stream) if "norm_output" in self.flags else stream

    def scores(self, stream: torch.Tensor) -> torch.Tensor:
        """Of the model's whole vocabulary."""
        own = self.lm_head(self.norm(stream))
        every = torch.full((len(stream), self.config.vocab_size), -torch.inf)
        return every.index_copy(1, torch.arange(own.shape[1]) + self.d2t, own)

    def save(self, folder: Path, *, drop: tuple[str, ...] = (), **changes: Any) -> Path:
        """As `speculators` does; `changes` are fields of config.json in place of its own."""
        layer = {
            name: value
            for name, value in self.config.to_dict().items()
            if name in _SIZES or name in ("rms_norm_eps", "attention_bias", "rope_parameters")
        }
        raw = {
            "architectures": ["Eagle3Speculator"],
            "auto_map": {"": "eagle3.Eagle3SpeculatorConfig"},
            "draft_vocab_size": self.lm_head.out_features,
            "speculators_model_type": "eagle3",
            "speculators_version": "0.9.0",
            "speculators_config": {
                "algorithm": "eagle3",
                "default_proposal_method": "greedy",
                "proposal_methods": [
                    {
                        "proposal_type": "greedy",
                        "speculative_tokens": 3,
                        "verifier_accept_k": 1,
                        "accept_tolerance": 0.0,
                    }
                ],
                "verifier": {"name_or_path": "org/model", "architectures": ["LlamaForCausalLM"]},
            },
            "transformer_layer_config": {**layer, "model_type": self.config.model_type},
            "torch_dtype": "float32",
            **dict.fromkeys(self.flags, True),
            **changes,
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(raw))
        tensors = {name: one for name, one in self.state_dict().items() if name not in drop}
        safetensors.torch.save_file(tensors, folder / "model.safetensors")
        return folder


def copying_head(model: Any, **options: Any) -> ReferenceHead:
    """A head that is right about a model whose layers add nothing (see `without_layers`), though it reads all
    that it should: its attention looks at its own position alone, and puts the embedding of the token there
    in the place of the hidden state, whatever that was."""
    width = model.config.hidden_size
    head = ReferenceHead(
        num_watched=2, num_attention_heads=4, num_key_value_heads=4, attention_bias=True, **options
    )
    attention = head.layers[0].self_attn
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            parameter.fill_(1.0 if "norm" in name else 0.0)
        head.embed_tokens.weight.copy_(model.model.embed_tokens.weight)
        head.lm_head.weight.copy_(
            model.lm_head.weight[torch.arange(head.lm_head.out_features) + head.d2t]
        )
        head.fc.weight.copy_(torch.cat([torch.eye(width) / 4, torch.eye(width) * 3 / 4], 1))
        for product in (attention.q_proj, attention.k_proj):
            product.bias.fill_(20.0)  # turned by one position it is far less
        attention.v_proj.weight.copy_(torch.cat([torch.eye(width), -torch.eye(width)], 1))
        attention.o_proj.weight.copy_(torch.eye(width))
    return head


def without_layers(model: Any) -> None:
    """What the model says of a token depends on nothing else, and all its hidden states are embeddings of
    length `sqrt(hidden)`, which no norm changes."""
    with torch.no_grad():
        table = model.model.embed_tokens.weight
        table.copy_(torch.nn.functional.normalize(table, dim=-1) * table.shape[1] ** 0.5)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
