"""Shape of the demo model and its files.

Every dimension is a multiple of 128, so that grouped quantisation and tensor parallelism over up to
four ranks can be shown on it. The file stays below 5 MB.
"""

import json
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from training.demo_model.tokenizer import END, PAD

CONTEXT_TOKENS = 2048
# Where a request names none. At 1 it calls a tool that nobody offered once in twenty answers.
_TEMPERATURE = 0.2


def model_config(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """About two million parameters, tied embeddings, grouped-query attention."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT_TOKENS,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(END),
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
    )


def new_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A float32 model with weights drawn from `seed`."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(model_config(tokenizer)).float()


def export(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes the folder that `builtin://demo` is: bf16 weights, configs, tokenizer, template."""
    folder.mkdir(parents=True, exist_ok=True)
    shipped = LlamaForCausalLM(model_config(tokenizer))
    shipped.load_state_dict(model.state_dict())
    shipped.to(torch.bfloat16)
    shipped.tie_weights()
    shipped.config.dtype = torch.bfloat16
    shipped.generation_config = GenerationConfig(
        do_sample=True,
        temperature=_TEMPERATURE,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    )
    shipped.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _name_common_tokenizer_class(folder / "tokenizer_config.json")
    for file in folder.iterdir():
        file.chmod(0o644)  # the weights are written for their owner alone; pods run as anyone


def _name_common_tokenizer_class(path: Path) -> None:
    """Names the class that every release of transformers knows, not only the newest."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
