"""Triton kernels for NVIDIA GPUs, each with the file name, function names and signatures of its reference.

Nothing outside this folder imports triton. How a kernel is written here:

- Its launcher passes `num_warps`, `num_stages` and block sizes from a table (`configs.py`), never from
  autotuning at start, together with `launch_options(...)`.
- Integer arguments that change from step to step are in `do_not_specialize`: a value of 1, or one that is
  divisible by 16, would compile the kernel anew in the middle of serving.
- Its module lists in `shipped_configurations()` what `compile.py` builds without a GPU in the tests.
"""
