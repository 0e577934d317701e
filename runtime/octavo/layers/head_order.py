"""Order of heads. Where a checkpoint keeps the queries, keys and values that kernels want side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from octavo.layers.rotary import channel_order


@dataclass(frozen=True, slots=True)
class HeadOrder:
    """Products give all queries, then all keys, then all values, with the channels of what positions turn in
    the order of `channel_order`. This is how the stored outputs lie instead.

    Args:
        rotary_width: Channels of a head that turn, its first ones; None: all.
        is_grouped: Each key head lies between its queries and its value (GPT-NeoX, Falcon); else heads lie
            as products give them.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    rotary_width: int | None
    is_grouped: bool

    def rows(self) -> np.ndarray:
        """Of each output of the product, the stored one: `[(num_heads + 2 * num_kv_heads) * head_dim]`
        int64."""
        num_turning = self.num_heads + self.num_kv_heads
        heads: np.ndarray = np.arange((num_turning + self.num_kv_heads) * self.head_dim)
        if self.is_grouped:
            groups = heads.reshape(self.num_kv_heads, -1, self.head_dim)
            parts = (groups[:, :-2], groups[:, -2], groups[:, -1])
            heads = np.concatenate([part.reshape(-1, self.head_dim) for part in parts])
        by_head = heads.reshape(-1, self.head_dim)
        channels = channel_order(self.head_dim, self.rotary_width)
        return np.concatenate([by_head[:num_turning, channels], by_head[num_turning:]]).reshape(-1)
