"""A start-up on a GPU that is not there: it launches what a real one launches, and serving adds nothing."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from octavo.config import EngineConfig, KVCacheDtype, Quantization
from octavo.loading import SafetensorsWeights, Slice
from octavo.loading.view import SourceView
from octavo.models.quantization_config import read_stored_format
from octavo.models.registry import FAMILIES, read_model_config
from octavo.models.seated_adapters import EMPTY_ADAPTER
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import BASE_MODEL, ScheduledSequence, StepBatch
from octavo.worker.compile_ahead.absent_gpu import Chip, absent_gpu
from octavo.worker.compile_ahead.rehearsal import distinct_layers, rehearse, start_on
from octavo.worker.gpu.profile import largest_steps, warm_up_gpu
from tests.support.requirements import Requirement, needs_module
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.gpu_path import make_gpu_executor
from tests.support.runtime.gpu_shapes import A100, GEMMA_2_9B, H100, SHAPES, shape_of
from tests.support.runtime.quantised_checkpoints import (
    Tensors,
    float8_weight,
    gptq_tensors,
    quantise_checkpoint,
    round_to_grid,
)

needs_module(Requirement.TRITON)

from triton import knobs

from octavo.kernels.gpu import device as gpu
from octavo.kernels.gpu.attention import decode_schedule
from octavo.kernels.gpu.compiling.compile import compile_configuration
from octavo.kernels.gpu.compiling.forms import Form, absent_driver, recorded_launches
from tests.support.kernels.kept_binaries import kept_binaries

SMALL = {
    "vocab_size": 1000,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 512,
}


def steps(seed: str, config: EngineConfig, most_tokens: int) -> Iterator[StepBatch]:
    """Steps that a scheduler may make, of sequences that begin anywhere."""
    numbers = random.Random(seed)  # noqa: S311
    ways: tuple[dict[str, Any], ...] = (
        {"temperature": 0.0},
        {"temperature": 0.7, "seed": 3},
        {"temperature": 1.0, "top_k": 5, "logprobs": 2},
        {"temperature": 1.0, "top_p": 0.5, "frequency_penalty": 0.5},
        {"temperature": 0.0, "repetition_penalty": 1.2, "logprobs": 20},
    )

    def entry(index: int, count: int) -> ScheduledSequence:
        start = numbers.randrange(0, 200)
        params = SamplingParams(**numbers.choice(ways))
        state = SamplingState(params, params.seed, [0] * max(start, 1), [])
        if numbers.random() < 0.2:
            state = SamplingState(params, params.seed, [0], [], is_pooled=True)
        wants = count == 1 or numbers.random() < 0.7
        blocks = [0] * -(-(start + count) // config.block_size)
        own = numbers.choice(adapters)
        return ScheduledSequence(
            index, [0] * count, start, blocks, state if wants else None, adapter_id=own
        )

    for _ in range(12):
        adapters = [BASE_MODEL]
        if config.enable_lora and numbers.random() < 0.7:
            adapters.append(EMPTY_ADAPTER)
        counts = [1] * numbers.choice([0, 1, 2, 3, 7, 17])
        budget = most_tokens - len(counts)
        for _ in range(numbers.choice([0, 0, 1, 1, 2, 5])):
            count = min(numbers.choice([2, 3, 15, 16, 17, 64, 100, 200]), budget)
            if count > 1:
                counts.append(count)
                budget -= count
        counts = counts[: config.max_num_seqs] or [1]
        copies = [(0, 0)] * numbers.choice([0, 0, 1, 3])
        entries = [entry(i, count) for i, count in enumerate(counts)]
        numbers.shuffle(entries)
        yield StepBatch(entries, copies, released=[])
        yield StepBatch([], released=range(len(counts)))


@pytest.mark.parametrize(
    ("model", "enforce_eager", "quantization", "ranks"),
    [
        *((model, False, None, 1) for model in SHAPES),
        ("mixtral-8x7b", True, None, 1),
        ("mixtral-8x7b", False, Quantization.INT4, 1),
        ("mixtral-8x7b", False, Quantization.INT4, 16),
    ],
)
def test_no_step_of_serving_launches_a_form_that_the_start_up_did_not(
    model: str,
    enforce_eager: bool,
    quantization: Quantization | None,
    ranks: int,
    tmp_path: Path,
) -> None:
    config = EngineConfig(
        model=str(tmp_path),
        max_num_seqs=24,
        max_num_batched_tokens=300,
        enforce_eager=enforce_eager,
        quantization=quantization,
        tensor_parallel_size=ranks,
        enable_lora=model == "qwen3-0.6b",
    )
    shape = shape_of(SHAPES[model], tmp_path)
    with recorded_launches(90) as forms, absent_gpu(H100) as device:
        executor = start_on(device, config, shape, torch.bfloat16)
        at_start = len(forms)
        sampled = 0
        for batch in steps(f"{model} {enforce_eager} {quantization} {ranks}", config, 300):
            sampled += len(executor.submit(batch).result())
        added = [f"{form.name}: {form.specialization}" for form in forms[at_start:]]
    assert added == []
    assert at_start > 10
    assert sampled > 40


def run_once(work: Callable[[], None]) -> Callable[[], None]:
    work()
    return work


@pytest.mark.parametrize(
    ("family", "changes", "cache_dtype"),
    [
        ("qwen3", {}, torch.bfloat16),
        ("gemma2", {"sliding_window": 32}, torch.float8_e4m3fn),
        ("mixtral", {"num_local_experts": 4}, torch.bfloat16),
    ],
)
def test_a_rehearsal_launches_what_the_same_steps_launch_on_real_tensors(
    family: str, changes: dict[str, Any], cache_dtype: torch.dtype, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    sizes = {"num_hidden_layers": 3, "head_dim": 16, "num_attention_heads": 4}
    make_checkpoint(tmp_path, family, **sizes, **changes)
    config = EngineConfig(
        model=str(tmp_path),
        max_num_seqs=24,
        max_num_batched_tokens=512,
        kv_cache_dtype=KVCacheDtype.FP8 if cache_dtype.itemsize == 1 else KVCacheDtype.AUTO,
        enable_lora=True,
        max_loras=2,
        max_lora_rank=20,
    )
    rehearsed = rehearse(config, read_model_config(tmp_path), torch.bfloat16, H100)

    with recorded_launches(90) as launched:  # of tensors in memory, that no kernel writes
        executor = make_gpu_executor(
            tmp_path,
            kernels=gpu,
            is_padded=False,
            dtype=torch.bfloat16,
            cache_dtype=cache_dtype,
            max_num_seqs=24,
            max_loras=2,
        )
        runner = executor.runner
        for entries in largest_steps(runner.limits):
            runner.submit(StepBatch(entries))
            runner.submit(StepBatch([], released=range(24)))
        warm_up_gpu(runner)
        runner.capture(run_once)
    assert len(launched) > 10
    assert {"_shrink", "_expand"} < {form.name for form in launched}
    assert set(launched) == set(rehearsed)


@pytest.mark.parametrize(
    ("family", "kernel"), [("llama", "_packed_linear"), ("mixtral", "_ordered_inputs")]
)
def test_quantised_weights_are_rehearsed_as_they_are_stored(
    family: str, kernel: str, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    sizes = {"num_hidden_layers": 3, "hidden_size": 128, "intermediate_size": 256, "head_dim": 32}
    make_checkpoint(plain, family, num_attention_heads=4, tie_word_embeddings=False, **sizes)

    def store(name: str, weight: torch.Tensor) -> tuple[Tensors, torch.Tensor] | None:
        if "down" in name or name.endswith("gate"):
            return None
        order = torch.arange(weight.shape[1]).flip(0)
        grid = round_to_grid(weight, 4, 64, order=order)
        return gptq_tensors(grid, 4, zero_offset=1), weight

    target = tmp_path / "quantised"
    rules = {"quant_method": "gptq", "bits": 4, "group_size": 64, "desc_act": True, "sym": False}
    rules |= {"lm_head": True, "dynamic": {"-:.*down.*": {}, "-:.*gate$": {}}}
    quantise_checkpoint(plain, target, store, rules)
    engine = EngineConfig(model=str(target), max_num_seqs=24, max_num_batched_tokens=512)
    stored = read_stored_format(target)
    rehearsed = rehearse(engine, read_model_config(target), torch.bfloat16, H100, stored)

    launched = launched_at_start(target)
    assert kernel in {form.name for form in launched}
    assert set(launched) == set(rehearsed)


def launched_at_start(folder: Path, **options: Any) -> list[Form]:
    """Of tensors in memory, that no kernel writes."""
    with recorded_launches(90) as launched:
        executor = make_gpu_executor(
            folder, kernels=gpu, is_padded=False, dtype=torch.bfloat16, max_num_seqs=24, **options
        )
        for entries in largest_steps(executor.runner.limits):
            executor.runner.submit(StepBatch(entries))
            executor.runner.submit(StepBatch([], released=range(24)))
        warm_up_gpu(executor.runner)
        executor.runner.capture(run_once)
    return launched


class Copies(SourceView):
    """Of a file's tensors, which need not lie aligned in it."""

    def tensors(
        self, shapes: Mapping[str, tuple[int, ...]], part: Slice | None = None
    ) -> list[torch.Tensor]:
        return [tensor.clone() for tensor in super().tensors(shapes, part)]


