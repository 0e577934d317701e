"""Step limits. What one step may hold, and how much of it is left for drafts."""

from __future__ import annotations

from dataclasses import dataclass

from octavo.config import EngineConfig
from octavo.engine.kv.block_manager import BlockManager
from octavo.engine.requests.sequence import Sequence
from octavo.worker.batch import ExecutorInfo


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """The limits of one step and the use of the prefix cache; see `EngineConfig` and `ExecutorInfo`.

    With `runs_whole_prompts` no prompt may be longer than `max_num_batched_tokens`. Sequences of
    `max_adapters` adapters run at once, beside those of the base model. A tenant's backlog has
    `short_step_tokens` of prompts in a step, while another tenant may come and wait for the step's end.
    `chunk_tokens_per_decode`: see `chunk_budget`; None: chunks are as long as the step.
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    enable_prefix_caching: bool = True
    sliding_window: int | None = None
    runs_whole_prompts: bool = False
    max_adapters: int = 1
    short_step_tokens: int = 512
    chunk_tokens_per_decode: int | None = None

    @classmethod
    def of(cls, config: EngineConfig, info: ExecutorInfo, max_model_len: int) -> SchedulerConfig:
        """What the configuration and the executor make of them.

        Args:
            max_model_len: The longest sequence that finds room.
        """
        most_tokens = config.max_num_batched_tokens
        if info.runs_whole_prompts:
            most_tokens = max(most_tokens, max_model_len)
        return cls(
            max_num_seqs=config.max_num_seqs,
            max_num_batched_tokens=most_tokens,
            enable_prefix_caching=config.enable_prefix_caching and not info.runs_whole_prompts,
            sliding_window=info.sliding_window,
            runs_whole_prompts=info.runs_whole_prompts,
            max_adapters=config.max_loras,
            short_step_tokens=info.short_step_tokens,
            chunk_tokens_per_decode=info.chunk_tokens_per_decode,
        )

    def chunk_budget(self, num_decodes: int) -> int:
        """Tokens that prompts may have in a step beside so many decodes; those that are shorter run whole.

        A decode waits for all of its step, and a prompt for the decodes in each of its steps. In proportion,
        decodes take the same small share of a long prompt's time whatever their number, and wait for no more
        than that share asks for: the stall-free batches of Sarathi-Serve (Agrawal et al. 2024) without a
        limit that someone has to choose. A burst of short prompts is not drawn out: who begins together ends
        together, and a step of few decodes costs more for each of them.
        """
        per_decode = self.chunk_tokens_per_decode
        if not num_decodes or per_decode is None or self.runs_whole_prompts:
            return self.max_num_batched_tokens
        # What a step costs beside its tokens would count in shorter ones, of small models above all.
        wanted = max(2 * self.short_step_tokens, per_decode * num_decodes)
        return min(wanted, self.max_num_batched_tokens)


def room_for_drafts(
    sequence: Sequence, blocks: BlockManager, budget: int, decodes_ahead: int
) -> int:
    """Drafts that a decode may have beside what the decodes behind it need: a token each, and perhaps a
    block.

    Args:
        budget: Tokens that the step may still take, this decode's among them.
        decodes_ahead: Decodes that come behind it in the step.
    """
    following = sequence.num_scheduled_tokens + 1
    spare_blocks = max(blocks.num_free_blocks - decodes_ahead, 0)
    num_slots = (len(sequence.block_table) + spare_blocks) * blocks.block_size
    limits = (
        budget - decodes_ahead - 1,
        sequence.max_fed_tokens - following,
        num_slots - following,
    )
    return max(min(limits), 0)
