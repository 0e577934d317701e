"""The execution path of a GPU, on CPU tensors with the reference kernels, computes what transformers does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from octavo.sampling.state import SampledToken, SamplingState
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import PENDING_TOKEN, ScheduledSequence, StepBatch
from tests.support.runtime.checkpoints import VOCAB, make_checkpoint
from tests.support.runtime.gpu_path import Overlapped, Running, greedy, make_gpu_executor, sequences
from tests.support.runtime.stepping import GREEDY, make_executor


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A checkpoint's folder and transformers' model of it."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp(request.param)
    return folder, make_checkpoint(folder, request.param)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("llama")
    make_checkpoint(folder)
    return folder


def generate(executor: Any, running: list[Running], count: int) -> list[list[int]]:
    """Prefills each prompt in one step, then decodes all together."""
    steps = Overlapped(executor)
    steps.submit([(s, len(s.prompt)) for s in running])
    for _ in range(count - 1):
        steps.submit([(s, 1) for s in running])
    steps.take()
    return [s.output for s in running]


@pytest.mark.parametrize("is_padded", [True, False])
def test_ragged_chunks_and_pending_decodes_give_the_tokens_of_transformers(
    family: Any, is_padded: bool
) -> None:
    folder, reference = family
    steps = Overlapped(make_gpu_executor(folder, is_padded=is_padded))
    a, b, c, d, e, f = running = sequences(1, 5, 16, 17, 40, 120)
    steps.submit([(a, 1), (b, 5), (e, 13)])
    steps.submit([(a, 1), (e, 27), (b, 1), (c, 16), (f, 33)])
    steps.submit([(f, 80), (d, 17), (a, 1), (e, 1), (b, 1), (c, 1)])
    steps.submit([(d, 1), (f, 7)])
    for _ in range(20):
        steps.submit([(s, 1) for s in (f, a, c, e, b, d)])
    steps.take()
    assert steps.num_pending > 100
    for sequence in running:
        assert sequence.output == greedy(reference, sequence)
        assert len(set(sequence.output)) > 5, "a constant output would prove nothing"


def test_a_preempted_sequence_goes_on_unchanged(family: Any) -> None:
    folder, reference = family
    steps = Overlapped(make_gpu_executor(folder))
    victim, other = sequences(21, 9)
    steps.submit([(victim, 21), (other, 9)])
    for _ in range(6):
        steps.submit([(victim, 1), (other, 1)])
    steps.take()
    steps.preempt(victim)
    for _ in range(4):
        steps.submit([(other, 1)])
    steps.submit([(victim, 28), (other, 1)])  # 21 of the prompt and 7 generated
    for _ in range(6):
        steps.submit([(victim, 1), (other, 1)])
    steps.take()
    assert victim.output == greedy(reference, victim)
    assert other.output == greedy(reference, other)


def test_a_copied_block_is_written_apart_from_its_source(family: Any) -> None:
    folder, reference = family
    steps = Overlapped(make_gpu_executor(folder))
    first, second = sequences(20, 20)
    second.prompt = [*first.prompt[:19], (first.prompt[19] + 1) % VOCAB]
    steps.submit([(first, 20)])
    target = steps.take_block()
    second.blocks, second.computed = [first.blocks[0], target], 19
    steps.submit([(first, 1), (second, 1)], copies=[(first.blocks[1], target)])
    for _ in range(8):
        steps.submit([(first, 1), (second, 1)])
    steps.take()
    for sequence in (first, second):
        assert sequence.output == greedy(reference, sequence)
    assert first.output != second.output


def test_a_table_entry_that_a_copy_replaced_reaches_the_device(family: Any) -> None:
    folder, reference = family
    steps = Overlapped(make_gpu_executor(folder))
    (sequence,) = sequences(20)
    steps.submit([(sequence, 20)])
    steps.submit([(sequence, 1)])
    old, new = sequence.blocks[1], steps.take_block()
    sequence.blocks[1] = new
    steps.submit([(sequence, 1)], copies=[(old, new)])
    intruder = sequences(3, 15)[1]
    intruder.sequence_id, intruder.blocks = 77, [old]  # overwrites what the sequence left
    for _ in range(3):
        steps.submit([(sequence, 1)])
    steps.submit([(intruder, 15), (sequence, 1)])
    for _ in range(3):
        steps.submit([(sequence, 1)])
    steps.take()
    assert sequence.output == greedy(reference, sequence)


def test_penalties_are_those_of_the_cpu_path(llama: Path) -> None:
    params = SamplingParams(
        temperature=0.0,
        presence_penalty=0.7,
        frequency_penalty=0.4,
        repetition_penalty=1.3,
        max_tokens=None,
    )
    cpu = make_executor(llama)
    for is_padded in (True, False):
        running = sequences(4, 30, 11)
        running[0].params = running[2].params = params
        outputs = generate(make_gpu_executor(llama, is_padded=is_padded), running, 25)
        assert outputs == generate_one_by_one(cpu, running, 25)
    plain = sequences(4, 30, 11)
    assert generate(make_gpu_executor(llama), plain, 25)[0] != outputs[0]


def generate_one_by_one(executor: Any, running: list[Running], count: int) -> list[list[int]]:
    """By the CPU path, without overlap."""
    outputs = []
    for sequence in running:
        steps = Overlapped(executor)
        alone = Running(sequence.sequence_id, sequence.prompt, sequence.params, sequence.seed)
        steps.submit([(alone, len(alone.prompt))])
        for _ in range(count - 1):
            steps.take()
            steps.submit([(alone, 1)])
        steps.take()
        outputs.append(alone.output)
    return outputs


def test_penalties_survive_a_preemption(llama: Path) -> None:
    params = SamplingParams(temperature=0.0, frequency_penalty=1.5, max_tokens=None)
    executor = make_gpu_executor(llama)
    (expected,) = generate(executor, sequences(9, params=params), 20)
    steps = Overlapped(make_gpu_executor(llama))
    (sequence,) = sequences(9, params=params)
    steps.submit([(sequence, 9)])
    for _ in range(9):
        steps.submit([(sequence, 1)])
    steps.take()
    steps.preempt(sequence)
    steps.submit([(sequence, 19)])
    for _ in range(9):
        steps.submit([(sequence, 1)])
    steps.take()
    assert sequence.output == expected


def test_a_seed_decides_whatever_else_is_in_the_batch(llama: Path) -> None:
    params = SamplingParams(temperature=0.9, top_p=0.95, top_k=50, max_tokens=None)

    def seeded(*seeds: int) -> list[Running]:
        prompt = sequences(12)[0].prompt
        return [Running(100 + i, prompt, params, seed) for i, seed in enumerate(seeds)]

    (alone,) = generate(make_gpu_executor(llama), seeded(5), 30)
    others = [*seeded(6), *sequences(7, 33), *seeded(5)]
    others[-1].sequence_id = 300
    crowded = generate(make_gpu_executor(llama, is_padded=False), others, 30)
    assert crowded[-1] == alone
    assert crowded[0] != alone
    negative, same, other = generate(make_gpu_executor(llama), seeded(-(2**62), -(2**62), 1), 30)
    assert negative == same != other


def test_unseeded_sequences_differ(llama: Path) -> None:
    params = SamplingParams(temperature=1.5, max_tokens=None)
    running = [Running(i, [5, 6, 7], params) for i in range(3)]
    outputs = generate(make_gpu_executor(llama), running, 20)
    assert len({tuple(output) for output in outputs}) == 3


def test_logprobs_are_those_of_the_cpu_path(llama: Path) -> None:
    wanted = SamplingParams(temperature=0.0, logprobs=3, max_tokens=None)
    none = SamplingParams(temperature=0.0, logprobs=0, max_tokens=None)
    results: list[list[SampledToken]] = []
    for executor in (make_gpu_executor(llama), make_executor(llama)):
        running = sequences(6, 14, 30)
        running[0].params, running[2].params = wanted, none
        steps = Overlapped(executor)
        steps.submit([(s, len(s.prompt)) for s in running])
        steps.take()
        steps.submit([(s, 1) for s in running])
        steps.take()
        results.append([token for s in running for token in s.tokens])
    for ours, theirs in zip(*results, strict=True):
        assert (ours.token_id, ours.top_token_ids) == (theirs.token_id, theirs.top_token_ids)
        assert ours.top_ranks == theirs.top_ranks
        assert ours.top_logprobs == (
            None if theirs.top_logprobs is None else pytest.approx(theirs.top_logprobs, abs=1e-4)
        )


def test_embeddings_are_those_of_the_cpu_path(llama: Path) -> None:
    results = []
    for executor in (make_gpu_executor(llama), make_executor(llama)):
        entries = [
            ScheduledSequence(
                i, [4, 5, 6 + i], 0, [i], SamplingState(GREEDY, None, [4, 5, 6 + i], [], i == 1)
            )
            for i in range(2)
        ]
        tokens = executor.submit(StepBatch(entries)).result()
        assert tokens[0].embedding is None
        results.append(torch.tensor(tokens[1].embedding))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


def test_a_padded_step_leaves_no_trace_of_the_one_before(llama: Path) -> None:
    """After 9 sequences in 16 rows, 3 in 4: the rows of those that ended must not be written any more."""
    executor = make_gpu_executor(llama)
    many = sequences(*range(3, 12))
    generate(executor, many, 4)
    before = [cache.clone() for cache in executor.runner._caches]
    steps = Overlapped(executor)
    steps._free = list(range(executor.info.num_kv_blocks - 2, -1, -3))  # blocks of nobody
    few = sequences(8, 19, 4)
    for sequence in few:
        sequence.sequence_id += 1000
    executor.submit(StepBatch([], released=[s.sequence_id for s in many]))
    steps.submit([(s, len(s.prompt)) for s in few])
    for _ in range(8):
        steps.submit([(s, 1) for s in few])
    steps.take()
    touched = {block for s in few for block in s.blocks}
    for old, new in zip(before, executor.runner._caches, strict=True):
        for block in range(new.shape[0]):
            assert block in touched or torch.equal(old[block], new[block])
    fresh = make_gpu_executor(llama, is_padded=False)
    assert [s.output for s in few] == generate(fresh, sequences(8, 19, 4), 9)


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        (ScheduledSequence(9, [VOCAB], 0, [0], None), "vocabulary|knows"),
        (ScheduledSequence(9, [PENDING_TOKEN], 4, [0], None), "pending"),
        (ScheduledSequence(9, [4], 0, range(500), None), "blocks"),
    ],
)
def test_a_batch_that_contradicts_itself_fails_alone(
    llama: Path, entry: ScheduledSequence, match: str
) -> None:
    executor = make_gpu_executor(llama)
    running = sequences(7)
    (expected,) = generate(make_gpu_executor(llama), sequences(7), 10)
    steps = Overlapped(executor)
    steps.submit([(running[0], 7)])
    for _ in range(4):
        steps.submit([(running[0], 1)])
    with pytest.raises(ValueError, match=match):
        executor.submit(StepBatch([entry]))
    assert executor.runner.rows.num_used == 1
    for _ in range(5):
        steps.submit([(running[0], 1)])
    steps.take()
    assert running[0].output == expected


def test_released_rows_are_used_again(llama: Path) -> None:
    executor = make_gpu_executor(llama, max_num_seqs=2)
    for index in range(30):
        entry = ScheduledSequence(
            index, [4, 5], 0, [index], SamplingState(GREEDY, None, [4, 5], [])
        )
        executor.submit(StepBatch([entry], released=[index - 1])).result()
    assert executor.runner.rows.num_used == 1


def test_chunks_alone_sample_nothing(llama: Path) -> None:
    executor = make_gpu_executor(llama)
    entry = ScheduledSequence(1, [4, 5, 6], 0, [3], None)
    assert executor.submit(StepBatch([entry])).result() == []
    assert executor.submit(StepBatch([])).result() == []


@pytest.mark.parametrize("is_padded", [True, False])
def test_the_tokens_of_a_prompt_are_scored_as_transformers_scores_them(
    family: Any, is_padded: bool
) -> None:
    """In slices of four rows, in chunks of several prompts, one of a single token, beside decodes."""
    folder, reference = family
    steps = Overlapped(make_gpu_executor(folder, is_padded=is_padded, max_num_seqs=4))
    plain, *scored = running = sequences(7, 2, 30, 23)
    for sequence, num_best in zip(scored, (0, 3, 1), strict=True):
        sequence.num_best = num_best
    short, long, other = scored
    steps.submit([(plain, 7)])
    steps.submit([(long, 9)])
    steps.submit([(plain, 1), (short, 1), (long, 1)])
    steps.submit([(other, 23), (short, 1), (plain, 1), (long, 20)])
    steps.submit([(sequence, 1) for sequence in running])
    steps.take()
    assert plain.scored == []
    for sequence in scored:
        with torch.no_grad():
            logits = reference(torch.tensor([sequence.prompt])).logits[0, :-1]
        rows = torch.log_softmax(logits.float(), dim=-1)
        targets = sequence.prompt[1:]
        assert [token.token_id for token in sequence.scored] == targets
        for token, target, row in zip(sequence.scored, targets, rows, strict=True):
            best = row.topk(sequence.num_best or 0)
            assert token.top_token_ids == [target, *best.indices.tolist()]
            wanted = [float(row[target]), *best.values.tolist()]
            assert token.top_logprobs == pytest.approx(wanted, abs=1e-4)
            assert (token.top_ranks or [])[0] == 1 + int((row > row[target]).sum())
        assert sequence.output == greedy(reference, sequence)