def test_activations_are_rounded_where_the_gpu_multiplies_float8(tmp_path: Path) -> None:
    """Products in groups of inputs, and one whose inputs are a single group."""
    plain = tmp_path / "plain"
    sizes = {"hidden_size": 256, "intermediate_size": 128, "head_dim": 64}
    make_checkpoint(plain, "llama", num_attention_heads=4, tie_word_embeddings=False, **sizes)

    def store(name: str, weight: torch.Tensor) -> tuple[Tensors, torch.Tensor] | None:
        if "lm_head" in name:
            return None
        codes, scales, dequantised = float8_weight(weight, 128, 128)
        return {"weight": codes, "weight_scale_inv": scales}, dequantised

    target = tmp_path / "quantised"
    rules = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    quantise_checkpoint(plain, target, store, rules | {"activation_scheme": "dynamic"})
    engine = EngineConfig(model=str(target), max_num_seqs=24, max_num_batched_tokens=512)
    model, stored = read_model_config(target), read_stored_format(target)

    def names(engine: EngineConfig, chip: Chip) -> set[str]:
        return {f.name for f in rehearse(engine, model, torch.bfloat16, chip, stored)}

    rehearsed = rehearse(engine, model, torch.bfloat16, H100, stored)
    rounding = {"_round_groups", "_grouped_product", "_round_rows"}
    assert rounding <= {form.name for form in rehearsed}
    weights = Copies(SafetensorsWeights(target))
    launched = launched_at_start(target, rounds_inputs=True, weights=weights)
    assert set(launched) == set(rehearsed)
    kept = msgspec.structs.replace(engine, quantize_activations=False)
    for other in (names(engine, A100), names(kept, H100)):
        assert not rounding & other
        assert "_packed_linear" in other


