"""`octavo inspect` of a GPU: what is said to fit is what a start takes, and what takes the room is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo.cli.main import run
from octavo.config import Device, EngineConfig
from octavo.errors import OutOfMemoryError
from octavo.kernels.reference import device as reference
from octavo.models.registry import read_model_config
from octavo.models.seated_adapters import SeatedAdapters
from octavo.quantization import Unquantised
from octavo.worker.gpu.parked_weights import storages_of
from octavo.worker.start.gpu_fit import check_gpu_memory
from octavo.worker.start.memory import format_bytes
from octavo.worker.start.plan import plan_start
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.eagle_heads import ReferenceHead
from tests.support.runtime.gpu_engine import as_on_gpus
from tests.support.runtime.inspected import inspect
from tests.support.runtime.rank_threads import LoneRank
from tests.support.runtime.shared_kinds import MOE
from tests.support.runtime.tiny_llama import save_tiny_llama

CUDA = torch.device("cuda", 0)
SIZES: dict[str, Any] = {
    "vocab_size": 50_000,
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_attention_heads": 16,
    "head_dim": 32,
}


@pytest.mark.parametrize(
    ("memory", "flags"),
    [
        ("64Mi", ()),
        ("1Gi", ("--max-model-len", "131072", "--gpu-memory-utilization", "0.3")),
    ],
)
def test_a_gpu_that_a_start_refuses_is_refused_in_its_words(
    memory: str,
    flags: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    positions = {"max_position_embeddings": 131_072, "num_hidden_layers": 8}
    make_checkpoint(tmp_path, "llama", **SIZES, **positions)
    asked = ["inspect", str(tmp_path), "--dtype", "bfloat16", "--gpu-memory", memory, *flags]
    assert run([*asked, "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    size = found["gpu"]["memory_bytes"]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (size, size))
    values: dict[str, Any] = {}
    if flags:
        values = {"max_model_len": 131_072, "gpu_memory_utilization": 0.3}
    config = EngineConfig(model=str(tmp_path), **values)
    with pytest.raises(OutOfMemoryError) as caught:
        check_gpu_memory(config, read_model_config(tmp_path), CUDA, torch.bfloat16, Unquantised())
    assert found["gpu"]["problem"] == str(caught.value)
    assert run(asked) == 3
    assert str(caught.value) in capsys.readouterr().out


def test_more_gpus_are_among_the_remedies_where_they_would_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_checkpoint(tmp_path, "llama", num_attention_heads=8, num_key_value_heads=8)
    (tmp_path / "model.safetensors").unlink()
    path = tmp_path / "config.json"
    big = {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "head_dim": 512,
    }
    path.write_text(json.dumps(json.loads(path.read_text()) | big))
    gpu = inspect(capsys, tmp_path, "--dtype", "bfloat16", "--gpu-memory", "6Gi")["gpu"]
    assert gpu["num_gpus"] == 4
    assert "weights take" in gpu["problem"]
    assert gpu["problem"].endswith(
        "Or let 4 such GPUs share the model: --tensor-parallel-size 4 (spec.resources.gpu)."
    )


def test_the_longest_context_is_what_the_start_takes_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_checkpoint(tmp_path, "llama", **SIZES, max_position_embeddings=2**20, num_hidden_layers=8)
    flags = ("--dtype", "bfloat16", "--gpu-memory", "2Gi")
    found = inspect(capsys, tmp_path, *flags)
    gpu, each = found["gpu"], found["kv_bytes_per_token"]
    assert 0 < gpu["longest_context"] < found["context"] == 2**20
    assert gpu["longest_context"] * each + found["weight_bytes"] <= 0.9 * 2 * 2**30
    assert gpu["num_gpus"] > 1
    half = inspect(capsys, tmp_path, *flags, "--kv-cache-dtype", "fp8")
    assert half["kv_bytes_per_token"] * 2 == each
    assert half["gpu"]["longest_context"] == min(2**20, 2 * gpu["longest_context"])
    few = inspect(capsys, tmp_path, *flags, "--max-model-len", str(gpu["longest_context"]))
    assert (few["gpu"]["num_gpus"], few["gpu"]["problem"]) == (1, None)
    size = gpu["memory_bytes"]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (size, size))
    config = EngineConfig(model=str(tmp_path), max_model_len=gpu["longest_context"])
    check_gpu_memory(config, read_model_config(tmp_path), CUDA, torch.bfloat16, Unquantised())


def test_a_cache_without_room_is_a_refusal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The start would find it out when it has measured the activations."""
    make_checkpoint(tmp_path)
    found = inspect(capsys, tmp_path, "--dtype", "bfloat16", "--gpu-memory", "100Mi")
    assert found["gpu"]["longest_context"] == 0
    assert found["gpu"]["num_gpus"] is None
    assert "activations about" in found["gpu"]["problem"]


