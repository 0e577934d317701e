"""An executor without a model, whose outputs are right only if the engine's paging is.

It keeps a paged memory as a device does: it writes each token into the slot that the block table names and
reads the whole prefix back from the slots before it chooses the next token. A wrong table, a slot that was
never written or one that another sequence overwrote changes the output or raises.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from octavo.worker.batch import (
    ExecutorInfo,
    FinishedStep,
    PendingStep,
    SampledToken,
    ScheduledSequence,
    StepBatch,
)

EOS = 0
VOCAB_SIZE = 40


def next_token(prefix: Sequence[int], seed: int | None) -> int:
    """A pure function of everything before the token; one in forty is the end of the sequence."""
    text = f"{seed}:{','.join(map(str, prefix))}"
    return hashlib.blake2b(text.encode()).digest()[0] * VOCAB_SIZE // 256


def run_alone(
    prompt: Sequence[int], max_output_tokens: int, seed: int | None = None, ignore_eos: bool = False
) -> list[int]:
    """What a sequence must generate, whatever runs beside it."""
    tokens = list(prompt)
    for _ in range(max_output_tokens):
        tokens.append(next_token(tokens, seed))
        if tokens[-1] == EOS and not ignore_eos:
            break
    return tokens[len(prompt) :]


class PagedMemoryExecutor:
    def __init__(
        self,
        num_blocks: int,
        block_size: int = 4,
        max_model_len: int = 64,
        on_execute: Callable[[Sequence[ScheduledSequence]], None] = lambda batch: None,
    ) -> None:
        self.info = ExecutorInfo(
            max_model_len=max_model_len,
            num_kv_blocks=num_blocks,
            block_size=block_size,
            vocab_size=VOCAB_SIZE,
            eos_token_ids=(EOS,),
            dtype="none",
            device="oracle",
            phases={},
        )
        self.batches: list[list[tuple[int, int]]] = []  # (sequence_id, tokens) of each step
        self._memory: dict[
            tuple[int, int], tuple[int, int]
        ] = {}  # (block, slot) → (position, token)
        self._on_execute = on_execute

    def submit(self, batch: StepBatch) -> PendingStep:
        return FinishedStep(self.execute(batch.entries))

    def execute(self, batch: Sequence[ScheduledSequence]) -> list[SampledToken]:
        self._on_execute(batch)
        self.batches.append([(entry.sequence_id, len(entry.token_ids)) for entry in batch])
        tables = [block for entry in batch for block in entry.block_ids]
        assert len(tables) == len(set(tables)), "two sequences of a batch share a block"
        for entry in batch:
            assert entry.token_ids, "an entry without tokens"
            for offset, token in enumerate(entry.token_ids):
                position = entry.start + offset
                self._memory[self._slot(entry, position)] = (position, token)
        return [self._sample(entry) for entry in batch if entry.sampling is not None]

    def _sample(self, entry: ScheduledSequence) -> SampledToken:
        assert entry.sampling is not None
        length = entry.start + len(entry.token_ids)
        prefix = []
        for position in range(length):
            stored_position, token = self._memory[self._slot(entry, position)]
            assert stored_position == position, "the slot holds another position's token"
            prefix.append(token)
        known = [*entry.sampling.prompt_token_ids, *entry.sampling.output_token_ids]
        assert length == len(known), "sampled before the sequence's end"
        return SampledToken(entry.sequence_id, next_token(prefix, entry.sampling.seed))

    def _slot(self, entry: ScheduledSequence, position: int) -> tuple[int, int]:
        size = self.info.block_size
        return entry.block_ids[position // size], position % size
