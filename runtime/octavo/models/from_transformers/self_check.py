"""Self-check of a model that runs by transformers' modules: what would be wrong is refused before it serves.

Masks are what they say. Nothing but attention carries anything from one token to another, and positions are
those that the step gives: both are seen exactly, in any number format. Then a packed step, a chunked prompt
and prompts alone give the same within what roundings do, and so does transformers' own attention.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial

import torch

from octavo.kernels.attention_plan import SequenceSpan, plan_attention
from octavo.layers.rotary import RotaryTable
from octavo.layers.torch_attention import TorchAttentionStep
from octavo.loading import Placement
from octavo.models.adapters import ModelAdapters
from octavo.models.from_transformers.adapters import OTHER_ROWS, seen_rows
from octavo.models.from_transformers.interface import RECORDED, UNMIXED, recorded_calls
from octavo.models.from_transformers.model import TransformersLM
from octavo.models.from_transformers.refusals import refuse

_LENGTHS = (11, 17)
_CHUNK = 6
_BLOCK_SIZE = 8
_MAX_BLOCKS = 3  # of a prompt
# Of the length of a row, and the share of rows that may be further off. Roundings of 16 bits grow over the
# layers, and send some tokens to other experts; what leaks from one prompt into the next reaches more rows.
_TOLERANCES = {
    torch.float32: (1e-3, 0.0),
    torch.bfloat16: (0.25, 0.25),
    torch.float16: (0.1, 0.25),
}


def check(
    model: TransformersLM, placement: Placement, adapters: ModelAdapters | None = None
) -> None:
    """Raises `ModelUnsupportedError`, or what the modules raise.

    Args:
        adapters: Are told of linear modules that are not called with a token's row in the token's place.
    """
    name = model.spec.architecture
    prompts = _prompts(model.spec.vocab_size, min(model.spec.context, max(_LENGTHS)), placement)
    _check_masks(model, prompts[0])
    adapted = frozenset() if adapters is None else adapters.modules
    in_place = _check_tokens_keep_apart(model, prompts[0], adapted)
    if adapters is not None:
        for path in adapted - in_place:
            adapters.leave_alone(path, OTHER_ROWS)
    bench = _Bench(model, placement)
    alone = [bench.run([(prompt, 0)]) for prompt in prompts]
    differ = partial(_differ, dtype=placement.dtype)
    packed = bench.run([(prompt, 0) for prompt in prompts])
    if differ(packed, torch.cat(alone)):
        refuse(name, "prompts that run in one step come out otherwise than alone")
    chunks = [bench.run([(prompts[-1][:_CHUNK], 0)]), bench.run([(prompts[-1][_CHUNK:], _CHUNK)])]
    if differ(torch.cat(chunks), alone[-1]):
        refuse(name, "a prompt that runs in two steps comes out otherwise than in one")
    for prompt, hidden in zip(prompts, alone, strict=True):
        if differ(model.logits(hidden), _expected_scores(model, prompt)):
            refuse(name, "its scores are others than with transformers' own attention")
    bench.run_at(model.spec.context - 1, prompts[0][:1])


def _prompts(vocab: int, longest: int, placement: Placement) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    lengths = (min(length, longest) for length in _LENGTHS)
    return [
        torch.randint(vocab, (length,), generator=generator).to(placement.device)
        for length in lengths
    ]


def _check_masks(model: TransformersLM, prompt: torch.Tensor) -> None:
    positions = torch.arange(len(prompt), device=prompt.device)[None] + model.position_offset
    with model.attending(RECORDED) as module, recorded_calls() as calls:
        module(input_ids=prompt[None], position_ids=positions, use_cache=False)
    for layer, call in enumerate(calls):
        if call.mask is None or not call.mask.is_as_said():
            refuse(
                model.spec.architecture,
                f"the mask of layer {layer} is another than that of causal attention"
                + (f" within {call.mask.window} tokens" if call.mask and call.mask.window else ""),
            )


def _check_tokens_keep_apart(
    model: TransformersLM, prompt: torch.Tensor, adapted: Collection[str]
) -> set[str]:
    """By a NaN in one token's embedding, which reaches whatever is computed from it, and by other positions,
    which must change what comes out. Returns the paths of `adapted` that it reaches in its place alone."""
    name, poisoned = model.spec.architecture, len(prompt) // 2

    def poison(_: object, __: object, output: torch.Tensor) -> torch.Tensor:
        output = output.clone()
        output[0, poisoned] = torch.nan
        return output

    def hidden(positions: torch.Tensor) -> torch.Tensor:
        at = (positions + model.position_offset).to(prompt.device)
        found: torch.Tensor = model.base(
            input_ids=prompt[None], position_ids=at[None], use_cache=False
        )[0][0]
        return found

    order = torch.arange(len(prompt))
    with model.attending(UNMIXED) as module:
        plain, moved = hidden(order), hidden(order.flip(0))
        hook = module.get_input_embeddings().register_forward_hook(poison)
        with seen_rows(module, adapted, poisoned, len(prompt)) as in_place:
            is_reached = hidden(order).isnan().any(dim=-1)
        hook.remove()
    if int(is_reached.sum()) != 1 or not is_reached[poisoned]:
        refuse(name, "tokens reach others beside attention (a convolution, a recurrence)")
    if torch.equal(plain, moved):
        refuse(name, "positions that it is given change nothing: it counts tokens itself")
    return in_place


def _expected_scores(model: TransformersLM, prompt: torch.Tensor) -> torch.Tensor:
    """With transformers' own attention, spelt out, and everything else as it is."""
    positions = torch.arange(len(prompt), device=prompt.device)[None] + model.position_offset
    with model.attending("eager") as module:
        scores: torch.Tensor = module(
            input_ids=prompt[None], position_ids=positions, use_cache=False
        ).logits[0]
    return scores