def test_a_quantised_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_checkpoint(tmp_path, **SIZES)
    plain = inspect(capsys, tmp_path, "--dtype", "bfloat16")
    path = tmp_path / "config.json"
    config = {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": config}))
    found = inspect(capsys, tmp_path, "--dtype", "bfloat16")
    assert (plain["quantization"], found["quantization"]) == (None, "awq")
    assert found["weight_bytes"] < plain["weight_bytes"]
    on_gpu = inspect(capsys, tmp_path, "--dtype", "float16", "--gpu-memory", "80Gi")
    # Beside words and scales a byte for each zero, where panels have two.
    assert 0.95 * found["weight_bytes"] < on_gpu["weight_bytes"] < found["weight_bytes"]
    assert (on_gpu["gpu"]["num_gpus"], on_gpu["gpu"]["problem"]) == (1, None)


@pytest.mark.parametrize(("family", "more"), [("llama", {}), ("qwen2_moe", MOE)])
@pytest.mark.parametrize("flags", [(), ("--max-loras", "3", "--max-lora-rank", "20")])
def test_ranks_and_adapters_take_what_they_take_at_a_start(
    family: str,
    more: dict[str, Any],
    flags: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The bytes of the first of two ranks, as it is loaded, and of the seats beside it; experts have none."""
    sizes = {**SIZES, "vocab_size": 1000, "num_key_value_heads": 4, "num_hidden_layers": 2}
    make_checkpoint(tmp_path, family, **{**sizes, **more})
    asked = ("--dtype", "bfloat16", "--gpu-memory", "1Gi", "--tensor-parallel-size", "2")
    plain = inspect(capsys, tmp_path, *asked)
    found = inspect(capsys, tmp_path, *asked, "--enable-lora", *flags)
    assert plain["num_ranks"] == found["num_ranks"] == 2
    assert plain["gpu"]["adapter_bytes"] is None
    alone = inspect(capsys, tmp_path, "--dtype", "bfloat16")
    assert found["kv_bytes_per_token"] * 2 == alone["kv_bytes_per_token"]
    config = EngineConfig(
        model=str(tmp_path),
        dtype="bfloat16",
        device=Device.CPU,
        tensor_parallel_size=2,
        enable_lora=True,
        max_loras=3 if flags else 1,
        max_lora_rank=20 if flags else 16,
    )
    plan = as_on_gpus(reference, plan_start(config))
    loaded = plan.build(LoneRank(0))
    assert isinstance(plan.adapters, SeatedAdapters)
    seats = plan.adapters._seats
    assert seats is not None
    assert found["gpu"]["adapter_bytes"] == seats.memory.nbytes + seats.table.nbytes
    taken = sum(one.nbytes() for one in storages_of(loaded))
    weights = taken - seats.memory.nbytes - seats.table.nbytes
    assert found["weight_bytes"] == pytest.approx(weights, rel=0.03)  # norms and routers beside


def test_seats_that_a_gpu_has_no_room_for_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_checkpoint(tmp_path, "llama", **SIZES)
    many = ("--enable-lora", "--max-loras", "64", "--max-lora-rank", "512")
    gpu = inspect(capsys, tmp_path, "--gpu-memory", "1Gi", *many)["gpu"]
    size = format_bytes(gpu["adapter_bytes"])
    assert f"{size} are seats of adapters: lower --max-loras or --max-lora-rank." in gpu["problem"]
    assert run(["inspect", str(tmp_path), "--max-loras", "2"]) == 3
    assert "--enable-lora" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["0", "1e30", "0.5", "1023Ki", "1.1Ti"])
def test_what_is_no_memory_of_a_gpu_is_refused(
    size: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["inspect", "builtin://demo", "--gpu-memory", size]) == 3
    assert f"--gpu-memory is '{size}'" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["eagle3", "draft_model"])
def test_what_guesses_beside_a_model_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    """The bytes of the tensors that a start would hold, and of the layers' keys and values; a GPU holds as
    many tokens fewer."""
    length: dict[str, Any] = {"max_position_embeddings": 2**20}
    save_tiny_llama(tmp_path / "model", **length)
    if method == "eagle3":
        head = ReferenceHead(num_watched=2, draft_vocab_size=100, **length)
        head.save(tmp_path / "other", eagle_aux_hidden_state_layer_ids=[0, 1])
        num_layers = 1
    else:
        head = save_tiny_llama(tmp_path / "other", num_hidden_layers=3, **length)
        num_layers = 3
    wanted = json.dumps({"method": method, "model": str(tmp_path / "other")})
    flags: tuple[str, ...] = ("--dtype", "float32", "--speculative-config", wanted)
    found = inspect(capsys, tmp_path / "model", *flags)["drafter"]
    matrices = {id(one): one.numel() for one in head.parameters() if one.dim() > 1}
    assert found["weight_bytes"] == 4 * sum(matrices.values())
    assert found["kv_bytes_per_token"] == num_layers * 2 * 2 * 16 * 4
    flags = (*flags, "--gpu-memory", "1Gi")
    alone, both = (
        inspect(capsys, tmp_path / "model", *some)["gpu"] for some in (flags[:2] + flags[4:], flags)
    )
    share = 2 / (2 + num_layers)
    assert both["longest_context"] == pytest.approx(share * alone["longest_context"], rel=0.02)
    run(["inspect", str(tmp_path / "model"), *flags])
    assert method in capsys.readouterr().out
