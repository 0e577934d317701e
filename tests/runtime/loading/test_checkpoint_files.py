"""Which files are the checkpoint: transformers' choice on the same folder, whatever lies beside it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from octavo.errors import ModelInvalidError
from octavo.loading import SafetensorsWeights
from octavo.loading.checkpoint_files import Listing, choose_weight_files, weight_files
from tests.support.runtime.checkpoints import make_checkpoint

INDEX = "model.safetensors.index.json"
# What repositories and people's folders hold beside a model; each with the model's own tensor names.
STRAYS = (
    "old-model.safetensors",
    "model-old.safetensors",
    "zz.safetensors",
    "adapter_model.safetensors",
    "consolidated.safetensors",
    "consolidated-00001-of-00002.safetensors",
    "model.fp16.safetensors",
    "model.backup-00001-of-00001.safetensors",
    "optimizer.safetensors",
    "._model.safetensors",
    "Model.safetensors",
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    folder = tmp_path_factory.mktemp("model")
    make_checkpoint(folder, num_hidden_layers=1)
    return load_file(folder / "model.safetensors")


def write_config(folder: Path, **more: object) -> None:
    config = transformers.LlamaConfig(
        vocab_size=97,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=1,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=8,
    )
    values = {**config.to_dict(), "architectures": ["LlamaForCausalLM"], **more}
    (folder / "config.json").write_text(json.dumps(values))


def write_shards(
    folder: Path, weights: dict[str, torch.Tensor], count: int, *, stem: str = "model"
) -> dict[str, str]:
    """Saves shards and returns the index's map."""
    names = sorted(weights)
    homes: dict[str, str] = {}
    for number in range(count):
        file = f"{stem}-{number + 1:05d}-of-{count:05d}.safetensors"
        own = names[number::count]
        save_file({name: weights[name] for name in own}, folder / file, {"format": "pt"})
        homes |= dict.fromkeys(own, file)
    return homes


def write_index(folder: Path, homes: dict[str, str], name: str = INDEX) -> None:
    (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": homes}))


def shifted(weights: dict[str, torch.Tensor], by: float) -> dict[str, torch.Tensor]:
    return {name: tensor + by for name, tensor in weights.items()}


def ours(folder: Path) -> dict[str, torch.Tensor]:
    read: dict[str, torch.Tensor] = {}
    for file in weight_files(folder):
        tensors = load_file(file)
        assert not read.keys() & tensors.keys()
        read |= tensors
    return read


def theirs(folder: Path) -> dict[str, torch.Tensor]:
    return dict(transformers.AutoModelForCausalLM.from_pretrained(folder).state_dict())


def assert_equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


@given(
    strays=st.lists(st.sampled_from(STRAYS), unique=True, max_size=6),
    count=st.integers(1, 3),
    form=st.sampled_from(["whole", "index", "whole-and-loose-shards", "index-names-whole"]),
)
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_what_lies_beside_the_model_is_left_alone_as_by_transformers(
    tmp_path_factory: pytest.TempPathFactory,
    weights: dict[str, torch.Tensor],
    strays: list[str],
    count: int,
    form: str,
) -> None:
    folder = tmp_path_factory.mktemp("folder")
    write_config(folder)
    for number, name in enumerate(strays):
        save_file(shifted(weights, number + 2.0), folder / name, {"format": "pt"})
    if form == "index":
        write_index(folder, write_shards(folder, weights, count))
    else:
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    if form == "whole-and-loose-shards":
        write_shards(folder, shifted(weights, 1.0), count)
    if form == "index-names-whole":
        write_index(folder, dict.fromkeys(weights, "model.safetensors"))
    assert_equal(ours(folder), theirs(folder))
    assert_equal(ours(folder), weights)


def test_shards_without_an_index_are_taken_when_all_are_there(
    tmp_path: Path, weights: dict[str, torch.Tensor]
) -> None:
    write_config(tmp_path)
    write_shards(tmp_path, weights, 3)
    save_file(shifted(weights, 1.0), tmp_path / "old-model.safetensors")
    assert_equal(ours(tmp_path), weights)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ModelInvalidError, match=r"2 of 3 shards .*model-00001-of-00003"):
        weight_files(tmp_path)


def test_two_sets_of_shards_without_an_index_are_refused(
    tmp_path: Path, weights: dict[str, torch.Tensor]
) -> None:
    write_shards(tmp_path, weights, 2)
    write_shards(tmp_path, shifted(weights, 1.0), 3)
    with pytest.raises(ModelInvalidError, match="not shards of one checkpoint"):
        weight_files(tmp_path)


