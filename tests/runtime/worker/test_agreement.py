"""Nodes agree on what must be the same, or the refusal names what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from octavo.config import EngineConfig, LoadFormat, NodePlace
from octavo.errors import InvalidConfigurationError
from octavo.options import option_fields
from octavo.worker.ranks.agreement import Hello, Plan, agree, hello_of, model_digest

PLACE = NodePlace(num_nodes=2, node_rank=0, master_addr="10.0.0.1", master_port=29501)


def hello(folder: Path, **options: Any) -> Hello:
    config = EngineConfig(
        model=str(folder),
        load_format=LoadFormat.DUMMY,
        tensor_parallel_size=2,
        place=PLACE,
        **options,
    )
    return hello_of(config, "10.0.0.1", dtype="torch.float32", num_blocks=40, max_model_len=512)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def test_the_cache_is_that_of_the_smallest_node(folder: Path) -> None:
    first = hello(folder)
    other = msgspec.structs.replace(first, address="10.0.0.2", num_blocks=30, max_model_len=480)
    over_the_wire = msgspec.json.decode(msgspec.json.encode(other), type=Hello)
    assert agree([first, over_the_wire]) == Plan(num_blocks=30, max_model_len=480)


@pytest.mark.parametrize(
    ("field", "value", "name"),
    [
        ("version", "9.9", "octavo's version: 9.9 and"),
        ("torch_version", "1.0", "torch's version: 1.0 and"),
        ("num_nodes", 3, "nnodes: 3 and 2"),
        ("dtype", "torch.bfloat16", "dtype: torch.bfloat16 and torch.float32"),
        ("model", "abc", "the model's files (digest): abc and"),
    ],
)
def test_a_node_that_differs_is_refused_by_name(
    folder: Path, field: str, value: object, name: str
) -> None:
    first = hello(folder)
    other = msgspec.structs.replace(first, address="10.0.0.2", **{field: value})
    refusal = agree([first, first, other]).refusal
    assert refusal is not None
    assert refusal.startswith(f"Node 2 (10.0.0.2) and node 0 (10.0.0.1) differ in {name}")


def test_every_option_of_the_engine_is_compared(folder: Path) -> None:
    first = hello(folder)
    assert set(first.options) == {field.spelling for field in option_fields(EngineConfig)}
    refusal = agree([first, hello(folder, block_size=32)]).refusal
    assert refusal is not None
    assert "differ in block_size: 32 and 16." in refusal


def test_a_checkpoint_is_known_by_its_names_sizes_and_ends(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(200_000))
    found = {model_digest(tmp_path, has_weights=True)}
    for change in (bytes(200_001), b"x" + bytes(199_999), bytes(199_999) + b"x"):
        weights.write_bytes(change)
        found.add(model_digest(tmp_path, has_weights=True))
    (tmp_path / "config.json").write_text("{ }")
    found.add(model_digest(tmp_path, has_weights=True))
    assert len(found) == 5


def test_ranks_are_dealt_out_evenly(folder: Path) -> None:
    place = msgspec.structs.replace(PLACE, node_rank=1)
    config = EngineConfig(model=str(folder), tensor_parallel_size=6, place=place)
    assert config.local_ranks == range(3, 6)
    with pytest.raises(
        InvalidConfigurationError, match=r"tensor_parallel_size is 3 and nnodes is 2"
    ):
        EngineConfig(model=str(folder), tensor_parallel_size=3, place=place)
