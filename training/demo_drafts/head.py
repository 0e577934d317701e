"""EAGLE-3 head for a Llama, in plain PyTorch, with its training by unrolled guesses and its files.

A guess of a guess reads the head's own row in place of the model's hidden states, so training unrolls as many
guesses as serving makes (Li et al., 2025, "EAGLE-3: Scaling up Inference Acceleration of Large Language
Models via Training-Time Test"). The files are those of `speculators`.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own convention
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import (
    LlamaMLP,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
    apply_rotary_pos_emb,
)

from training.demo_drafts.answers import AnswerBatch

WATCHED = (1, 2, 3)
"""The inputs of these layers are read. The published default, 2, half and the third last, names one twice in
a model of four."""
_LATER = 0.8
"""What the next guess's loss counts for, of the one before it."""


class DemoHead(nn.Module):
    """The head of a model, which begins as the model's last layer and reads what that layer reads.

    Args:
        model: Its embedding is shared, and not trained.
    """

    def __init__(self, model: LlamaForCausalLM) -> None:
        super().__init__()
        self.config: LlamaConfig = model.config
        width, eps = self.config.hidden_size, self.config.rms_norm_eps
        self.head_dim = width // self.config.num_attention_heads
        last = model.model.layers[-1]
        self.embed = (model.model.embed_tokens,)  # in a tuple: none of its parameters
        self.rotary = (LlamaRotaryEmbedding(self.config),)
        self.fc = nn.Linear(len(WATCHED) * width, width, bias=False)
        self.input_layernorm = LlamaRMSNorm(width, eps)
        self.hidden_norm = LlamaRMSNorm(width, eps)
        self.post_attention_layernorm = LlamaRMSNorm(width, eps)
        self.q_proj, self.k_proj, self.v_proj = (
            _beside_embedding(getattr(last.self_attn, name))
            for name in ("q_proj", "k_proj", "v_proj")
        )
        self.o_proj = nn.Linear(width, width, bias=False)
        self.mlp = LlamaMLP(self.config)
        self.norm = LlamaRMSNorm(width, eps)
        self.lm_head = nn.Linear(width, self.config.vocab_size, bias=False)
        with torch.no_grad():
            nothing = torch.zeros(width, (len(WATCHED) - 1) * width)
            self.fc.weight.copy_(torch.cat([nothing, torch.eye(width)], 1))
            self.hidden_norm.weight.copy_(last.input_layernorm.weight)
            self.post_attention_layernorm.weight.copy_(last.post_attention_layernorm.weight)
            self.o_proj.weight.copy_(last.self_attn.o_proj.weight)
            self.mlp.load_state_dict(last.mlp.state_dict())
            self.norm.weight.copy_(model.model.norm.weight)
            self.lm_head.weight.copy_(model.lm_head.weight)

    def loss(self, model: LlamaForCausalLM, batch: AnswerBatch, num_guesses: int) -> Tensor:
        """Mean cross-entropy of each guess with the model's own distribution, over answers' tokens."""
        token_ids = batch.token_ids
        with torch.no_grad():
            output = model(token_ids, output_hidden_states=True)
            states = torch.cat([output.hidden_states[layer] for layer in WATCHED], -1)
            wanted = output.logits.float().softmax(-1)
        # The row at a position reads the token behind it, and guesses the one behind that.
        hidden, behind = self.fc(states[:, :-2]), self.embed[0](token_ids[:, 1:-1])
        guessed, wanted = batch.learnt[:, 2:], wanted[:, 1:-1]
        keys: list[Tensor] = []
        values: list[Tensor] = []
        total: Tensor = hidden.new_zeros(())
        for place in range(num_guesses):
            hidden = self._row(behind, hidden, keys, values)
            # A chain of guesses begins at a position of the answer, or at the last one of the prompt.
            begun = F.pad(guessed[:, : guessed.shape[1] - place], (place, 0))
            rows = begun & guessed
            scores = self.lm_head(self.norm(hidden[rows])).log_softmax(-1)
            total = total - _LATER**place * (wanted[rows] * scores).sum(-1).mean()
            hidden = F.pad(hidden[:, :-1], (0, 0, 1, 0))
        return total

    def _row(
        self, behind: Tensor, hidden: Tensor, keys: list[Tensor], values: list[Tensor]
    ) -> Tensor:
        """The stream, `[rows, tokens, width]`, of one guess everywhere; the earlier ones' keys and values are
        there, and its own are added."""
        both = torch.cat([self.input_layernorm(behind), self.hidden_norm(hidden)], -1)
        query, key, value = (
            each(both).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for each in (self.q_proj, self.k_proj, self.v_proj)
        )
        places = torch.arange(both.shape[1])[None]
        query, key = apply_rotary_pos_emb(query, key, *self.rotary[0](both, places))
        shared = query.shape[1] // key.shape[1]
        keys.append(key.repeat_interleave(shared, 1))
        values.append(value.repeat_interleave(shared, 1))
        attended = self._attend(query, keys, values)
        stream: Tensor = hidden + self.o_proj(attended.transpose(1, 2).flatten(2))
        gated: Tensor = self.mlp(self.post_attention_layernorm(stream))
        return stream + gated

    def _attend(self, query: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
        """To the model's rows up to where the chain of guesses begins, and to the chain's own."""
        place, count = len(keys) - 1, query.shape[2]
        seen = torch.ones(count, count, dtype=torch.bool).tril(-place)
        scores = [(query @ keys[0].transpose(2, 3)).masked_fill(~seen, -torch.inf)]
        chain = [
            (_back(keys[i], place - i), _back(values[i], place - i)) for i in range(1, place + 1)
        ]
        scores += [(query * key).sum(-1, keepdim=True) for key, _ in chain]
        shares = (torch.cat(scores, -1) * self.head_dim**-0.5).softmax(-1)
        attended: Tensor = shares[..., :count] @ values[0]
        for i, (_, value) in enumerate(chain):
            attended = attended + shares[..., count + i : count + i + 1] * value
        return attended

    def save(self, folder: Path) -> None:
        """config.json and weights, as `speculators` stores them."""
        folder.mkdir(parents=True, exist_ok=True)
        layer = self.config.to_dict() | {"num_hidden_layers": 1}
        names = (
            "model_type vocab_size hidden_size intermediate_size num_hidden_layers "
            "num_attention_heads num_key_value_heads head_dim max_position_embeddings rms_norm_eps "
            "rope_parameters"
        )
        raw = {
            "architectures": ["Eagle3Speculator"],
            "speculators_model_type": "eagle3",
            "speculators_config": {"algorithm": "eagle3"},
            "draft_vocab_size": self.config.vocab_size,
            "eagle_aux_hidden_state_layer_ids": list(WATCHED),
            "transformer_layer_config": {name: layer[name] for name in names.split()},
        }
        (folder / "config.json").write_text(json.dumps(raw, indent=1) + "\n")
        own = {"fc", "norm", "lm_head"}
        attention = {"q_proj", "k_proj", "v_proj", "o_proj"}
        tensors = {}
        for name, tensor in self.state_dict().items():
            part = name.partition(".")[0]
            inner = f"self_attn.{name}" if part in attention else name
            tensors[name if part in own else f"layers.0.{inner}"] = tensor.bfloat16().contiguous()
        save_file(tensors, folder / "model.safetensors")


def _beside_embedding(product: nn.Linear) -> nn.Linear:
    """The same of a hidden state, beside an embedding that adds nothing at first."""
    wider = nn.Linear(2 * product.in_features, product.out_features, bias=False)
    with torch.no_grad():
        wider.weight.copy_(torch.cat([torch.zeros_like(product.weight), product.weight], 1))
    return wider


def _back(rows: Tensor, count: int) -> Tensor:
    """Each row in the place of the one `count` behind it."""
    return F.pad(rows[:, :, : rows.shape[2] - count], (0, 0, count, 0))
