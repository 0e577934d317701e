"""Training checkpoints as safetensors, so that an interrupted training goes on where it stopped.

One file holds weights and AdamW's moments; the step and the loss stand in its metadata. No pickle.
"""

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.optim import AdamW
from transformers import LlamaForCausalLM

CHECKPOINT_FILE = "checkpoint.safetensors"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def save_checkpoint(folder: Path, model: LlamaForCausalLM, optimizer: AdamW, step: int) -> None:
    """Writes the state after `step` steps; the old checkpoint stays until the new one is whole."""
    tensors = {}
    for name, parameter in model.named_parameters():
        tensors[f"model.{name}"] = parameter.detach()
        for moment in _MOMENTS:
            tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment]
    partial = folder / f"{CHECKPOINT_FILE}.partial"
    save_file(tensors, partial, metadata={"step": str(step)})
    partial.replace(folder / CHECKPOINT_FILE)


def load_checkpoint(folder: Path, model: LlamaForCausalLM, optimizer: AdamW) -> int:
    """Restores model and optimizer in place; returns the number of steps done, 0 without one."""
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return 0
    with safe_open(path, framework="pt") as file, torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(file.get_tensor(f"model.{name}"))
            optimizer.state[parameter] = {
                moment: file.get_tensor(f"{moment}.{name}") for moment in _MOMENTS
            }
        return int(file.metadata()["step"])
