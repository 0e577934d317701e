"""Read bandwidth. What all cores together read from memory, in a process of its own: a decode step of one
request can be no faster than its weights are read.

Each thread adds up a stretch of its own, on huge pages where the kernel gives them: the form that memory
serves fastest.
"""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import torch

from octavo.kernels.cpu.compiling import vector as v
from octavo.kernels.cpu.compiling.jit import team_kernel
from octavo.kernels.cpu.compiling.team import run_on_team
from octavo.kernels.cpu.products.weight_memory import allocate

_FLOATS = 2**28
_STRIDE = 16  # floats of a cache line


@team_kernel
def _read(address: int) -> None:
    job = v.int64_at(address)
    lane = v.count_up(job, 0)
    count = job[3] // job[4]
    numbers, sums = v.float32_at(job[1] + 4 * count * lane), v.float32_at(job[2])
    a = b = c = d = v.splat(np.float32(0))
    for i in range(0, count, 64):
        a, b = v.add(a, v.load(numbers, i)), v.add(b, v.load(numbers, i + 16))
        c, d = v.add(c, v.load(numbers, i + 32)), v.add(d, v.load(numbers, i + 48))
    v.store(sums, lane * _STRIDE, v.add(v.add(a, b), v.add(c, d)))


def main() -> None:
    """Prints bytes/s, the best of ten reads of a gigabyte."""
    threads = int(sys.argv[1])
    torch.set_num_threads(threads)
    numbers = allocate(4 * _FLOATS)
    numbers.fill_(0)  # its pages are there then
    sums = torch.zeros(threads * _STRIDE)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        run_on_team(_read, numbers.data_ptr(), sums.data_ptr(), _FLOATS, threads)
        seconds.append(time.perf_counter() - start)
    print(4 * _FLOATS / min(seconds))


def read_bandwidth(threads: int) -> float:
    """Bytes/s."""
    command = [sys.executable, "-m", "benchmarks.cpu.read_bandwidth", str(threads)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
