"""Node options: over which machines a model is spread, and as which of them this server runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from octavo.errors import InvalidConfigurationError
from octavo.options import Option, Panel


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """Each field's `Option` says what it means."""

    num_nodes: Annotated[
        int,
        Option(
            panel=Panel.ENGINE,
            flag="nnodes",
            least=1,
            most=64,
            help="Nodes that share the model; see --node-rank.",
            details="nodes that share the model, each with as many of its ranks: see "
            "[several nodes](../how-to/tensor-parallel.md#several-nodes)",
        ),
    ] = 1
    node_rank: Annotated[
        int,
        Option(
            panel=Panel.ENGINE,
            least=0,
            most=63,
            variable="OCTAVO_NODE_RANK",
            help="Which of the nodes this is. 0 serves, the others are headless.",
            details="which of the nodes this is; 0 serves, the others are headless; also `OCTAVO_NODE_RANK`",
        ),
    ] = 0
    master_addr: Annotated[
        str,
        Option(
            panel=Panel.ENGINE,
            variable="OCTAVO_LEADER",
            help="Address of node 0 on the nodes' own network.",
            details="address or name of node 0 on the nodes' own network; also `OCTAVO_LEADER`",
        ),
    ] = "127.0.0.1"
    master_port: Annotated[
        int,
        Option(
            panel=Panel.ENGINE,
            least=1,
            most=65535,
            help="Port of node 0 at which the nodes meet.",
        ),
    ] = 29501
    pipeline_parallel_size: Annotated[
        int,
        Option(
            panel=Panel.ENGINE,
            least=1,
            most=64,
            is_hidden=True,
            help="Stages of layers, one behind the other: 1.",
            details="stages of layers, one behind the other, as vLLM has it; more than 1 is refused: "
            "[what it would take](../explanation/engine.md#no-pipelines)",
        ),
    ] = 1

    def check_nodes(self) -> None:
        """Raises `InvalidConfigurationError`."""
        if self.node_rank >= self.num_nodes:
            raise InvalidConfigurationError(
                f"node_rank is {self.node_rank} and nnodes is {self.num_nodes}; nodes count from 0 to "
                f"{self.num_nodes - 1}."
            )
        if self.pipeline_parallel_size > 1:
            raise InvalidConfigurationError(
                f"pipeline_parallel_size is {self.pipeline_parallel_size}, and layers are not spread over "
                "devices one behind the other: every device has a part of each layer. Leave it out, and give "
                f"--tensor-parallel-size {self.pipeline_parallel_size}, over several machines with --nnodes."
            )
