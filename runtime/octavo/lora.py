"""LoRA adapters of `LLM`, by vLLM's names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from octavo.errors import InvalidConfigurationError, InvalidParameterError
from octavo.llm_inputs import one_each

if TYPE_CHECKING:
    from octavo.engine.core import EngineCore

_MOST_ID = 2**63 - 1  # it travels in 64 bits


@dataclass(frozen=True, slots=True)
class LoRARequest:
    """An adapter that prompts run with. Raises `InvalidParameterError` for a value of another kind.

    Args:
        lora_name: What a person calls it.
        lora_int_id: Above 0; the same for the same adapter, and for no other.
        lora_path: Folder with adapter_config.json and adapter_model.safetensors, as PEFT saves them.
    """

    lora_name: str
    lora_int_id: int
    lora_path: str

    def __post_init__(self) -> None:
        for name in ("lora_name", "lora_path"):
            value: object = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise InvalidParameterError(name, f"{name} is {value!r:.80}; it must be a text.")
        number: object = self.lora_int_id
        if not isinstance(number, int) or isinstance(number, bool) or not 0 < number <= _MOST_ID:
            raise InvalidParameterError(
                "lora_int_id",
                f"lora_int_id is {number!r:.80}; it must be an integer in [1, {_MOST_ID}].",
            )


Adapters = LoRARequest | Sequence[LoRARequest | None] | None
"""For all prompts, or one each."""


class LoadedAdapters:
    """The adapters that an `LLM` was called with; of those that a call does not name, the least recently used
    one makes room where `max_cpu_loras` are held. One that comes back is read again."""

    def __init__(self) -> None:
        self._by_id: dict[int, LoRARequest] = {}
        self._held: dict[int, None] = {}  # the least recently used first

    def ids_of(self, given: Adapters, count: int, core: EngineCore) -> list[int]:
        """Of each of `count` prompts, its adapter's id, or 0; what is new is read.

        Args:
            given: For all prompts, or one each.

        Raises:
            InvalidParameterError: As `adapter_of_each`, or an id was another adapter's before.
            OctavoError: As `EngineAdapters.load`.
        """
        requests = adapter_of_each(given, count)
        named = {request.lora_int_id for request in requests if request is not None}
        for request in requests:
            if request is not None:
                self._load(request, core, named)
        return [0 if request is None else request.lora_int_id for request in requests]

    def _load(self, request: LoRARequest, core: EngineCore, named: Collection[int]) -> None:
        number = request.lora_int_id
        known = self._by_id.get(number)
        # Also of one that went: the prefix cache knows the number.
        if known is not None and known != request:
            raise InvalidParameterError(
                "lora_request",
                f"lora_int_id {request.lora_int_id} is {known.lora_name!r} ({known.lora_path}) already, and "
                f"not {request.lora_name!r} ({request.lora_path}). Use a new number.",
            )
        if number not in self._held:
            self._make_room(core, named)
            core.adapters.load(number, request.lora_path)
            self._by_id[number] = request
        self._held.pop(number, None)
        self._held[number] = None

    def _make_room(self, core: EngineCore, named: Collection[int]) -> None:
        if not core.adapters.is_full:
            return
        oldest = next((number for number in self._held if number not in named), None)
        if oldest is None:
            raise InvalidConfigurationError(
                f"lora_request holds {len(named)} adapters, and max_cpu_loras is {len(self._held)}. Raise it "
                "or give fewer in one call."
            )
        core.unload_adapter(oldest)
        del self._held[oldest]


def adapter_of_each(given: Adapters, count: int) -> list[LoRARequest | None]:
    """`given` as one for each of `count` prompts. Raises `InvalidParameterError` when it is of another kind
    or number."""
    found: list[LoRARequest | None] = []
    for request in one_each("lora_request", given, object, count):
        if request is not None and not isinstance(request, LoRARequest):
            raise InvalidParameterError(
                "lora_request",
                f"lora_request holds {request!r:.80}; it must be a LoRARequest, or None.",
            )
        found.append(request)
    return found
