"""Agreement of nodes: what must be the same on all of them, and what differs, by name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import torch

from octavo.config import EngineConfig, LoadFormat
from octavo.errors import InvalidConfigurationError, OctavoError
from octavo.loading.checkpoint_files import weight_files
from octavo.options import option_fields

_SAMPLE_BYTES = 2**16


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """Of a node, to the first.

    Args:
        model: Digest of config.json and of names, sizes, first and last bytes of the weights' files.
        options: Of the engine, as given.
        dtype: That `auto` has become.
        num_blocks, max_model_len: Of the KV cache that it has room for, on each rank; 0 on GPUs, whose ranks
            find it out together.
        gpu: Their kind; None: ranks run on CPUs.
    """

    address: str
    version: str
    torch_version: str
    model: str
    num_nodes: int
    options: dict[str, Any]
    dtype: str
    num_blocks: int
    max_model_len: int
    gpu: str | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Of the first node, to all: the KV cache's size, or why there is no group.

    Args:
        reason: Of the error that a refusal is, on every node.
    """

    refusal: str | None = None
    reason: str = OctavoError.reason
    num_blocks: int = 0
    max_model_len: int = 0


def hello_of(
    config: EngineConfig,
    address: str,
    *,
    dtype: str,
    num_blocks: int,
    max_model_len: int,
    gpu: str | None = None,
) -> Hello:
    return Hello(
        address=address,
        version=metadata.version("octavo"),
        torch_version=str(torch.__version__),
        model=model_digest(
            Path(config.model), has_weights=config.load_format is not LoadFormat.DUMMY
        ),
        num_nodes=config.num_nodes,
        options=msgspec.to_builtins(
            {one.spelling: getattr(config, one.name) for one in option_fields(EngineConfig)}
        ),
        dtype=dtype,
        num_blocks=num_blocks,
        max_model_len=max_model_len,
        gpu=gpu,
    )


def agree(hellos: Sequence[Hello]) -> Plan:
    """The cache that all nodes have room for; a refusal names the first node that differs from node 0."""
    first = hellos[0]
    for node, hello in enumerate(hellos):
        if found := difference(first, hello):
            name, ours, theirs = found
            return Plan(
                refusal=f"Node {node} ({hello.address}) and node 0 ({first.address}) differ in {name}: "
                f"{theirs} and {ours}. All nodes need the same.",
                reason=InvalidConfigurationError.reason,
            )
    return Plan(
        num_blocks=min(hello.num_blocks for hello in hellos),
        max_model_len=min(hello.max_model_len for hello in hellos),
    )


def difference(first: Hello, other: Hello) -> tuple[str, object, object] | None:
    """Name, and the value on each side."""
    pairs = [
        ("octavo's version", first.version, other.version),
        ("torch's version", first.torch_version, other.torch_version),
        ("nnodes", first.num_nodes, other.num_nodes),
    ]
    names = {**first.options, **other.options}
    pairs += [(name, first.options.get(name), other.options.get(name)) for name in names]
    pairs.append(("their GPUs", first.gpu or "none", other.gpu or "none"))
    pairs.append(("dtype", first.dtype, other.dtype))
    pairs.append(("the model's files (digest)", first.model[:12], other.model[:12]))
    return next((pair for pair in pairs if pair[1] != pair[2]), None)


def model_digest(folder: Path, *, has_weights: bool) -> str:
    """Not of every byte, which would be to read the model twice."""
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted(weight_files(folder)) if has_weights else ():
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            digest.update(file.read(_SAMPLE_BYTES))
            file.seek(max(0, size - _SAMPLE_BYTES))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()
