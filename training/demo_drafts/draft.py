"""Draft model for the demo model: one narrow layer with its vocabulary, distilled from it."""

import shutil
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from training.demo_drafts.answers import AnswerBatch


def new_draft(model: LlamaForCausalLM, seed: int) -> LlamaForCausalLM:
    """A float32 model of a seventh of the demo model's parameters, with weights drawn from `seed`."""
    torch.manual_seed(seed)
    changes = {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
    }
    return LlamaForCausalLM(LlamaConfig(**model.config.to_dict() | changes)).float()


def distillation_loss(
    draft: LlamaForCausalLM, model: LlamaForCausalLM, batch: AnswerBatch
) -> Tensor:
    """Mean cross-entropy with the model's own distribution, over answers' tokens."""
    token_ids, learnt = batch.token_ids[:, :-1], batch.learnt[:, 1:]
    with torch.no_grad():
        wanted = model(token_ids).logits[learnt].float().softmax(-1)
    hidden = draft.model(input_ids=token_ids).last_hidden_state[learnt]
    loss: Tensor = -(wanted * draft.lm_head(hidden).log_softmax(-1)).sum(-1).mean()
    return loss


def save_draft(draft: LlamaForCausalLM, tokenizer_of: Path, folder: Path) -> None:
    """A folder as the demo model's, in bfloat16, with the same tokenizer."""
    draft.to(torch.bfloat16).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer_of / name, folder / name)