def test_the_index_wins_over_a_whole_file_that_it_does_not_name_and_says_so(
    tmp_path: Path, weights: dict[str, torch.Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    write_index(tmp_path, write_shards(tmp_path, weights, 2))
    save_file(shifted(weights, 1.0), tmp_path / "model.safetensors")
    with caplog.at_level(logging.WARNING):
        assert_equal(ours(tmp_path), weights)
    assert "model.safetensors beside them is not read" in caplog.text


def test_an_index_whose_files_are_all_gone_yields_to_the_whole_file_as_in_transformers(
    tmp_path: Path, weights: dict[str, torch.Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    write_config(tmp_path)
    write_index(tmp_path, dict.fromkeys(weights, "model-00001-of-00001.safetensors"))
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with caplog.at_level(logging.WARNING):
        assert_equal(ours(tmp_path), theirs(tmp_path))
    assert "so model.safetensors is the model" in caplog.text


@pytest.mark.parametrize("is_index", [False, True])
def test_the_file_that_the_config_states_wins_as_in_transformers(
    tmp_path: Path, weights: dict[str, torch.Tensor], is_index: bool
) -> None:
    stated = "best.safetensors.index.json" if is_index else "best.safetensors"
    write_config(tmp_path, transformers_weights=stated)
    save_file(shifted(weights, 1.0), tmp_path / "model.safetensors", {"format": "pt"})
    if is_index:
        write_index(tmp_path, write_shards(tmp_path, weights, 2, stem="best"), stated)
    else:
        save_file(weights, tmp_path / stated, {"format": "pt"})
    assert_equal(ours(tmp_path), theirs(tmp_path))
    assert_equal(ours(tmp_path), weights)
    (tmp_path / stated).unlink()
    words = r"transformers_weights is 'best\.safetensors.*Download the model again, or correct"
    with pytest.raises(ModelInvalidError, match=words):
        weight_files(tmp_path)


@pytest.mark.parametrize("form", ["whole", "shards", "index"])
def test_one_checkpoint_under_another_name_is_taken_with_a_warning(
    tmp_path: Path, weights: dict[str, torch.Tensor], form: str, caplog: pytest.LogCaptureFixture
) -> None:
    stem = "gptq_model-4bit-128g"
    if form == "whole":
        save_file(weights, tmp_path / f"{stem}.safetensors")
    else:
        homes = write_shards(tmp_path, weights, 2, stem=stem)
        if form == "index":
            write_index(tmp_path, homes, f"{stem}.safetensors.index.json")
    save_file(shifted(weights, 1.0), tmp_path / "consolidated.safetensors")
    with caplog.at_level(logging.WARNING):
        assert_equal(ours(tmp_path), weights)
    assert "there is no model.safetensors" in caplog.text
    save_file(shifted(weights, 1.0), tmp_path / "another.safetensors")
    with pytest.raises(
        ModelInvalidError, match=r"nothing tells which.*another\.safetensors|Rename"
    ):
        weight_files(tmp_path)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["adapter_model.safetensors"], "an adapter"),
        (["consolidated.00.safetensors", "params.json"], "own layout"),
        (["pytorch_model.bin"], r"pickle weights \(pytorch_model\.bin\).*refused"),
        (["model-Q4_K_M.gguf", "README.md"], "only GGUF weights"),
        (["tf_model.h5"], "only TensorFlow weights"),
        (["._model.safetensors"], r"no \*\.safetensors weights"),
        ([], r"no \*\.safetensors weights"),
    ],
)
def test_what_is_no_model_is_refused_by_name(names: list[str], words: str) -> None:
    with pytest.raises(ModelInvalidError, match=words):
        choose_weight_files(Listing("s3://b/m", frozenset(names), unread))


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_an_adapter_beside_the_model_is_refused(suffix: str) -> None:
    """transformers with PEFT puts it onto the model, and without it does not."""
    names = frozenset({"model.safetensors", "adapter_config.json", "README.md"})
    listing = Listing("/m", names, unread)
    assert choose_weight_files(listing).names == ("model.safetensors",)  # merged, and all else gone
    both = Listing("/m", names | {f"adapter_model.{suffix}"}, unread)
    with pytest.raises(ModelInvalidError, match=rf"adapter_config\.json, adapter_model\.{suffix}"):
        choose_weight_files(both)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "\xff",
        '{"weight_map": 3}',
        '{"weight_map": {}}',
        '{"weight_map": {"a": 1}}',
        '{"weight_map": {"a": "../b.safetensors"}}',
        '{"weight_map": {"a": "sub/b.safetensors"}}',
        '{"weight_map": {"a": "/etc/b.safetensors"}}',
        '{"weight_map": {"a": "pytorch_model.bin"}}',
    ],
)
def test_a_bad_index_is_refused_whatever_else_is_there(content: str) -> None:
    names = frozenset({INDEX, "model.safetensors", "b.safetensors", "pytorch_model.bin"})
    with pytest.raises(ModelInvalidError, match=r"s3://b/m/model\.safetensors\.index\.json"):
        choose_weight_files(Listing("s3://b/m", names, lambda _: content.encode("latin-1")))


def test_a_missing_shard_is_named() -> None:
    index = json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}).encode()
    names = frozenset({INDEX, "a.safetensors"})
    with pytest.raises(ModelInvalidError, match=r"names b\.safetensors, which is missing"):
        choose_weight_files(Listing("/m", names, lambda _: index))


@pytest.mark.parametrize("has_index", [True, False])
def test_a_tensor_in_two_files_is_refused_with_both(
    tmp_path: Path, weights: dict[str, torch.Tensor], has_index: bool
) -> None:
    homes = write_shards(tmp_path, weights, 2)
    if has_index:
        write_index(tmp_path, homes)
    file = tmp_path / "model-00001-of-00002.safetensors"
    twice = homes_of(homes, "model-00002-of-00002.safetensors")
    save_file({**load_file(file), twice: weights[twice] + 1.0}, file)
    with pytest.raises(ModelInvalidError, match=f"{twice} is in two files .*-00001-.*-00002-"):
        SafetensorsWeights(tmp_path)


def homes_of(homes: dict[str, str], file: str) -> str:
    return next(name for name, home in homes.items() if home == file)


def unread(name: str) -> bytes:
    raise AssertionError(f"{name} is no index")
