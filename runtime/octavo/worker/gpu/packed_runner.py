"""Packed runner: a rank's part of a model, its KV cache and its steps on a device, from the packed array on.

All ranks run the same one, with the same launches in the same order, because a launch may be part of a sum
over all of them. The first packs steps and samples tokens beside it (`octavo.worker.gpu.runner`); the others
follow (`octavo.worker.gpu.following`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from octavo.config import EngineConfig
from octavo.kernels.adapter_tiles import AdapterTiles, section_size
from octavo.kernels.packed_step import PackedView, Packer
from octavo.kernels.protocols.device import DeviceKernels
from octavo.kernels.step_state import SequenceState, StepBuffers, StepLayout
from octavo.layers.ranks import ALONE, Ranks
from octavo.layers.rotary import RotaryTable
from octavo.layers.triton_attention import DecodeWorkspaces, TritonAttentionStep
from octavo.models.base import CausalLM
from octavo.models.hidden_states import HiddenStates
from octavo.worker.gpu.cuda_graphs import Capture, DecodeGraphs, padded_sizes
from octavo.worker.gpu.draft_rows import most_drafts
from octavo.worker.gpu.step_outline import StepOutline
from octavo.worker.gpu.tile_buffer import TileBuffer
from octavo.worker.gpu.upload import Uploader


@dataclass(frozen=True, slots=True)
class RunnerLimits:
    """Sizes of what a runner allocates.

    Args:
        num_blocks: Of the KV cache, each `block_size` tokens.
        max_model_len: Positions that can occur.
        max_num_batched_tokens: Tokens of one step.
        max_num_seqs: Sequences of one step.
        max_drafts: Of all of them together, in one step.
        max_adapters: Different adapters of one step.
    """

    num_blocks: int
    block_size: int
    max_model_len: int
    max_num_batched_tokens: int
    max_num_seqs: int
    max_drafts: int = 0
    max_adapters: int = 0

    @classmethod
    def of(cls, config: EngineConfig, *, num_blocks: int, max_model_len: int) -> RunnerLimits:
        """What `config` asks for, with the sizes that memory decides."""
        return cls(
            num_blocks=num_blocks,
            block_size=config.block_size,
            max_model_len=max_model_len,
            max_num_batched_tokens=config.max_num_batched_tokens,
            max_num_seqs=config.max_num_seqs,
            max_drafts=most_drafts(config),
            max_adapters=config.max_loras if config.enable_lora else 0,
        )

    @property
    def max_sampled(self) -> int:
        """Rows of one step that a token is sampled for, and so the most decodes: each draft is one more."""
        return self.max_num_seqs + self.max_drafts

    @property
    def max_blocks(self) -> int:
        """Of one sequence, rounded up so that each row of a table begins at a multiple of 16 bytes."""
        return -(-self.max_model_len // (4 * self.block_size)) * 4

    @property
    def num_rows(self) -> int:
        """Of `SequenceState`. Twice the sequences of a step: those that ended are released with a later
        batch."""
        return 2 * self.max_num_seqs


@dataclass(frozen=True, slots=True)
class StepRows:
    """A step under way.

    Args:
        view: Its packed array on the device, until the next step.
        hidden: `[tokens, hidden]`: the residual stream, or where `is_normalised` the last hidden state.
        states: `[tokens, watched * hidden]`, of the layers that are watched; None where none is.
    """

    outline: StepOutline
    view: PackedView
    hidden: torch.Tensor
    is_normalised: bool
    states: torch.Tensor | None = None


class PackedRunner:
    """
    Args:
        kernels: Those of `device`; the reference runs the same path on a CPU, for tests.
        cache_dtype: The model's, or `torch.float8_e4m3fn`.
        ranks: Those that share the model, of which `model` is this one's part.
        watch: The model's hidden states that are wanted of each step.
    """

    def __init__(
        self,
        model: CausalLM,
        kernels: DeviceKernels,
        limits: RunnerLimits,
        *,
        device: torch.device,
        dtype: torch.dtype,
        cache_dtype: torch.dtype,
        ranks: Ranks = ALONE,
        watch: HiddenStates | None = None,
    ) -> None:
        spec = model.spec.on_rank(ranks.size)
        self.model = model
        self.limits = limits
        self.device = device
        self._kernels = kernels
        self._ranks = ranks
        block = (limits.block_size, 2, spec.num_kv_heads, spec.head_dim)
        # Zeroed, so that no run can depend on what the memory held before.
        self._caches = [
            torch.zeros((limits.num_blocks, *block), dtype=cache_dtype, device=device)
            for _ in range(spec.num_layers)
        ]
        self._rotary_tables = tuple(
            RotaryTable(rope, spec.head_dim, limits.max_model_len, dtype=dtype, device=device).table
            for rope in spec.rotary
        )
        self._workspaces = DecodeWorkspaces(
            kernels,
            max_seqs=limits.max_sampled,
            num_query_heads=spec.num_heads,
            num_kv_heads=spec.num_kv_heads,
            head_dim=spec.head_dim,
            dtype=dtype,
            cache_dtype=cache_dtype,
            device=device,
        )
        self._state = SequenceState.make(limits.num_rows, limits.max_blocks, device)
        max_rows = max(limits.max_num_batched_tokens, limits.max_sampled)
        self._tiles: TileBuffer | None = None
        if limits.max_adapters:
            self._tiles = TileBuffer(max_rows, limits.max_adapters, device)
        self._buffers = StepBuffers.make(
            max_tokens=max_rows,
            max_seqs=limits.max_sampled,
            max_blocks=limits.max_blocks,
            device=device,
        )
        self._hidden = torch.zeros(
            (limits.max_sampled, spec.hidden_size), dtype=dtype, device=device
        )
        self._watch = watch
        width = 0 if watch is None else watch.count * spec.hidden_size
        self._recorded_states = torch.zeros((limits.max_sampled, width), dtype=dtype, device=device)
        self._uploader = Uploader(
            4 * limits.max_num_batched_tokens + 32 * limits.max_sampled, device
        )
        self._graphs: DecodeGraphs | None = None
        self._adapted_graphs: DecodeGraphs | None = None

    @torch.inference_mode()
    def capture(self, capture: Capture) -> None:
        """Records the decode steps, all rows of them padding: nothing is read or written. Each once more with
        adapters, where there may be some: so those without launch nothing for them."""
        sizes = padded_sizes(self.limits.max_sampled)
        if self._tiles is not None:
            self._adapted_graphs = DecodeGraphs(sizes, self._decode_adapted, self._pad, capture)
        self._graphs = DecodeGraphs(sizes, self._decode, self._pad, capture)

    def graph_size(self, num_decodes: int) -> int | None:
        """Of the recorded step that so many decodes run in."""
        return None if self._graphs is None else self._graphs.size_for(num_decodes)

    def run(self, outline: StepOutline, packer: Packer) -> StepRows | None:
        """Queues the model's part of a step; None where only blocks are copied."""
        packed = self._uploader.upload(packer)
        view = PackedView(packed)
        self._copy_blocks(outline, view)
        layout = outline.layout
        if layout.num_seqs == 0:
            return None
        self._kernels.step_inputs(
            packed, layout, self._state, self._buffers, self.limits.block_size
        )
        tiles = self._tiles_of(outline, view)
        graphs = self._graphs if tiles is None else self._adapted_graphs
        if outline.graph_size and graphs is not None:
            graphs.replay(outline.graph_size)
            count = outline.num_tokens
            states = None if self._watch is None else self._recorded_states[:count]
            return StepRows(outline, view, self._hidden[:count], is_normalised=True, states=states)
        hidden = self._forward(
            outline.num_tokens, layout.num_decodes, layout.num_seqs, outline.max_query_len, tiles
        )
        states = None if self._watch is None else self._watch.take(outline.num_tokens)
        return StepRows(outline, view, hidden, is_normalised=False, states=states)

    def scored_logits(self, rows: StepRows) -> Iterator[tuple[slice, torch.Tensor]]:
        """Scores of the rows of prompts that are wanted, some at a time: all at once would be as many as a
        prompt has tokens times the vocabulary. A slice is as large as what a step samples, which the memory
        profile knows."""
        count, at_once = rows.outline.num_scored, self.limits.max_sampled
        places = rows.view.int64(rows.outline.scored_rows, count)
        for start in range(0, count, at_once):
            part = slice(start, start + at_once)
            residual = rows.hidden.index_select(0, places[part])
            yield part, self.model.logits(self.model.normalise(residual))

    def sampled_logits(self, rows: StepRows) -> tuple[torch.Tensor, torch.Tensor]:
        """Of the rows that are sampled, the last hidden state and the scores."""
        hidden, outline = rows.hidden, rows.outline
        if outline.hidden_rows >= 0:
            hidden = hidden.index_select(
                0, rows.view.int64(outline.hidden_rows, outline.num_samples)
            )
        if not rows.is_normalised:
            hidden = self.model.normalise(hidden)
        return hidden, self.model.logits(hidden)

    def keep_tokens(self, rows: StepRows, tokens: torch.Tensor) -> None:
        """For the next step, what the first rank sampled, `[samples]` int64; other ranks' `tokens` are
        overwritten."""
        self._ranks.from_first(tokens)
        state_rows = rows.view.int64(rows.outline.state_rows, rows.outline.num_samples)
        self._state.last_tokens.index_copy_(0, state_rows, tokens)

    def _tiles_of(self, outline: StepOutline, view: PackedView) -> AdapterTiles | None:
        if self._tiles is None or not outline.num_tiles:
            return None
        size = section_size(outline.num_tiles, outline.num_places)
        num_rows = outline.graph_size or outline.num_tokens
        return self._tiles.take(view.int32(outline.tiles, size), outline.num_tiles, num_rows)

    def _decode(self, size: int, tiles: AdapterTiles | None = None) -> None:
        """A step of `size` decodes between fixed buffers: what a graph records."""
        residual = self._forward(size, size, size, 1, tiles)
        self._hidden[:size].copy_(self.model.normalise(residual))
        if self._watch is not None:
            self._recorded_states[:size].copy_(self._watch.take(size))

    def _decode_adapted(self, size: int) -> None:
        """As `_decode`, of which some rows have adapters."""
        self._decode(size, None if self._tiles is None else self._tiles.recorded(size))

    def _pad(self, size: int) -> None:
        if self._tiles is not None:
            self._tiles.empty()
        nothing = torch.zeros(4, dtype=torch.int32, device=self.device)
        layout = StepLayout(0, 0, size, 0, 0, 0, 0, 0, 0)
        self._kernels.step_inputs(
            nothing, layout, self._state, self._buffers, self.limits.block_size
        )

    def _forward(
        self,
        num_tokens: int,
        num_decodes: int,
        num_seqs: int,
        max_query_len: int,
        tiles: AdapterTiles | None = None,
    ) -> torch.Tensor:
        """The residual stream after all layers, `[num_tokens, hidden]`."""
        step = TritonAttentionStep(
            self._kernels,
            self._rotary_tables,
            self._buffers,
            self._workspaces,
            num_decodes,
            num_seqs - num_decodes,
            max_query_len,
            tiles,
        )
        return self.model.forward(self._buffers.token_ids[:num_tokens], self._caches, step)

    def _copy_blocks(self, outline: StepOutline, view: PackedView) -> None:
        if not outline.num_copies:
            return
        sources, targets = view.int64(outline.copies, 2 * outline.num_copies).chunk(2)
        for cache in self._caches:
            stored = cache.view(torch.uint8)  # copies of FP8 tensors are not implemented everywhere
            stored.index_copy_(0, targets, stored.index_select(0, sources))
