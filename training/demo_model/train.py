"""Trains `builtin://demo` from nothing: `python -m training.demo_model.train`.

Seeded and resumable: tokenizer, weights and every batch follow from the seed, and an interrupted
run goes on from its last checkpoint.
"""

import time
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own convention
import typer
from rich.console import Console
from safetensors.torch import load_model
from torch import Tensor
from torch.optim import AdamW
from transformers import LlamaForCausalLM

from training.demo_model.batches import Batch, BatchMaker
from training.demo_model.checkpoint import load_checkpoint, save_checkpoint
from training.demo_model.model import export, new_model
from training.demo_model.recipe import DEMO_RECIPE, Recipe
from training.demo_model.tokenizer import train_tokenizer

console = Console(highlight=False)


def answer_loss(model: LlamaForCausalLM, batch: Batch) -> Tensor:
    """Mean cross-entropy of the answer tokens; logits are computed for these alone."""
    hidden = model.model(input_ids=batch.input_ids[:, :-1]).last_hidden_state
    learnt = batch.loss_mask[:, 1:]
    return F.cross_entropy(model.lm_head(hidden[learnt]), batch.input_ids[:, 1:][learnt])


def new_optimizer(model: LlamaForCausalLM, recipe: Recipe) -> AdamW:
    """AdamW that decays matrices but not the gains of the norms."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    gains = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": gains, "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=recipe.learning_rate(0), betas=recipe.betas, fused=True)


def train_step(
    model: LlamaForCausalLM, optimizer: AdamW, recipe: Recipe, batch: Batch, step: int
) -> float:
    """One update; returns the loss before it."""
    for group in optimizer.param_groups:
        group["lr"] = recipe.learning_rate(step)
    optimizer.zero_grad(set_to_none=True)
    loss = answer_loss(model, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_gradient_norm)
    optimizer.step()
    return float(loss.detach())


def train(
    recipe: Recipe,
    work: Path,
    out: Path,
    checkpoint_every: int,
    before: Path | None = None,
    phases_before: int = 0,
) -> None:
    """Trains to the recipe's last step, from the checkpoint in `work` if there is one.

    Without one, `before` is a model folder that the first `phases_before` phases have made: training
    goes on from its weights, with an optimizer that has seen nothing.
    """
    work.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(recipe.seed)
    model = new_model(tokenizer, recipe.seed)
    optimizer = new_optimizer(model, recipe)
    first = load_checkpoint(work, model, optimizer)
    if not first and before is not None:
        # Not strict: the head is tied and not stored.
        load_model(model, before / "model.safetensors", strict=False)
        first = recipe.steps_of(phases_before)
    batches = BatchMaker(tokenizer, recipe.seed, recipe.tokens_per_step)
    parameters = sum(p.numel() for p in model.parameters())
    console.print(f"{parameters:,} parameters, steps {first} to {recipe.steps}, work in {work}")
    model.train()
    wall, cpu, smooth = time.monotonic(), time.process_time(), None
    for step in range(first, recipe.steps):
        loss = train_step(model, optimizer, recipe, batches.make(step, recipe.blend(step)), step)
        smooth = loss if smooth is None else 0.95 * smooth + 0.05 * loss
        done = step + 1
        if done % 50 == 0 or done == recipe.steps:
            console.print(
                f"step {done}/{recipe.steps}  loss {smooth:.4f}  "
                f"wall {time.monotonic() - wall:.0f} s  cpu {time.process_time() - cpu:.0f} s"
            )
        if done % checkpoint_every == 0 or done == recipe.steps:
            save_checkpoint(work, model, optimizer, done)
    export(model, tokenizer, out)
    size = sum(file.stat().st_size for file in out.iterdir())
    console.print(f"wrote {out}: {size / 1e6:.2f} MB")


def main(
    out: Annotated[Path, typer.Option(help="Folder for the finished model.")] = Path("out/demo"),
    work: Annotated[Path, typer.Option(help="Folder for checkpoints.")] = Path("out/demo-training"),
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 100,
    before: Annotated[
        Path | None, typer.Option(help="Model folder whose weights to go on from.")
    ] = None,
    phases_before: Annotated[int, typer.Option(min=0, help="Phases these weights have had.")] = 0,
) -> None:
    """Train the demo model. Run it again after an interruption: it goes on."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    train(DEMO_RECIPE, work, out, checkpoint_every, before, phases_before)


if __name__ == "__main__":
    typer.run(main)
