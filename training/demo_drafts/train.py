"""Trains what guesses for `builtin://demo`: `python -m training.demo_drafts.train`.

The demo model answers questions of its own kind first; from these answers a draft model and an EAGLE-3 head
learn. Seeded; minutes on one core.
"""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from torch import Tensor, nn
from torch.optim import AdamW
from transformers import AutoTokenizer, LlamaForCausalLM

from training.demo_drafts.answers import AnswerBatch, batches, draw_prompts, own_answers
from training.demo_drafts.draft import distillation_loss, new_draft, save_draft
from training.demo_drafts.head import DemoHead
from training.demo_model.evaluate import SHIPPED_MODEL

_SEED = 11
_NUM_GUESSES = 4
_WARMUP_STEPS = 20
console = Console(highlight=False)


def train(
    name: str,
    parameters: list[nn.Parameter],
    loss_of: Callable[[AnswerBatch], Tensor],
    data: Iterator[AnswerBatch],
    steps: int,
    peak_learning_rate: float,
) -> None:
    """AdamW over `steps` batches: linear warm-up, then a cosine to nothing."""
    optimizer = AdamW(parameters, lr=0.0, betas=(0.9, 0.98), weight_decay=0.01)
    used, smooth = time.process_time(), 0.0
    for step, batch in enumerate(data):
        progress = max(0, step - _WARMUP_STEPS) / max(1, steps - _WARMUP_STEPS)
        rate = min(1.0, (step + 1) / _WARMUP_STEPS) * (1 + math.cos(math.pi * progress)) / 2
        for group in optimizer.param_groups:
            group["lr"] = peak_learning_rate * rate
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        smooth = float(loss.detach()) if not step else 0.95 * smooth + 0.05 * float(loss.detach())
        if (step + 1) % 50 == 0 or step + 1 == steps:
            spent = time.process_time() - used
            console.print(f"{name}: step {step + 1}/{steps}  loss {smooth:.3f}  cpu {spent:.0f} s")


def main(
    out: Annotated[Path, typer.Option(help="Folder for both.")] = Path("out/demo-drafts"),
    answers: Annotated[int, typer.Option(min=1, help="Of the demo model, to learn from.")] = 3000,
    draft_steps: Annotated[int, typer.Option(min=0, help="0: no draft model.")] = 1200,
    head_steps: Annotated[int, typer.Option(min=0, help="0: no head.")] = 400,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Train a draft model and an EAGLE-3 head for the demo model."""
    torch.set_num_threads(threads)
    used = time.process_time()
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED_MODEL)
    learnt = own_answers(draw_prompts(tokenizer, "train", answers))
    torch.set_num_threads(threads)  # the engine has set its own
    spent = time.process_time() - used
    console.print(f"{sum(len(one.token_ids) for one in learnt):,} tokens, cpu {spent:.0f} s")
    model = LlamaForCausalLM.from_pretrained(SHIPPED_MODEL, dtype=torch.float32).eval()
    model.requires_grad_(requires_grad=False)
    if draft_steps:
        draft = new_draft(model, _SEED)
        data = batches(learnt, _SEED, 4096, draft_steps)
        parameters = list(draft.parameters())
        train(
            "draft",
            parameters,
            lambda batch: distillation_loss(draft, model, batch),
            data,
            draft_steps,
            4e-3,
        )
        save_draft(draft, SHIPPED_MODEL, out / "draft")
    if head_steps:
        head = DemoHead(model)
        data = batches(learnt, _SEED, 2048, head_steps)
        parameters = list(head.parameters())
        train(
            "head",
            parameters,
            lambda batch: head.loss(model, batch, _NUM_GUESSES),
            data,
            head_steps,
            1e-3,
        )
        head.save(out / "head")


if __name__ == "__main__":
    typer.run(main)
