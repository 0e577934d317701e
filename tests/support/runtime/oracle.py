"""Executor without a model, whose outputs are right only if the engine's paging is.

It keeps a paged memory as a device does: it writes each token into the slot that the block table names and
reads the whole prefix back from the slots before it chooses the next token. A wrong table, a slot that was
never written, one that another sequence overwrote, or a write into a block that others read changes the
output or raises.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from octavo.sampling.state import SampledToken
from octavo.sleep_level import SleepLevel
from octavo.worker.batch import (
    PENDING_TOKEN,
    ExecutorInfo,
    FinishedStep,
    PendingStep,
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


def verified(entry: ScheduledSequence, tokens: Sequence[int]) -> list[SampledToken]:
    """Of what follows the known tokens and each draft: as far as the drafts come true."""
    assert entry.sampling is not None
    drafts = entry.token_ids[len(entry.token_ids) - entry.num_drafts :]
    count = 1
    for draft, token in zip(drafts, tokens, strict=False):
        if draft != token or token in entry.sampling.end_token_ids:
            break
        count += 1
    return [SampledToken(entry.sequence_id, token) for token in tokens[:count]]


class PendingTokens:
    """Knows, as an asynchronous device does, the tokens that the engine does not know yet."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}

    def resolve(self, batch: StepBatch) -> list[ScheduledSequence]:
        """The batch's entries with real tokens instead of `PENDING_TOKEN`."""
        for name in batch.released:
            self._last.pop(name, None)
        return [self._resolve_entry(entry) for entry in batch.entries]

    def keep(self, sampled: Sequence[SampledToken]) -> None:
        self._last.update({token.sequence_id: token.token_id for token in sampled})

    def _resolve_entry(self, entry: ScheduledSequence) -> ScheduledSequence:
        if PENDING_TOKEN not in entry.token_ids:
            return entry
        assert list(entry.token_ids) == [PENDING_TOKEN], "only a decode may be pending"
        assert entry.sampling is not None
        token = self._last[entry.sequence_id]
        sampling = dataclasses.replace(
            entry.sampling, output_token_ids=[*entry.sampling.output_token_ids, token]
        )
        return msgspec.structs.replace(entry, token_ids=[token], sampling=sampling)


class PagedMemoryExecutor:
    """With `is_asynchronous` the engine gets a step's tokens one step late, as from a GPU."""

    def __init__(
        self,
        num_blocks: int,
        block_size: int = 4,
        max_model_len: int = 64,
        on_execute: Callable[[Sequence[ScheduledSequence]], None] = lambda batch: None,
        is_asynchronous: bool = False,
    ) -> None:
        self.info = ExecutorInfo(
            max_model_len=max_model_len,
            num_kv_blocks=num_blocks,
            block_size=block_size,
            vocab_size=VOCAB_SIZE,
            dtype="none",
            device="oracle",
            phases={},
            is_asynchronous=is_asynchronous,
        )
        self.batches: list[list[tuple[int, int]]] = []  # (sequence_id, tokens) of each step
        self.num_copies = 0
        self.num_pending = 0
        self._memory: dict[
            tuple[int, int], tuple[int, int]
        ] = {}  # (block, slot) → (position, token)
        self._on_execute = on_execute
        self._pending = PendingTokens()

    def sleep(self, level: SleepLevel) -> None:
        self._memory.clear()

    def wake_up(self) -> None:
        pass

    def submit(self, batch: StepBatch) -> PendingStep:
        self._on_execute(batch.entries)
        self.num_pending += sum(PENDING_TOKEN in entry.token_ids for entry in batch.entries)
        entries = self._pending.resolve(batch)
        for source, target in batch.block_copies:
            self.num_copies += 1
            for slot in range(self.info.block_size):
                if (source, slot) in self._memory:
                    self._memory[target, slot] = self._memory[source, slot]
        sampled = self.execute(entries)
        self._pending.keep(sampled)
        return FinishedStep(sampled)

    def execute(self, batch: Sequence[ScheduledSequence]) -> list[SampledToken]:
        self.batches.append([(entry.sequence_id, len(entry.token_ids)) for entry in batch])
        readers = Counter(block for entry in batch for block in entry.block_ids)
        for entry in batch:
            assert entry.token_ids, "an entry without tokens"
            for offset, token in enumerate(entry.token_ids):
                position = entry.start + offset
                block, slot = self._slot(entry, position)
                assert readers[block] == 1, "a write into a block that others read"
                self._memory[block, slot] = (position, token)
        return [
            token
            for entry in batch
            if entry.sampling is not None
            for token in verified(
                entry, [self._sample(entry, i) for i in range(entry.num_drafts, -1, -1)]
            )
        ]

    def _sample(self, entry: ScheduledSequence, num_behind: int) -> int:
        """What follows the entry but for its last `num_behind` tokens, which are drafts."""
        assert entry.sampling is not None
        length = entry.start + len(entry.token_ids) - num_behind
        prefix = []
        for position in range(length):
            stored_position, token = self._memory[self._slot(entry, position)]
            assert stored_position == position, "the slot holds another position's token"
            prefix.append(token)
        known = [*entry.sampling.prompt_token_ids, *entry.sampling.output_token_ids]
        end = length - (entry.num_drafts - num_behind)
        assert end == len(known), "sampled before the sequence's end"
        return next_token(prefix, entry.sampling.seed)

    def _slot(self, entry: ScheduledSequence, position: int) -> tuple[int, int]:
        size = self.info.block_size
        return entry.block_ids[position // size], position % size
