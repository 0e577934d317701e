"""Recording of transformers' modules: whether a CUDA graph can hold their decode steps, known without a GPU.

A graph replays launches. It holds nothing that waits for the device, reads its values on the host or moves
tensors between the two: recording fails there. So a step is tried with fake tensors that claim to lie on a
GPU, and every operation is looked at. What the trial misses, the recording itself finds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from octavo.models.from_transformers.interface import UNMIXED
from octavo.models.from_transformers.outline import Outline, fake_model, without_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from transformers import PreTrainedConfig, PreTrainedModel

_ROWS = 3
_DEVICE = torch.device("cuda", 0)
_WAITS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
_COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)  # noqa: SLF001
_PICKS = (
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put.default,
    torch.ops.aten.index_put_.default,
)
_MADE_ON_HOST = (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor)


def recording_problem(
    model_class: type[PreTrainedModel], config: PreTrainedConfig, outline: Outline
) -> str | None:
    """Why no graph can hold a decode step, experts by Octavo's products; None: one can."""
    if outline.experts_problem is not None:
        return f"experts run by transformers' own implementation ({outline.experts_problem})"
    try:
        with without_values():
            model = fake_model(model_class, config, UNMIXED)
            _move(model, _DEVICE)
            base = model.get_submodule(outline.base)
            _step(base)  # what is made at the first call is there when a step is recorded
            with HostWatch() as watch:
                _step(base)
    except Exception as error:
        words = " ".join(str(error).split())
        return f"a step fails without values: {type(error).__name__}: {words:.120}"
    return watch.problem


class HostWatch:
    """Looks at operations for what a graph cannot hold, while it is open.

    Attributes:
        problem: The first that was seen.
    """

    def __init__(self) -> None:
        self.problem: str | None = None
        self._modes = (_Functions(self._note), _Operations(self._note))

    def __enter__(self) -> Self:
        for mode in self._modes:
            mode.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)  # type: ignore[no-untyped-call]

    def _note(self, problem: str) -> None:
        self.problem = self.problem or problem


class _Functions(TorchFunctionMode):
    """What is made of numbers on the host reaches a device in no operation that a dispatcher sees."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = note

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func in _MADE_ON_HOST and _is_on_device(made):
            self._tell("a tensor is made of numbers on the host")
        return made


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tell = note

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = _tensors((args, kwargs))
        if any(map(_is_on_device, given)):
            waits = _picks_by_mask(args[1]) if func in _PICKS else _WAITS & set(func.tags)
            if waits:
                self._tell(f"{func} waits for the device")
            if any(not _is_on_device(one) and one.dim() for one in given):
                self._tell(f"{func} reads a tensor on the host")
        made = func(*args, **(kwargs or {}))
        if func in _COPIES and len({_is_on_device(one) for one in (*given, *_tensors(made))}) > 1:
            self._tell(f"{func} moves a tensor between host and device")
        return made


def _step(base: torch.nn.Module) -> None:
    ids = torch.zeros((1, _ROWS), dtype=torch.int64, device=_DEVICE)
    base(input_ids=ids, position_ids=ids + 1, use_cache=False)


def _move(model: torch.nn.Module, device: torch.device) -> None:
    """As `model.to`, which fake tensors do not take: parameters and buffers, and what is shared stays so."""
    moved: dict[torch.Tensor, torch.Tensor] = {}
    for module in model.modules():
        for kept in (module._parameters, module._buffers):  # noqa: SLF001 (what Module.to goes through)
            for name, tensor in kept.items():
                if tensor is None:
                    continue
                if tensor not in moved:
                    own = tensor.detach().to(device)
                    is_parameter = isinstance(tensor, torch.nn.Parameter)
                    moved[tensor] = torch.nn.Parameter(own, False) if is_parameter else own
                kept[name] = moved[tensor]  # type: ignore[assignment]


def _picks_by_mask(indices: Iterable[torch.Tensor | None]) -> bool:
    return any(one is not None and one.dtype in (torch.bool, torch.uint8) for one in indices)


def _tensors(value: Any) -> list[torch.Tensor]:
    return [one for one in tree_leaves(value) if isinstance(one, torch.Tensor)]


def _is_on_device(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.device.type != "cpu"