def _differ(ours: torch.Tensor, theirs: torch.Tensor, dtype: torch.dtype) -> bool:
    tolerance, share = _TOLERANCES[dtype]
    error = (ours.float() - theirs.float()).norm(dim=-1)
    strays = ~(error <= tolerance * theirs.float().norm(dim=-1))  # NaN does, too
    return float(strays.float().mean()) > share


class _Bench:
    """Runs prompts over a cache of their own: prompt i has the i-th blocks."""

    def __init__(self, model: TransformersLM, placement: Placement) -> None:
        spec = model.own_spec
        shape = (_MAX_BLOCKS * len(_LENGTHS), _BLOCK_SIZE, 2, spec.num_kv_heads, spec.head_dim)
        self._model = model
        self._placement = placement
        self._caches = [placement.empty(*shape).zero_() for _ in range(spec.num_layers)]
        self._workspace = placement.empty(*shape)
        (rope,) = spec.rotary
        self._rotary = RotaryTable(
            rope, spec.head_dim, 1, dtype=placement.dtype, device=placement.device
        )

    def run(self, parts: Sequence[tuple[torch.Tensor, int]]) -> torch.Tensor:
        """Hidden states of tokens, each part from its position on."""
        positions = [torch.arange(start, start + len(tokens)) for tokens, start in parts]
        return self._forward(parts, torch.cat(positions))

    def run_at(self, position: int, token: torch.Tensor) -> None:
        """That position has a place in the model's table; on a GPU a lack would end the process."""
        if self._placement.device.type == "cpu":
            self._forward([(token, 0)], torch.tensor([position]))

    def _forward(
        self, parts: Sequence[tuple[torch.Tensor, int]], positions: torch.Tensor
    ) -> torch.Tensor:
        device = self._placement.device
        spans, slots = [], []
        for index, (tokens, start) in enumerate(parts):
            blocks = list(range(index * _MAX_BLOCKS, (index + 1) * _MAX_BLOCKS))
            spans.append(SequenceSpan(len(tokens), start + len(tokens), blocks))
            first = blocks[0] * _BLOCK_SIZE + start
            slots.append(torch.arange(first, first + len(tokens)))
        plan = plan_attention(
            spans,
            torch.cat(slots).to(device),
            block_size=_BLOCK_SIZE,
            dtype=self._placement.dtype,
            device=device,
            windows=sorted({window for window in self._model.spec.windows if window is not None}),
        )
        rows = torch.zeros(len(positions), dtype=torch.int64, device=device)
        step = TorchAttentionStep(
            plan,
            positions.to(device),
            ((self._rotary, *self._rotary.at(rows)),),
            self._workspace,
        )
        tokens = torch.cat([tokens for tokens, _ in parts])
        return self._model.forward(tokens, self._caches, step)