def test_layers_that_differ_in_their_window_are_all_rehearsed(tmp_path: Path) -> None:
    shape = shape_of(GEMMA_2_9B, tmp_path)
    few = distinct_layers(shape)
    assert (few.spec.num_layers, few.spec.windows) == (2, shape.spec.windows[:2])
    assert set(few.spec.windows) == {4096, None}
    plain = distinct_layers(shape_of(SHAPES["llama-3.1-8b"], tmp_path))
    assert (plain.spec.num_layers, plain.spec.windows) == (2, (None, None))


def test_layers_with_and_without_experts_are_all_rehearsed(tmp_path: Path) -> None:
    shape = {**SMALL, "architectures": ["Qwen3MoeForCausalLM"], "mlp_only_layers": [0, 1, 3]}
    few = distinct_layers(shape_of({**shape, "num_hidden_layers": 5}, tmp_path))
    assert few.layer_kinds == [(None, False), (None, False), (None, True)]


@pytest.mark.parametrize("architecture", sorted(FAMILIES))
def test_every_family_starts_on_a_gpu(architecture: str, tmp_path: Path) -> None:
    """What its layers ask of a GPU exists there, for its dtype and on that device."""
    shape = {**SMALL, "architectures": [architecture]}
    config = EngineConfig(model="m", max_num_seqs=1, max_num_batched_tokens=16, enforce_eager=True)
    forms = rehearse(config, shape_of(shape, tmp_path), torch.bfloat16, H100)
    assert {"_rope_and_cache", "_decode"} <= {form.name for form in forms}


def test_a_tensor_on_the_wrong_device_is_refused() -> None:
    with recorded_launches(90), absent_gpu(H100) as device:
        on_gpu, on_host = torch.zeros(4, 8, device=device), torch.zeros(8)
        with pytest.raises(RuntimeError, match="device"):
            on_gpu + on_host
        with pytest.raises(RuntimeError, match=r"shape \[8\] on cpu"):
            gpu.rms_norm(on_gpu, on_host, 1e-6)
        assert gpu.rms_norm(on_gpu, torch.zeros(8, device=device), 1e-6).device == device


def test_addresses_are_those_of_a_storage(tmp_path: Path) -> None:
    """A launch on every fourth row is another form than on every row: 8 values of 2 bytes are 16."""
    with recorded_launches(90) as forms, absent_gpu(H100) as device:
        values = torch.zeros(65, dtype=torch.bfloat16, device=device)
        weight = torch.ones(8, dtype=torch.bfloat16, device=device)
        gpu.rms_norm(values[8:64].view(7, 8), weight, 1e-6)
        gpu.rms_norm(values[:64].view(8, 8), weight, 1e-6)
        assert len(forms) == 1
        gpu.rms_norm(values[1:].view(8, 8), weight, 1e-6)
        assert len(forms) == 2


def test_the_machine_is_as_before_afterwards() -> None:
    before = dict(vars(torch.cuda))
    with absent_gpu(A100):
        assert torch.cuda.get_device_capability() == (8, 0)
    assert dict(vars(torch.cuda)) == before
    assert type(torch.zeros(1)) is torch.Tensor


def test_a_launch_finds_what_the_compile_gate_built() -> None:
    (shipped,) = decode_schedule.shipped_configurations()
    with recorded_launches(90) as forms, absent_gpu(H100) as device:
        workspace = gpu.make_decode_workspace(
            8, 32, 8, 128, dtype=torch.bfloat16, cache_dtype=torch.bfloat16, device=device
        )
        gpu.schedule_decode(torch.zeros(8, dtype=torch.int32, device=device), workspace)
    hits: list[bool] = []
    with kept_binaries(), absent_driver(90):
        compile_configuration(shipped, 90)
        knobs.compilation.listener = lambda *, cache_hit, **_: hits.append(cache_hit)
        forms[0].compile()
    assert hits == [True]
