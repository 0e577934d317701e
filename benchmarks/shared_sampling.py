"""Sampling of a vocabulary that ranks share: scores gathered on the first rank, as they are, against winners
of each rank's part.

    python -m benchmarks.shared_sampling [--rounds 15] [--ranks 2]

Ranks are processes that talk by Gloo over the loopback, one thread each; a vocabulary of Qwen3's 151,936
tokens in bfloat16. Gathered is what the engine does: `GatheredHead`, then its sampler over whole rows. By
parts is what it does not do, at its least: the same sampler over the rank's part, and one exchange of each
row's winner, which is all that greedy rows and draws without filters need; top-p needs the whole mass as
well, and so another exchange before. Both take turns; a figure is the median of the rounds, CPU time that of
all ranks together.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.cpu.hardware import describe_hardware
from octavo.layers.linear import Linear
from octavo.layers.projection import share_of
from octavo.layers.ranks import Ranks
from octavo.layers.shared_vocabulary import GatheredHead
from octavo.sampling.host.sampler import Sampler
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams
from octavo.worker.ranks.group import join_group
from octavo.worker.ranks.messages import MeetingFile

VOCAB = 151_936
ROWS = (1, 8, 32)
KINDS = {
    "greedy": SamplingParams(temperature=0.0),
    "draw": SamplingParams(temperature=0.8, seed=1),
    "top-p": SamplingParams(temperature=0.8, top_p=0.95, seed=1),
}
_WINNER = 2  # numbers of a row's: its token, and what it won by
_KIB = 1024


class _Scores:
    """A head that has computed already."""

    plain = None
    lookup = None

    def __init__(self, scores: torch.Tensor) -> None:
        self._scores = scores

    def __call__(self, x: torch.Tensor, step: object = None) -> torch.Tensor:
        return self._scores[: x.shape[0]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = measure(arguments.ranks, arguments.rounds)
    for name, sides in found.items():
        gathered, parts = sides["gathered"], sides["parts"]
        print(
            f"{name:12} gathered {gathered['kib']:7.0f} KiB, {gathered['cpu_ms']:6.2f} ms of CPU, "
            f"{gathered['wall_ms']:6.2f} ms; by parts {parts['kib']:5.2f} KiB, {parts['cpu_ms']:6.2f} ms of "
            f"CPU, {parts['wall_ms']:6.2f} ms: {parts['cpu_ms'] / gathered['cpu_ms']:.2f} of the CPU time"
        )
    if arguments.out:
        arguments.out.write_text(json.dumps({"hardware": describe_hardware(), **found}, indent=1))


def measure(num_ranks: int, rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """By load and side: KiB that go to the first rank, ms of all ranks' CPU time, ms of the first's clock."""
    spawning = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, spawning.Pool(num_ranks) as pool:
        place = str(Path(folder) / "group")
        work = [(rank, num_ranks, place, rounds) for rank in range(num_ranks)]
        each = pool.starmap(_run, work, chunksize=1)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, sides in each[0].items():
        for side, taken in sides.items():
            cpu = [
                sum(times) for times in zip(*(one[name][side]["cpu"] for one in each), strict=True)
            ]
            found.setdefault(name, {})[side] = {
                "kib": taken["bytes"] / _KIB,
                "cpu_ms": 1e3 * statistics.median(cpu),
                "wall_ms": 1e3 * statistics.median(taken["wall"]),
            }
    return found


def _run(rank: int, size: int, place: str, rounds: int) -> dict[str, dict[str, dict[str, Any]]]:
    torch.set_num_threads(1)
    ranks = join_group(rank, size, meeting=MeetingFile(place), timeout_seconds=120.0)
    own = share_of(VOCAB, rank, size)
    torch.manual_seed(rank)
    scores = (3.0 * torch.randn(max(ROWS), len(own))).bfloat16()
    head: Linear = _Scores(scores)
    gathered = GatheredHead(head, len(share_of(VOCAB, 0, size)), VOCAB, ranks)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for kind, params in KINDS.items():
        for rows in ROWS:
            sides = _sides(ranks, gathered, scores[:rows], params)
            taken: dict[str, dict[str, Any]] = {side: {"cpu": [], "wall": []} for side in sides}
            for index in range(rounds + 1):
                for side in sorted(sides, reverse=index % 2 == 1):
                    ranks.least(0, 120.0)
                    cpu, wall = time.process_time(), time.perf_counter()
                    sides[side]()
                    if index:  # the first compiles
                        taken[side]["wall"].append(time.perf_counter() - wall)
                        taken[side]["cpu"].append(time.process_time() - cpu)
            others = size - 1
            taken["gathered"]["bytes"] = others * rows * len(own) * scores.itemsize
            taken["parts"]["bytes"] = others * rows * _WINNER * torch.float32.itemsize
            found[f"{kind} {rows}"] = taken
    return found


def _sides(
    ranks: Ranks, head: GatheredHead, part: torch.Tensor, params: SamplingParams
) -> dict[str, Callable[[], None]]:
    rows = len(part)
    sampler, ids = Sampler(0), list(range(rows))
    states = [SamplingState(params, None, (), ()) for _ in ids]
    x = torch.zeros(rows, 1)

    def gathered() -> None:
        whole = head(x)
        if ranks.rank == 0:
            sampler.sample(whole, ids, states)

    def parts() -> None:
        if params.top_p < 1.0:
            ranks.all_reduce(part.float().logsumexp(dim=-1))
        tokens = torch.tensor([one.token_id for one in sampler.sample(part, ids, states)])
        winners = torch.stack((tokens.float(), part[torch.arange(rows), tokens].float()), dim=1)
        each = ranks.gather(winners)
        if each is not None:
            torch.stack(each)[:, :, 1].argmax(dim=0)

    return {"gathered": gathered, "parts": parts}


if __name__ == "__main__":
    main()
