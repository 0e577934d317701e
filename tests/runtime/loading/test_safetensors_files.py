"""Checkpoints on disk: whole, sharded, damaged or incomplete."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from octavo.config import EngineConfig, LoadFormat
from octavo.errors import ModelInvalidError
from octavo.loading import SafetensorsWeights, Slice
from octavo.worker.start.create import create_executor
from tests.support.runtime.checkpoints import make_checkpoint


def load(folder: Path, load_format: LoadFormat = LoadFormat.AUTO) -> None:
    create_executor(
        EngineConfig(model=str(folder), kv_cache_memory_bytes=2**20, load_format=load_format)
    )


def rewrite(folder: Path, change: object) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)  # type: ignore[operator]
    save_file(tensors, path)


def test_shards_are_read_through_their_index(tmp_path: Path) -> None:
    reference = make_checkpoint(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    names = sorted(tensors)
    halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, own in halves.items():
        save_file({name: tensors[name] for name in own}, tmp_path / file)
    index = {"weight_map": {name: file for file, own in halves.items() for name in own}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    del reference
    load(tmp_path)
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(ModelInvalidError, match=r"names b\.safetensors, which is missing"):
        load(tmp_path)


def test_missing_and_unexpected_tensors_are_named_together(tmp_path: Path) -> None:
    make_checkpoint(tmp_path)

    def change(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["model.layers.1.mlp.up_proj.weight"]
        tensors["model.layers.0.self_attn.q_proj.lora_A"] = torch.zeros(2)

    rewrite(tmp_path, change)
    with pytest.raises(ModelInvalidError) as error:
        load(tmp_path)
    assert "model.layers.1.mlp.up_proj.weight is missing" in str(error.value)
    assert "model.layers.0.self_attn.q_proj.lora_A is unexpected" in str(error.value)


def test_wrong_shape_is_told_with_both_shapes(tmp_path: Path) -> None:
    make_checkpoint(tmp_path)

    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.norm.weight"] = torch.ones(50)

    rewrite(tmp_path, change)
    with pytest.raises(ModelInvalidError, match=r"model\.norm\.weight has shape \[50\].*\[48\]"):
        load(tmp_path)


def test_a_long_list_of_problems_is_cut(tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    rewrite(tmp_path, lambda tensors: [tensors.pop(n) for n in list(tensors)[5:]])
    with pytest.raises(ModelInvalidError, match=r"and \d+ more"):
        load(tmp_path)


def test_tied_models_may_carry_their_head_and_old_ones_rotary_tables(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, tie_word_embeddings=True)

    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)

    rewrite(tmp_path, change)
    load(tmp_path)


def test_a_clone_without_its_large_files_is_told_how_to_get_them(tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    pointer = "version https://git-lfs.example/spec/v1\noid sha256:0\nsize 5\n"
    (tmp_path / "model.safetensors").write_text(pointer)
    with pytest.raises(ModelInvalidError, match=r"Git's pointer .* `git lfs pull`"):
        load(tmp_path)


@pytest.mark.parametrize("keep", [0, 7, 500])
def test_truncated_file_is_called_damaged(tmp_path: Path, keep: int) -> None:
    make_checkpoint(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelInvalidError, match="is damaged"):
        load(tmp_path)


def test_folder_without_weights(tmp_path: Path) -> None:
    make_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelInvalidError, match=r"no \*\.safetensors"):
        load(tmp_path)
    load(tmp_path, LoadFormat.DUMMY)  # which needs none


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int32])
def test_tensors_and_parts_of_them_come_as_they_are_stored(
    tmp_path: Path, dim: int, dtype: torch.dtype
) -> None:
    stored = {name: (torch.randn(12, 8) * 50).to(dtype) for name in ("a", "b")}
    save_file(stored, tmp_path / "model.safetensors")
    source = SafetensorsWeights(tmp_path)
    b, a = source.tensors({"b": (12, 8), "a": (12, 8)})
    assert (a.dtype, b.dtype) == (dtype, dtype)
    assert torch.equal(a, stored["a"])
    assert torch.equal(b, stored["b"])
    start, stop = 2, 7
    (part,) = source.tensors({"b": (12, 8)}, Slice(dim, start, stop))
    assert torch.equal(part, stored["b"].narrow(dim, start, stop - start))
    assert source.has("a")
    assert not source.has("c")
    source.finish(lambda _: False)


def resident_file_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("RssFile:"))
    return 1024 * int(line.split()[1])


def test_a_shard_reads_its_bytes_alone(tmp_path: Path) -> None:
    shape, mib = (8192, 1024), 2**20  # 32 MiB
    save_file({"a": torch.ones(shape)}, tmp_path / "model.safetensors")
    source = SafetensorsWeights(tmp_path)
    torch.ones(shape).sum()  # maps torch's own code
    before = resident_file_bytes()
    (part,) = source.tensors({"a": shape}, Slice(0, 4096, 4608))
    assert float(part.sum()) == 512 * 1024
    assert 2 * mib <= resident_file_bytes() - before < 8 * mib
    (whole,) = source.tensors({"a": shape})
    assert float(whole.sum()) == 8192 * 1024
    assert resident_file_bytes() - before >= 32 * mib


def test_a_part_of_what_is_missing_or_has_another_shape_is_told_like_the_whole(
    tmp_path: Path,
) -> None:
    save_file({"a": torch.zeros(12, 8)}, tmp_path / "model.safetensors")
    source = SafetensorsWeights(tmp_path)
    missing, other = source.tensors({"b": (6, 2), "a": (12, 9)}, Slice(0, 0, 3))
    assert (missing.shape, other.shape) == ((3, 2), (3, 9))
    with pytest.raises(ModelInvalidError, match=r"b is missing; a has shape \[12, 8\].*\[12, 9\]"):
        source.finish(lambda _: False)


def test_codes_where_numbers_belong_are_named(tmp_path: Path) -> None:
    make_checkpoint(tmp_path)

    def change(tensors: dict[str, torch.Tensor]) -> None:
        name = "model.layers.0.mlp.up_proj.weight"
        tensors[name] = torch.zeros(tensors[name].shape, dtype=torch.int32)

    rewrite(tmp_path, change)
    with pytest.raises(ModelInvalidError, match=r"up_proj\.weight is torch\.int32, not a floating"):
        load(tmp_path)
